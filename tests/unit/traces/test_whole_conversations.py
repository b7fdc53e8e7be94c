"""Nothing that was said is left out without a word: it is read, or the file is refused by the name of its part."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.traces import chat, foreign, put

from capvec.errors import UsageError
from capvec.traces import read_traces

pytestmark = pytest.mark.unit

ASKED = {"role": "user", "content": "Go."}
SAID = {"role": "assistant", "content": "Hi."}
AFTER = {"messages": [ASKED, SAID, ASKED]}
"""A conversation that ends with the user."""


def contents(path, value, said=None):
    (trace,) = read_traces(put(path / "a.json", value), None, said)
    return [message["content"] for message in trace.messages]


def refused(path, value, named):
    with pytest.raises(UsageError, match=r"a\.json") as refusal:
        read_traces(put(path / "a.json", value))
    assert named in str(refusal.value)


# ------------------------------------------------------------------------------------------------ replies of a request


def choices(count):
    return [{"index": number, "message": {**SAID, "content": f"Hi {number}."}} for number in range(count)]


@pytest.mark.parametrize("count", [0, 2, 3])
@pytest.mark.parametrize(
    ("wrapped", "key"),
    [
        (lambda choices: {**AFTER, "response": {"choices": choices}}, "response.choices"),
        (lambda choices: {**AFTER, "completion": {"choices": choices}}, "completion.choices"),
        (lambda choices: {**chat(), "response": {"choices": choices}}, "response.choices"),
        (
            lambda choices: [
                {"source": "user", "action": "message", "args": {"content": "Go."}},
                {"source": "agent", "action": "run", "tool_call_metadata": {"model_response": {"choices": choices}}},
            ],
            "events[1].choices",
        ),
    ],
    ids=["response", "completion", "after a reply", "openhands"],
)
def test_a_response_of_several_choices_is_refused_by_their_number(tmp_path, wrapped, key, count):
    refused(tmp_path, wrapped(choices(count)), f"`{key}` has {count} choices")
    assert contents(tmp_path, wrapped(choices(1)))[-1].endswith("Hi 0.")


@pytest.mark.parametrize(
    "beside",
    [
        {"response": {"choices": [{"message": SAID}]}},
        {"choices": [{"message": SAID}]},
        {"response": SAID},
        {"response": {"type": "message", "role": "assistant", "content": [{"type": "text", "text": "Hi."}]}},
        {"response": {"object": "response", "output": [{"type": "message", **SAID}]}},
        {"response": {"model": "m", "message": SAID, "done": True}},
        {"response": "Hi."},
        {"completion": "Hi."},
        {"completion": [SAID]},
    ],
)
def test_a_reply_beside_the_messages_of_a_request_is_read(tmp_path, beside):
    assert contents(tmp_path, AFTER | beside) == ["Go.", "Hi.", "Go.", "Hi."]


@pytest.mark.parametrize(
    ("beside", "key"),
    [
        ({"response": {"candidates": [{"content": {"parts": [{"text": "Hi."}]}}]}}, "response"),
        ({"response": {"choices": [{"text": "Hi."}]}}, "response.choices[0].message"),
        ({"responses": ["Hi.", "Ho."]}, "responses"),
        ({"completions": [{"text": "Hi."}]}, "completions"),
        ({"candidates": [[SAID], [SAID]]}, "candidates"),
        ({"choices": choices(2)}, "choices"),
    ],
)
def test_a_reply_in_another_form_is_refused_by_its_key(tmp_path, beside, key):
    refused(tmp_path, AFTER | beside, f"`{key}`")


@pytest.mark.parametrize(
    "beside",
    [{"response": {"status": 200}}, {"response": "the answer"}, {"choices": ["A", "B"]}, {"response": SAID}, {}],
)
def test_what_stands_beside_a_whole_conversation_is_no_reply(tmp_path, beside):
    assert contents(tmp_path, {"messages": [ASKED, SAID], **beside}) == ["Go.", "Hi."]


def test_of_two_conversations_the_user_chooses(tmp_path):
    other = [ASKED, {**SAID, "content": "Ho."}]
    for beside in (other, json.dumps(other)):
        two = {"messages": [ASKED, SAID], "conversation": beside}
        refused(tmp_path, two, "`messages` and `conversation` have conversations that differ")
        (trace,) = read_traces(put(tmp_path / "a.json", two), {"messages": "conversation"})
        assert trace.messages[-1]["content"] == "Ho."
    for beside in ([ASKED, SAID], "text", [1]):
        assert contents(tmp_path, {"messages": [ASKED, SAID], "conversation": beside}) == ["Go.", "Hi."]


@pytest.mark.parametrize("key", ["system", "system_prompt"])
def test_a_system_prompt_beside_messages_that_have_none_is_read(tmp_path, key):
    assert contents(tmp_path, {"messages": [ASKED, SAID], key: "Rules."}) == ["Rules.", "Go.", "Hi."]
    ruled = [{"role": "system", "content": "Rules, filled in."}, ASKED, SAID]
    for template in ("Rules, filled in.", "filled", "Rules, {{how}}.", "{a}, {b} in."):
        assert contents(tmp_path, {"messages": ruled, key: template}) == ["Rules, filled in.", "Go.", "Hi."]
    refused(
        tmp_path, {"messages": ruled, key: "Rules for {{whom}}."}, f"the first message and `{key}` have system prompts"
    )


def test_two_system_prompts_that_differ_are_refused(tmp_path):
    two = {"messages": [ASKED, SAID], "system": "Rules.", "system_prompt": "Laws."}
    refused(tmp_path, two, "`system` and `system_prompt` have system prompts that differ")
    assert contents(tmp_path, two | {"system_prompt": "Rules."})[0] == "Rules."
    refused(tmp_path, two | {"messages": [{"role": "developer", "content": "Laws."}, ASKED, SAID]}, "`system`")


@pytest.mark.parametrize("other", [{"completion": "Ho."}, {"choices": choices(1)}, {"responses": [SAID, SAID]}])
def test_two_replies_to_one_request_are_refused(tmp_path, other):
    refused(tmp_path, AFTER | {"response": "Hi."} | other, f"`{next(iter(other))}`")
    assert contents(tmp_path, AFTER | {"response": "Hi.", "completion": [SAID]})[-1] == "Hi."


@pytest.mark.parametrize("reply", ["Hi.", SAID, [SAID], {"from": "gpt", "value": "Hi."}])
@pytest.mark.parametrize(
    "key", ["output", "answer", "message", "reply", "chosen", "model_output", "finalAnswer", "prediction", "assistant"]
)
def test_what_may_be_the_reply_to_a_conversation_that_ends_with_the_user_is_refused_by_its_key(tmp_path, key, reply):
    refused(tmp_path, AFTER | {key: reply, "reward": 1}, f"`{key}`")


def test_any_text_beside_a_conversation_that_ends_with_the_user_may_be_its_reply(tmp_path):
    refused(tmp_path, AFTER | {"fazit": "I have counted the files, and there are two of them."}, "`fazit`")
    refused(tmp_path, AFTER | {"last": SAID}, "`last`")


def test_what_is_about_a_run_is_no_reply_to_it(tmp_path):
    said = "I have counted the files, and there are two of them."
    about = {
        "problem_statement": said, "generated_patch": said, "eval_logs": said, "exit_status": "done", "split": "train",
        "expected_output": "2", "reference_answer": "2", "response_model": "gpt", "generated_at": "2026-11-27 10:00",
        "repo": "x", "tools": [{"name": "bash", "description": said}], "metadata": {"answer": said}, "rejected": "Ho.",
        "output_tokens": 3, "completion_id": "c", "error": said, "fazit": "two", "output": "",
    }  # fmt: skip
    assert contents(tmp_path, AFTER | about) == ["Go.", "Hi.", "Go."]


@pytest.mark.parametrize("key", ["turns", "history", "dialogue", "followup", "input", "chosen"])
def test_messages_beside_those_that_are_read_are_a_part_of_them(tmp_path, key):
    talk = [ASKED, SAID, ASKED, SAID]
    other = [ASKED, {**SAID, "content": "Ho."}]
    for part in (talk, talk[:2], talk[3:], {"messages": talk[1:]}):
        assert contents(tmp_path, {"messages": talk, key: part}) == ["Go.", "Hi.", "Go.", "Hi."]
    for beside in (other, {"messages": other}):
        refused(tmp_path, {"messages": talk, key: beside}, f"`messages` and `{key}` have conversations that differ")
        (trace,) = read_traces(tmp_path / "a.json", {"messages": "messages"})
        assert len(trace.messages) == 4
    for about in ("rejected", "metadata", "few_shots", "judge_messages"):
        assert len(contents(tmp_path, {"messages": talk, about: other})) == 4


@pytest.mark.parametrize("field", ["session_id", "conversation_id", "task_id", "instance_id", "reward", "resolved"])
def test_messages_of_two_runs_are_not_one_conversation(tmp_path, field):
    runs = [{**message, field: number} for number in (0, 1) for message in (ASKED, SAID)]
    path = tmp_path / "a.jsonl"
    for talk in (runs, runs[1:]):
        path.write_text("\n".join(map(json.dumps, talk)))
        with pytest.raises(UsageError, match=rf"a\.jsonl: has messages whose `{field}` is 0 and others .* is 1"):
            read_traces(path)


def test_messages_of_two_sessions_in_one_object_are_refused(tmp_path):
    talk = [{**message, "thread_id": number} for number in (1, 2) for message in (ASKED, SAID)]
    refused(tmp_path, {"messages": talk}, "has messages whose `thread_id` is 1 and others whose `thread_id` is 2")
    assert len(contents(tmp_path, {"messages": [{**message, "score": 0.5} for message in talk[:2]]})) == 2


def test_what_every_message_of_a_run_has_alike_is_of_the_run(tmp_path):
    (trace,) = read_traces(put(tmp_path / "a.json", [{**one, "task_id": "t", "reward": 0} for one in (ASKED, SAID)]))
    assert (trace.task, trace.reward) == ("t", 0.0)
    (trace,) = read_traces(put(tmp_path / "a.json", [ASKED, {**SAID, "task_id": "t", "score": 0.5}]))
    assert (trace.task, trace.reward) == ("unknown", None)


# ------------------------------------------------------------------------------------------------ parts of a message

CALL = {"name": "bash", "args": {"command": "ls"}}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("toolInvocations", [{"state": "result", "toolName": "bash", "args": {}, "result": "a"}]),
        ("toolCalls", [CALL]),
        ("tool_call", CALL),
        ("tool_uses", [CALL]),
        ("functionCalls", [CALL]),
        ("invalid_tool_calls", [CALL]),
        ("actions", [{"command": "ls"}]),
        ("action", "ls"),
        ("code", "print()"),
        ("output", "real"),
        ("stdout", "real"),
        ("fazit", ["two"]),
        ("fazit", "I have counted the files, and there are two of them."),
    ],
)
@pytest.mark.parametrize("content", ["", "Hi."])
def test_what_a_message_has_under_a_key_that_is_not_known_is_refused_by_it(tmp_path, key, value, content):
    for who in (ASKED, SAID):
        talk = [ASKED, who | {"content": content, key: value}, SAID]
        refused(tmp_path, talk, f"`messages[1].{key}` holds what capvec does not read")
    assert contents(tmp_path, [ASKED, SAID | {"content": content, key: type(value)()}])


unknown = st.text("bcdfghjk", min_size=4)
"""Keys of no known word."""
longer = st.lists(st.text("lmnop", min_size=1, max_size=4), min_size=9, max_size=12).map(" ".join)
nested = st.recursive(
    longer,
    lambda inner: st.lists(inner, min_size=1, max_size=2) | st.dictionaries(unknown, inner, min_size=1, max_size=2),
)


@given(key=unknown, value=nested, place=st.sampled_from(["message", "part", "call", "step"]))
def test_text_under_any_key_that_is_not_known_refuses_the_file_by_its_place(tmp_path_factory, key, value, place):
    path, more = tmp_path_factory.getbasetemp(), {key: value}
    part = {"type": "text", "text": "Hi."} | (more if place == "part" else {})
    call = {"name": "bash", "arguments": {}} | (more if place == "call" else {})
    reply = {"role": "assistant", "content": [part], "tool_calls": [call]} | (more if place == "message" else {})
    run = foreign(steps=[*foreign()["steps"], {"source": "agent", "message": "Hi."} | more])
    refused(path, run if place == "step" else [ASKED, reply], f".{key}` holds what capvec does not read")


def test_calls_that_langchain_keeps_beside_the_message_are_refused_unless_they_are_its_calls(tmp_path):
    calls = [{"id": "1", "type": "function", "function": {"name": "bash", "arguments": '{"command": "ls"}'}}]
    kept = SAID | {"additional_kwargs": {"tool_calls": calls}}
    refused(tmp_path, [ASKED, kept], "`messages[1].additional_kwargs.tool_calls`")
    assert "<tool_call>" in contents(tmp_path, [ASKED, kept | {"tool_calls": calls}])[1]
    assert contents(tmp_path, [ASKED, SAID | {"additional_kwargs": {"refusal": None, "tool_calls": []}}])[1] == "Hi."


def test_what_is_about_a_message_or_repeats_it_is_left_out(tmp_path):
    about = {
        "id": "m", "createdAt": "2026-11-27 10:00:00", "response_metadata": {"model": "m"}, "usage": {"kind": "x"},
        "reasoning_content": "Hm.", "thinking_blocks": [{"thinking": "Hm."}], "thought": "Hm.", "sender": "Ann Lee",
        "provider_specific_fields": {"x": "y"}, "cache_control": {"type": "ephemeral"}, "tool_call_id": "c",
        "tool_call_ids": ["c"], "message_type": "action", "logprobs": [{"token": "Hi"}], "token_ids": [1, 2],
        "extra_content": {"google": {"thought_signature": "x"}}, "parsed": {"greeting": "Hi."},
        "action": "Hi", "text": "Hi.", "country": "United States", "header": {"accept-language": "en"}, "fazit": 2,
    }  # fmt: skip
    assert contents(tmp_path, [ASKED, SAID | about])[1] == "Hi."


@pytest.mark.parametrize(
    ("part", "place"),
    [
        ({"type": "text", "text": "Hi.", "output": "lost"}, "content[0].output"),
        ({"type": "tool_use", "name": "bash", "input": {}, "result": "lost"}, "content[0].result"),
    ],
)
def test_what_a_part_has_beside_what_is_read_is_refused(tmp_path, part, place):
    refused(tmp_path, [ASKED, {"role": "assistant", "content": [part]}], f"`messages[1].{place}`")


def test_what_a_call_or_an_item_has_beside_what_is_read_is_refused(tmp_path):
    call = {"id": "1", "function": {"name": "bash", "arguments": "{}"}, "result": "lost"}
    refused(tmp_path, [ASKED, {**SAID, "tool_calls": [call]}], "`messages[1].tool_calls[0].result`")
    two = {"name": "bash", "arguments": {"a": 1}, "input": {"a": 2}}
    refused(tmp_path, [ASKED, {**SAID, "tool_calls": [two]}], "key `messages[1].tool_calls[0]`")
    item = {"type": "function_call_output", "call_id": "1", "output": "", "content": "lost"}
    refused(tmp_path, [ASKED, SAID, item, SAID], "`messages[2].content`")


@pytest.mark.parametrize("who", [ASKED, SAID])
@pytest.mark.parametrize("key", ["audio", "video", "attachments", "choices", "candidates", "replies", "children"])
def test_what_a_message_has_beside_its_content_and_calls_is_refused_by_its_key(tmp_path, who, key):
    index = 0 if who is ASKED else 1
    talk = [ASKED, SAID]
    for given_ in ([{"id": "x"}], {"data": ""}):
        talk[index] = {**who, key: given_}
        refused(tmp_path, talk, f"`messages[{index}].{key}` holds what capvec does not read")
    talk[index] = {**who, key: []}
    assert contents(tmp_path, talk) == ["Go.", "Hi."]


def test_images_beside_a_users_text_are_named_as_those_among_its_parts(tmp_path):
    assert contents(tmp_path, [{**ASKED, "images": ["aGk=", "aGk="]}, SAID])[0] == "Go.\n[image]\n[image]"


words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="<[◁"), min_size=1, max_size=20)
keys = st.lists(st.sampled_from(["content", "value", "text"]), min_size=2, max_size=3, unique=True)


@given(said=words, refusal=words)
def test_a_refusal_beside_a_text_is_a_part_of_the_reply(tmp_path_factory, said, refusal):
    reply = {**SAID, "content": said, "refusal": refusal}
    told = said if said == refusal else f"{said}\n{refusal}"
    assert contents(tmp_path_factory.getbasetemp(), [ASKED, reply])[1] == told


@given(keys=keys, texts=st.lists(words, min_size=3, max_size=3))
def test_a_message_with_two_contents_is_read_only_if_they_are_alike(tmp_path_factory, keys, texts):
    path, reply = tmp_path_factory.getbasetemp(), {"role": "assistant"}
    assert contents(path, [ASKED, reply | dict.fromkeys(keys, texts[0])])[1] == texts[0]
    unlike = dict(zip(keys, texts, strict=False))
    if len(set(unlike.values())) > 1:
        refused(path, [ASKED, reply | unlike], "`messages[1]` has one content under")


def test_parts_of_ai_sdk_are_the_content(tmp_path):
    parts = [{"type": "text", "text": "Hi."}]
    for content in ("", None, "Hi."):
        assert contents(tmp_path, [ASKED, {"role": "assistant", "content": content, "parts": parts}])[1] == "Hi."
    for content in ("", "Hi."):
        reply = {"role": "assistant", "content": content, "parts": [*parts, {"type": "tool-invocation"}]}
        refused(tmp_path, [ASKED, reply], "tool-invocation")


@pytest.mark.parametrize("part", [{"type": "text", "content": "Hi."}, {"type": "refusal", "text": "No."}])
def test_a_text_under_the_key_of_another_part_is_refused(tmp_path, part):
    refused(tmp_path, [ASKED, {"role": "assistant", "content": [part]}], "key `messages[1].content[0].")
    assert contents(tmp_path, [ASKED, {"role": "assistant", "content": [{"type": "text", "text": None}]}])[1] == ""


@pytest.mark.parametrize("key", ["arguments", "input", "args", "parameters"])
def test_the_arguments_of_a_call_are_read_under_each_name_that_apis_have_for_them(tmp_path, key):
    call, told = {"name": "bash", key: {"command": "ls"}}, '{"name": "bash", "arguments": {"command": "ls"}}'
    for reply in (
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": call}]},
        {"role": "assistant", "content": None, "function_call": call},
        {"from": "function_call", "value": json.dumps(call)},
    ):
        assert contents(tmp_path, [ASKED, reply])[1] == f"<tool_call>{told}</tool_call>"


def test_a_call_without_arguments_or_with_more_than_them_loses_nothing(tmp_path):
    bare = {"role": "assistant", "content": "", "tool_calls": [{"name": "bash", "kwargs": {"command": "ls"}}]}
    refused(tmp_path, [ASKED, bare], "key `messages[1].tool_calls[0].arguments` is None")
    refused(tmp_path, [ASKED, {**SAID, "function_call": "ls"}], "key `messages[1].function_call[0]` is 'ls'")
    more = json.dumps({"name": "bash", "arguments": {}, "thought": "Hm."})
    assert contents(tmp_path, [ASKED, {"from": "function_call", "value": more}])[1] == more


def test_items_of_responses_lose_nothing(tmp_path):
    both = {"type": "computer_call", "action": {"type": "click"}, "actions": [{"type": "click"}, {"type": "wait"}]}
    refused(tmp_path, [ASKED, both], "key `messages[1].actions`")
    search = {"type": "web_search_call", "action": {"query": "x"}, "results": [{"url": "u", "text": "t"}]}
    refused(tmp_path, [ASKED, search], "key `messages[1].results`")
    called = {"type": "mcp_call", "name": "find", "arguments": "{}", "output": "half", "error": "broke off"}
    assert contents(tmp_path, [ASKED, called])[-1] == "half\n\nbroke off"


def test_a_template_that_is_stored_elsewhere_is_refused(tmp_path):
    stored = {"input": "Go.", "output": [SAID], "prompt": {"id": "pmpt_1"}}
    refused(tmp_path, stored, "`prompt` names a template")
    assert contents(tmp_path, {**stored, "instructions": "Rules."})[0] == "Rules."


# ------------------------------------------------------------------------------------------------ agents


def test_subagents_within_a_trajectory_are_said_to_be_passed_over(tmp_path):
    said = []
    run = foreign(subagent_trajectories=[foreign(trajectory_id="a"), foreign(trajectory_id="b")])
    assert contents(tmp_path, run, said.append) == contents(tmp_path, foreign())
    assert said[0].endswith("trajectories of subagents (2: a.json (subagent 1), a.json (subagent 2))")


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"tool_calls": [{"function_name": "bash", "input": {"command": "ls"}}]}, "tool_calls[].input"),
        ({"tool_calls": [{"function_name": "bash"}]}, "tool_calls[].arguments"),
        ({"observation": {"content": "a b"}}, "observation.content"),
        ({"observation": {"results": [{"output": "a b"}]}}, "observation.results[].output"),
        ({"actions": [{"command": "ls"}], "tool_calls": None}, "actions"),
        ({"result": "a b"}, "result"),
    ],
)
def test_a_part_of_a_step_of_atif_that_is_not_known_is_refused(tmp_path, change, place):
    run = foreign()
    run["steps"][1] |= change
    refused(tmp_path, run, f"`steps[1].{place}`")


def test_a_call_of_atif_without_a_name_is_refused(tmp_path):
    run = foreign()
    del run["steps"][1]["tool_calls"][0]["function_name"]
    refused(tmp_path, run, "key `steps[1].tool_calls[].function_name` is None")


def observed(**observation):
    call = {"id": "c", "function": {"name": "bash", "arguments": "{}"}}
    return [
        {"kind": "MessageEvent", "source": "user", "llm_message": ASKED},
        {"kind": "ActionEvent", "source": "agent", "thought": [], "tool_call": call},
        {"kind": "ObservationEvent", "source": "environment", "observation": observation},
    ]


@pytest.mark.parametrize(
    ("observation", "told"),
    [
        ({"content": [{"type": "text", "text": "a"}], "is_error": False}, "a"),
        ({"output": "a", "error": "broke off"}, "a\nbroke off"),
        ({"output": "a", "error": True}, "a"),
        ({"output": "", "error": "broke off"}, "broke off"),
        ({"content": [], "screenshot_data": "aGk="}, "[image]"),
        ({"message": "Done."}, "Done."),
        ({"content": "a\nb", "output": "b"}, "a\nb"),
    ],
)
def test_what_the_model_read_of_an_observation_is_kept(tmp_path, observation, told):
    assert contents(tmp_path, observed(**observation))[-1] == told


def test_an_observation_without_a_text_that_is_known_or_with_two_is_refused(tmp_path):
    refused(tmp_path, observed(content="a", output="b"), "`events[2].observation.output`")
    refused(tmp_path, observed(kind="GlobObservation", files=["a.py"]), "key `events[2].observation`")


def test_images_of_an_old_observation_are_named(tmp_path):
    events = [
        {"source": "user", "action": "message", "args": {"content": "Go."}},
        {"source": "agent", "action": "run_ipython", "args": {"code": "plot()"}},
        {"source": "agent", "observation": "run_ipython", "content": "drawn", "extras": {"image_urls": ["data:"]}},
    ]
    assert contents(tmp_path, events)[-1] == "drawn\n[image]"


# ------------------------------------------------------------------------------------------------ keys that stand twice

TWICE = '{"task": "t", "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", KEY}]}'
"""A run whose reply has another key, on one line."""


@pytest.mark.parametrize("lines", [1, 3])
def test_a_key_that_stands_twice_in_a_trace_refuses_the_file(tmp_path, lines):
    whole = [TWICE.replace("KEY", '"id": 1')] * lines
    (tmp_path / "a.jsonl").write_text("\n".join(whole))
    assert len(read_traces(tmp_path)) == lines
    (tmp_path / "a.jsonl").write_text("\n".join([*whole[1:], TWICE.replace("KEY", '"content": "c"')]))
    with pytest.raises(UsageError, match=r"a\.jsonl.*: the key 'content' stands twice in one object"):
        read_traces(tmp_path)


def test_a_key_that_stands_twice_in_another_file_is_a_reason_to_pass_it_over(tmp_path):
    put(tmp_path / "a.json", chat())
    (tmp_path / "package.json").write_text('{"name": "x", "name": "y"}')
    said = []
    assert len(read_traces(tmp_path, None, said.append)) == 1
    assert "the key 'name' stands twice in one object, so that one value would be lost (1: package.json)" in said[0]


def test_a_reward_that_stands_twice_in_harbors_result_is_refused(tmp_path):
    put(tmp_path / "agent" / "trajectory.json", foreign())
    (tmp_path / "result.json").write_text(
        '{"task_name": "t", "verifier_result": {"rewards": {"reward": 1, "reward": 0}}}'
    )
    with pytest.raises(UsageError, match=r"result\.json: not JSON \(the key 'reward' stands twice"):
        read_traces(tmp_path)
