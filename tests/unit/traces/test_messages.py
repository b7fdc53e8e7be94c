"""The messages of a chat in every form: text and calls are kept, and a part that is not known is refused by name."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.traces import chat, foreign, lines, put

from capvec.errors import UsageError
from capvec.traces import read_traces

pytestmark = pytest.mark.unit

ASKED = {"role": "user", "content": "Go."}
KNOWN = {
    "text", "input_text", "output_text", "refusal", "image", "image_url", "input_image", "computer_screenshot",
    "thinking", "redacted_thinking", "reasoning", "reasoning_text", "tool_use", "tool_result",
}  # fmt: skip


def read(folder, messages):
    (trace,) = read_traces(put(folder / "a.json", chat(messages=messages)))
    return trace


def called(name, arguments):
    return f"<tool_call>{json.dumps({'name': name, 'arguments': arguments}, ensure_ascii=False)}</tool_call>"


def test_anthropics_parts_are_read(tmp_path):
    trace = read(
        tmp_path,
        [
            {"role": "user", "content": [{"type": "text", "text": "Do it"}, {"type": "image", "source": {}}]},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "Hm.", "signature": "x"},
                    {"type": "text", "text": "I list."},
                    {"type": "tool_use", "id": "1", "name": "bash", "input": {"command": "ls -la /app"}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "1", "content": [{"type": "text", "text": "a.txt"}]},
                    {"type": "tool_result", "tool_use_id": "2", "content": "b.txt"},
                    {"type": "tool_result", "tool_use_id": "3"},
                ],
            },
        ],
    )
    assert [message["content"] for message in trace.messages] == [
        "Do it\n[image]",
        "I list.\n" + called("bash", {"command": "ls -la /app"}),
        "a.txt\nb.txt\n",
    ]


def test_the_items_of_one_response_are_one_reply(tmp_path):
    items = [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Do it"}]},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I list."}]},
        {"type": "function_call", "call_id": "1", "name": "bash", "arguments": '{"command": "ls"}'},
        {"type": "custom_tool_call", "call_id": "2", "name": "patch", "input": "*** 1"},
        {"type": "function_call_output", "call_id": "1", "output": "a"},
        {"type": "custom_tool_call_output", "call_id": "2", "output": [{"type": "input_text", "text": "b"}]},
        {"type": "local_shell_call", "action": {"type": "exec", "command": ["ls"]}},
        {"type": "local_shell_call_output", "output": "c"},
        {"type": "shell_call", "action": {"commands": ["ls"]}},
        {
            "type": "shell_call_output",
            "output": [{"stdout": "d", "stderr": "e", "outcome": {"type": "exit", "exit_code": 2}}],
        },
        {"type": "mcp_call", "name": "find", "arguments": "{}", "output": "f"},
        {"type": "computer_call", "action": {"type": "click"}},
        {"type": "computer_call_output", "output": {"type": "computer_screenshot", "image_url": "data:"}},
    ]
    trace = read(tmp_path, items)
    assert [message["content"] for message in trace.messages] == [
        "Do it",
        "\n".join(["I list.", called("bash", {"command": "ls"}), called("patch", "*** 1")]),
        "a\n\nb",
        called("local_shell", {"type": "exec", "command": ["ls"]}),
        "c",
        called("shell", {"commands": ["ls"]}),
        "d\ne\n[exit code 2]",
        called("find", {}),
        "f",
        called("computer", {"type": "click"}),
        "[image]",
    ]
    assert trace.steps == 5


def test_openais_older_and_newer_calls_and_refusals_are_read(tmp_path):
    custom = {"id": "1", "type": "custom", "custom": {"name": "patch", "input": "x"}}
    trace = read(
        tmp_path,
        [
            ASKED,
            {"role": "assistant", "content": None, "function_call": {"name": "ls", "arguments": "{}"}},
            {"role": "function", "name": "ls", "content": "a"},
            {"role": "assistant", "content": None, "tool_calls": [custom]},
            {"role": "tool", "content": "ok"},
            {"role": "assistant", "content": None, "refusal": "No."},
        ],
    )
    replies = [message["content"] for message in trace.messages if message["role"] == "assistant"]
    assert replies == [called("ls", {}), called("patch", "x"), "No."]


def test_the_log_of_one_request_has_its_system_prompt_and_its_reply(tmp_path):
    message = {"role": "assistant", "content": "Hi."}
    for response in ({"choices": [{"message": message}]}, {"type": "message", **message}):
        request = {"system": "Rules.", "messages": [ASKED], "response": response}
        (trace,) = read_traces(put(tmp_path / "a.json", request))
        assert [said["content"] for said in trace.messages] == ["Rules.", "Go.", "Hi."]


@pytest.mark.parametrize(
    ("entry", "named"),
    [
        ({"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}, "input_audio"),
        ({"role": "user", "content": [{"text": "without a type"}]}, "messages[1].content[0]"),
        ({"role": "user", "content": [{"type": "document", "source": {}}]}, "document"),
        ({"role": "user", "content": [{"type": "tool_result", "content": [{"type": "video"}]}]}, "video"),
        ({"role": "user", "content": [{"type": "tool_use", "name": "a", "input": {}}]}, "tool_use"),
        ({"role": "assistant", "content": [{"type": "tool_result", "content": "a"}]}, "tool_result"),
        ({"role": "assistant", "content": [{"type": "server_tool_use", "name": "a", "input": {}}]}, "server_tool_use"),
        ({"type": "file_search_call", "queries": []}, "file_search_call"),
        ({"type": "item_reference", "id": "m"}, "item_reference"),
        ({"type": "function_call_output", "output": [{"type": "input_file"}]}, "input_file"),
        ({"type": ["x"]}, "messages[1]"),
    ],
)
def test_a_part_that_is_not_understood_is_refused_by_its_type(tmp_path, entry, named):
    with pytest.raises(UsageError, match=r"a\.json") as refusal:
        read(tmp_path, [ASKED, entry])
    assert named in str(refusal.value)


UNREAD = [
    "code_interpreter_call", "file_search_call", "image_generation_call", "item_reference", "compaction",
    "mcp_approval_request", "tool_search_call", "an_item_of_tomorrow",
]  # fmt: skip
SAID = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hi."}]}


@pytest.mark.parametrize("kind", UNREAD)
@pytest.mark.parametrize(
    "wrapped",
    [
        lambda item: [ASKED, item, SAID],
        lambda item: [item, SAID],
        lambda item: {"input": "Go.", "output": [item, SAID]},
        lambda item: {"input": [ASKED, item], "output": [SAID]},
        lambda item: {"input": [ASKED], "output": [item]},
        lambda item: {"responses_create_params": {"input": [item]}, "response": {"output": [SAID]}},
    ],
    ids=["list", "first of a list", "output", "input", "output alone", "rollout"],
)
def test_an_item_that_is_not_read_makes_no_conversation_invisible(tmp_path, kind, wrapped):
    """In a file of its own, and as a line among lines that are traces."""
    value = wrapped({"type": kind, "id": "i"})
    for folder in (put(tmp_path / "run" / "a.json", value).parent, lines(tmp_path / "a.jsonl", chat(), value)):
        with pytest.raises(UsageError, match=rf"a\.json.*has the type '{kind}', which capvec does not read"):
            read_traces(folder)


def test_a_list_without_any_message_is_still_passed_over(tmp_path):
    put(tmp_path / "log.json", [{"type": "session"}, {"type": "text", "text": "x"}])
    put(tmp_path / "job.json", {"input": "a.txt", "output": [{"type": "file"}]})
    put(tmp_path / "a.json", chat())
    said = []
    assert len(read_traces(tmp_path, None, said.append)) == 1
    assert "JSON without a conversation (2: job.json, log.json)" in said[0]


THOUGHTS = {
    "whole": "<think>\nHm. `ls`?\n</think>\n\n",
    "empty": "<think></think>",
    "its end alone": "Hm.\n</think>\n",
    "of Mistral": "[THINK]Hm.[/THINK]",
    "of gpt-oss": "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>",
}


@pytest.mark.parametrize("thought", THOUGHTS.values(), ids=THOUGHTS)
@pytest.mark.parametrize(
    "wrapped",
    [
        lambda text: chat(messages=[ASKED, {"role": "assistant", "content": text}]),
        lambda text: chat(messages=[ASKED, {"role": "assistant", "content": [{"type": "text", "text": text}]}]),
        lambda text: {"conversations": [{"from": "human", "value": "Go."}, {"from": "gpt", "value": text}]},
        lambda text: {"input": "Go.", "output": [{**SAID, "content": [{"type": "output_text", "text": text}]}]},
        lambda text: foreign(
            steps=[{"source": "user", "message": "Go."}, {"source": "agent", "message": text}],
        ),
        lambda text: [
            {"source": "user", "action": "message", "args": {"content": "Go."}},
            {"source": "agent", "action": "message", "args": {"content": text}},
        ],
    ],
    ids=["chat", "parts", "sharegpt", "responses", "atif", "openhands"],
)
def test_a_thought_at_the_start_of_a_reply_is_left_out_in_every_format(tmp_path, wrapped, thought):
    (trace,) = read_traces(put(tmp_path / "a.json", wrapped(f"{thought}Two.")))
    assert trace.messages[-1] == {"role": "assistant", "content": "Two."}


def test_tags_that_are_no_thought_at_the_start_of_a_reply_stay(tmp_path):
    kept = ["Two. <think>no</think>", "<thought>I was asked for it.</thought> Two.", "  Two."]
    for text in kept:
        assert read(tmp_path, [ASKED, {"role": "assistant", "content": text}]).messages[-1]["content"] == text
    asked = {"role": "user", "content": "<think>mine</think> Go."}
    assert read(tmp_path, [asked, SAID]).messages[0]["content"] == asked["content"]


WRITTEN = {
    "a fence": "I write it:\n```python\nprint('''\n{tag}\n''')\n```\nand run it.",
    "a heredoc": "```bash\ncat > t <<'E'\n{tag}\nE\n```",
    "a fence in a heredoc": "```bash\ncat > t.md <<'E'\n```\n{tag}\n```\nE\n```",
    "tildes": "~~~~\n~~~\n{tag}\n~~~~",
    "a call": "<tool_call>\n<function=bash><parameter=command>\necho '\n{tag}\n'</parameter></function></tool_call>",
    "keystrokes": '{{"commands": [{{"keystrokes": "cat <<E\n{tag}\nE\n"}}]}}',
}


@pytest.mark.parametrize("tag", ["</think>", "[/THINK]", "</seed:think>", "◁/think▷"])
@pytest.mark.parametrize("written", WRITTEN.values(), ids=WRITTEN)
def test_a_tag_that_a_command_writes_ends_no_thought(tmp_path, written, tag):
    text = written.format(tag=tag)
    assert read(tmp_path, [ASKED, {"role": "assistant", "content": text}]).messages[-1]["content"] == text
    thought = f"First:\n```\nls\n```\nThen.\n{tag}\n"
    assert read(tmp_path, [ASKED, {"role": "assistant", "content": thought + "Two."}]).messages[-1]["content"] == "Two."


def test_a_call_of_gpt_oss_after_its_thought_stays(tmp_path):
    thought = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant"
    call = '<|channel|>commentary to=functions.f <|constrain|>json<|message|>{"a":1}<|call|>'
    for text in (call, f"{call}<|start|>assistant<|channel|>final<|message|>Two."):
        said = read(tmp_path, [ASKED, {"role": "assistant", "content": thought * 2 + text}])
        assert said.messages[-1]["content"] == text


@pytest.mark.parametrize("key", ["audio", "images"])
@pytest.mark.parametrize("content", [None, "Hi."])
def test_a_reply_that_is_no_text_is_refused_by_its_key(tmp_path, key, content):
    said = {"role": "assistant", "content": content}
    with pytest.raises(UsageError, match=rf"a\.json: `messages\[1\]\.{key}` holds what capvec does not read"):
        read(tmp_path, [ASKED, {**said, key: [{"id": "x"}]}])
    assert read(tmp_path, [ASKED, {**said, key: None}]).steps == 1


def test_a_refusal_beside_an_empty_text_is_the_reply(tmp_path):
    said = {"role": "assistant", "content": "", "refusal": "No."}
    assert read(tmp_path, [ASKED, said]).messages[-1]["content"] == "No."


def test_several_actions_of_a_computer_are_kept_and_a_call_of_nothing_is_refused(tmp_path):
    clicks = [{"type": "click"}, {"type": "type", "text": "x"}]
    for given_ in ({"actions": clicks}, {"action": None, "actions": clicks}):
        trace = read(tmp_path, [ASKED, {"type": "computer_call", **given_}])
        assert trace.messages[-1]["content"] == called("computer", clicks)
    for kind in ("computer_call", "local_shell_call", "shell_call"):
        with pytest.raises(UsageError, match=r"key `messages\[1\]\.action` is None"):
            read(tmp_path, [ASKED, {"type": kind}])


@pytest.mark.parametrize(
    "written",
    ['{"a": 1, "a": 2}', '{"n": 1e400}', '{"n": 0.1000000000000000055511}', '{"n": [{"b": 1, "b": 1}]}', "ls -la"],
)
def test_arguments_that_would_change_stay_the_text_that_was_written(tmp_path, written):
    call = {"function": {"name": "f", "arguments": written}}
    said = read(tmp_path, [ASKED, {"role": "assistant", "content": "", "tool_calls": [call]}]).messages[-1]
    assert said["content"] == called("f", written)
    call["function"]["arguments"] = '{"n": 1.10, "m": [1e5, -0.0]}'
    said = read(tmp_path, [ASKED, {"role": "assistant", "content": "", "tool_calls": [call]}]).messages[-1]
    assert said["content"] == called("f", {"n": 1.1, "m": [1e5, -0.0]})


@given(kind=st.text(max_size=12).filter(lambda kind: kind not in KNOWN), role=st.sampled_from(["user", "assistant"]))
def test_no_unknown_type_of_part_is_ever_read(tmp_path_factory, kind, role):
    message = {"role": role, "content": [{"type": kind, "text": "secret"}]}
    with pytest.raises(UsageError):
        read(tmp_path_factory.getbasetemp(), [ASKED, message, {"role": "assistant", "content": "x"}])


words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40).filter(
    lambda text: not any(tag in text.lower() for tag in ("think", "thought", "reasoning", "channel|"))
)
"""Texts without the tags of thoughts, which are left out of a reply."""
turns = st.lists(st.tuples(words, words, words), min_size=1, max_size=4)


def as_openai(turns):
    for number, (said, command, answer) in enumerate(turns):
        function = {"name": "bash", "arguments": json.dumps({"command": command})}
        yield {"role": "assistant", "content": said, "tool_calls": [{"id": str(number), "function": function}]}
        yield {"role": "tool", "tool_call_id": str(number), "content": answer}


def as_anthropic(turns):
    for number, (said, command, answer) in enumerate(turns):
        call = {"type": "tool_use", "id": str(number), "name": "bash", "input": {"command": command}}
        yield {"role": "assistant", "content": [{"type": "text", "text": said}, call]}
        yield {"role": "user", "content": [{"type": "tool_result", "tool_use_id": str(number), "content": answer}]}


def as_responses(turns):
    for number, (said, command, answer) in enumerate(turns):
        arguments = json.dumps({"command": command})
        yield {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": said}]}
        yield {"type": "function_call", "call_id": str(number), "name": "bash", "arguments": arguments}
        yield {"type": "function_call_output", "call_id": str(number), "output": answer}


def as_openhands(turns):
    yield {"id": 0, "source": "user", "action": "message", "args": {"content": "Go."}}
    for number, (said, command, answer) in enumerate(turns):
        call = {"function": {"name": "bash", "arguments": json.dumps({"command": command})}}
        made = {"id": f"r{number}", "choices": [{"message": {"content": said, "tool_calls": [call]}}]}
        about = {"tool_call_metadata": {"model_response": made}}
        yield {"source": "agent", "action": "run", "args": {"command": command, "thought": said}, **about}
        yield {"source": "agent", "observation": "run", "content": answer, "extras": {}, **about}


@settings(max_examples=25)
@given(turns=turns)
@pytest.mark.parametrize(
    "wrapped",
    [
        lambda turns: {"messages": [ASKED, *as_openai(turns)]},
        lambda turns: {"messages": [ASKED, *as_anthropic(turns)]},
        lambda turns: [ASKED, *as_responses(turns)],
        lambda turns: {"responses_create_params": {"input": "Go."}, "response": {"output": [*as_responses(turns)]}},
        lambda turns: {"history": [ASKED, *as_openai(turns)], "trajectory": [], "info": {}},
        lambda turns: {
            "messages": [ASKED, *as_openai(turns), {"role": "exit", "content": "p"}],
            "info": {"mini_version": "2"},
        },
        lambda turns: [*as_openhands(turns)],
    ],
    ids=["openai", "anthropic", "responses", "nemo-gym", "swe-agent", "mini-swe-agent", "openhands"],
)
def test_every_format_keeps_each_text_command_and_answer(tmp_path_factory, wrapped, turns):
    (trace,) = read_traces(put(tmp_path_factory.getbasetemp() / "any.json", wrapped(turns)))
    told = [
        text for said, command, answer in turns for text in (f"{said}\n{called('bash', {'command': command})}", answer)
    ]
    assert [message["content"] for message in trace.messages] == ["Go.", *told]
    assert trace.steps == len(turns)
