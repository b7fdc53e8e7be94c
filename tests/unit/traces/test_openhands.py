"""Runs of OpenHands, in the forms that its `events/serialization`, its evaluations and its SDK write."""

from __future__ import annotations

import pytest
from support.traces import lines, put

from capvec.errors import UsageError
from capvec.traces import read_traces

pytestmark = pytest.mark.unit


def response(number, said, *commands):
    calls = [
        {"id": f"c{number}", "function": {"name": "execute_bash", "arguments": f'{{"command": "{c}"}}'}}
        for c in commands
    ]
    message = {"content": said, "role": "assistant", "tool_calls": calls or None}
    made = {"id": f"r{number}", "model": "big", "choices": [{"message": message}]}
    return {"tool_call_metadata": {"function_name": "execute_bash", "tool_call_id": "c", "model_response": made}}


EVENTS = [
    {"id": 0, "source": "environment", "observation": "agent_state_changed", "content": "", "extras": {}},
    {"id": 1, "source": "agent", "action": "system", "args": {"content": "Rules.", "tools": []}},
    {"id": 2, "source": "user", "action": "message", "args": {"content": "Fix it.", "image_urls": ["data:"]}},
    {"id": 3, "source": "user", "action": "recall", "args": {"query": "Fix it."}},
    {"id": 4, "source": "environment", "observation": "recall", "content": "Added workspace context"},
    {"id": 5, "source": "agent", "action": "run", "args": {"command": "ls"}, **response(1, "I look.", "ls", "pwd")},
    {"id": 6, "source": "agent", "action": "run", "args": {"command": "pwd"}, **response(1, "I look.", "ls", "pwd")},
    {"id": 7, "source": "agent", "cause": 5, "observation": "run", "content": "a.py", "extras": {}},
    {"id": 8, "source": "agent", "cause": 6, "observation": "run", "content": "/app", "extras": {}},
    {"id": 9, "source": "agent", "action": "finish", "args": {"outputs": {}, "thought": "Done."}, "message": "Done."},
]
TOLD = [
    "Rules.",
    "Fix it.\n[image]",
    'I look.\n<tool_call>{"name": "execute_bash", "arguments": {"command": "ls"}}</tool_call>\n'
    '<tool_call>{"name": "execute_bash", "arguments": {"command": "pwd"}}</tool_call>',
    "a.py\n\n/app",
    "Done.",
]


@pytest.mark.parametrize("wrapped", [EVENTS, {"trajectory": EVENTS}, {"events": EVENTS}])
def test_events_become_messages_and_calls_of_one_response_one_reply(tmp_path, wrapped):
    (trace,) = read_traces(put(tmp_path / "run.json", wrapped))
    assert [message["content"] for message in trace.messages] == TOLD
    assert (trace.id, trace.task, trace.model, trace.reward, trace.steps) == ("run", "unknown", "big", None, 2)


def test_a_jsonl_of_events_is_one_run(tmp_path):
    (trace,) = read_traces(lines(tmp_path / "events.jsonl", *EVENTS))
    assert len(trace.messages) == 5


@pytest.mark.parametrize(
    ("verdict", "reward"),
    [
        ({"test_result": {"git_patch": "x"}}, None),
        ({"test_result": {"git_patch": "x", "report": {"resolved": True}}}, 1.0),
        ({"test_result": {"report": {"resolved": False, "error_eval": True}}}, None),
        ({"test_result": {"git_patch": ""}, "report": {"resolved": False}}, 0.0),
        ({"test_result": {"result": {"passed": 1, "status": "ok"}}}, 1.0),
        ({"test_result": {"result": False}}, 0.0),
        ({"test_result": {"score": 0.5}}, 0.5),
        ({"test_result": {}, "resolved": True}, 1.0),
        ({"test_result": {}, "success": False}, 0.0),
    ],
)
def test_an_evaluation_has_the_verdict(tmp_path, verdict, reward):
    metadata = {"llm_config": {"model": "openai/big"}}
    record = {"instance_id": "django-1", "history": EVENTS, "metadata": metadata, **verdict}
    (trace,) = read_traces(lines(tmp_path / "output.jsonl", record))
    assert (trace.id, trace.task, trace.model, trace.reward) == ("django-1", "django-1", "openai/big", reward)


def test_an_evaluation_that_broke_off_is_passed_over(tmp_path):
    broken = {"instance_id": "a", "history": None, "test_result": {}, "error": "timeout"}
    said = []
    assert (
        len(read_traces(lines(tmp_path / "output.jsonl", broken, {**broken, "history": EVENTS}), None, said.append))
        == 1
    )
    assert "an evaluation of OpenHands without events (1: output.jsonl, line 1)" in said[0]


def test_old_events_without_sources_and_in_pairs_are_read(tmp_path):
    asked = {"action": "message", "content": "Fix it.", "wait_for_response": False}
    ran = {"action": "run", "command": "ls", "thought": "I look.", "keep_prompt": True, "is_confirmed": "confirmed"}
    saw = {"observation": "run", "content": "a.py", "command": "ls", "exit_code": 0}
    cell = {"action": "run_ipython", "code": "1", "thought": ""}
    gave = {"observation": "run_ipython", "content": "1", "code": "1"}
    end = {"action": "finish", "outputs": {}, "thought": "Done."}
    told = [
        "Fix it.",
        'I look.\n<tool_call>{"name": "run", "arguments": {"command": "ls"}}</tool_call>',
        "a.py",
        '<tool_call>{"name": "run_ipython", "arguments": {"code": "1"}}</tool_call>',
        "1",
        "Done.",
    ]
    none = {"observation": "null", "content": ""}
    for history in ([asked, ran, saw, cell, gave, end], [[asked, none], [ran, saw], [cell, gave], [end, none]]):
        (trace,) = read_traces(lines(tmp_path / "output.jsonl", {"history": history, "success": True}))
        assert [message["content"] for message in trace.messages] == told
        assert trace.reward == 1.0


def sdk(*more):
    text = {"type": "text", "text": "Rules."}
    return [
        {"kind": "ConversationStateUpdateEvent", "source": "environment", "key": "stats", "value": {}},
        {"kind": "SystemPromptEvent", "source": "agent", "system_prompt": text, "tools": [], "dynamic_context": None},
        {
            "kind": "MessageEvent", "source": "user",
            "llm_message": {"role": "user", "content": [{"type": "text", "text": "Fix it."}]},
            "extended_content": [{"type": "text", "text": "More."}],
        },
        *(
            {
                "kind": "ActionEvent", "source": "agent", "thought": [{"type": "text", "text": said}] if said else [],
                "reasoning_content": "Hm.", "action": {"kind": "TerminalAction", "command": command},
                "tool_name": "terminal",
                "tool_call": {"id": "c", "name": "terminal", "arguments": f'{{"command": "{command}"}}'},
                "llm_response_id": "r1",
            }
            for said, command in (("I look.", "ls"), ("", "pwd"))
        ),
        {
            "kind": "ObservationEvent", "source": "environment", "tool_name": "terminal", "tool_call_id": "c",
            "observation": {"kind": "TerminalObservation", "content": [{"type": "text", "text": "a.py"}]},
        },
        {"kind": "AgentErrorEvent", "source": "agent", "tool_name": "terminal", "error": "no tool"},
        *more,
    ]  # fmt: skip


def test_events_of_the_sdk_are_read(tmp_path):
    (trace,) = read_traces(lines(tmp_path / "events.jsonl", *sdk()))
    assert [message["content"] for message in trace.messages] == [
        "Rules.",
        "Fix it.\n\nMore.",
        'I look.\n<tool_call>{"name": "terminal", "arguments": {"command": "ls"}}</tool_call>\n'
        '<tool_call>{"name": "terminal", "arguments": {"command": "pwd"}}</tool_call>',
        "a.py\n\nno tool",
    ]
    assert trace.steps == 1


@pytest.mark.parametrize(
    ("events", "named"),
    [
        ([*EVENTS, {"source": "agent", "action": "dance", "args": {}}], "dance"),
        ([*EVENTS, {"source": "agent", "observation": "weather", "content": "x"}], "weather"),
        (sdk({"kind": "ACPToolCallEvent", "source": "agent"}), "ACPToolCallEvent"),
        (
            sdk(
                {"kind": "MessageEvent", "source": "user", "llm_message": {"role": "user", "content": [{"type": "x"}]}}
            ),
            "'x'",
        ),
    ],
)
def test_an_event_that_is_not_known_is_refused_by_name(tmp_path, events, named):
    with pytest.raises(UsageError, match=named):
        read_traces(put(tmp_path / "a.json", events))


def test_events_with_a_file_each_are_the_run_of_their_folder(tmp_path):
    for event in EVENTS:
        put(tmp_path / "first" / "events" / f"{event['id']}.json", event)
        put(tmp_path / "second" / "events" / f"{event['id']}.json", event | {"timestamp": "2026-11-27T00:00:00"})
    for number, event in enumerate(sdk()):
        put(
            tmp_path / "third" / "events" / f"event-{number:05}-x.json",
            event | {"id": f"{number}", "timestamp": f"2026-{number}"},
        )
    put(tmp_path / "third" / "base_state.json", {"id": "third", "agent": {}})
    first, second, third = read_traces(tmp_path)
    assert [message["content"] for message in first.messages] == TOLD
    assert second.messages == first.messages
    assert third.messages[0]["content"] == "Rules."
    assert [trace.id for trace in (first, second, third)] == ["first", "second", "third"]


def test_a_file_that_only_has_the_form_of_an_event_is_passed_over(tmp_path):
    put(tmp_path / "workflow.json", {"action": "deploy"})
    put(tmp_path / "run.json", EVENTS)
    said = []
    assert len(read_traces(tmp_path, None, said.append)) == 1
    assert "JSON without a conversation (1: workflow.json)" in said[0]


def test_a_command_is_shown_with_the_lines_that_openhands_puts_after_its_output(tmp_path):
    about = {"exit_code": 2, "working_dir": "/w", "py_interpreter_path": "/p", "prefix": "", "suffix": "!"}
    shown = "out!\n[Current working directory: /w]\n[Python interpreter: /p]\n[Command finished with exit code 2]"
    asked = {"source": "user", "action": "message", "args": {"content": "Go."}}
    ran = {"source": "agent", "action": "run", "args": {"command": "x"}}
    for extras, told in (
        ({"metadata": about}, shown),
        ({"exit_code": 0, "command_id": 3}, "out\n[Command finished with exit code 0]"),
        ({"metadata": {"exit_code": -1}}, "out"),
    ):
        seen = {"source": "agent", "observation": "run", "content": "out", "extras": extras}
        (trace,) = read_traces(put(tmp_path / "a.json", [asked, ran, seen]))
        assert trace.messages[-1]["content"] == told
    said = {"kind": "MessageEvent", "llm_message": {"role": "user", "content": "Go."}}
    call = {"name": "terminal", "arguments": "{}"}
    content = [{"type": "text", "text": "out"}]
    terminal = {"kind": "TerminalObservation", "content": content, "metadata": about, "exit_code": 2}
    run = [said, {"kind": "ActionEvent", "tool_call": call}, {"kind": "ObservationEvent", "observation": terminal}]
    (trace,) = read_traces(put(tmp_path / "a.json", run))
    assert trace.messages[-1]["content"] == shown


def test_what_the_prompt_had_of_a_recall_is_the_users(tmp_path):
    extras = {
        "recall_type": "workspace_context",
        "repo_instructions": "Use make.",
        "additional_agent_instructions": "",
        "microagent_knowledge": [{"name": "git", "trigger": "git", "content": "Commit often."}],
    }
    run = [
        {"source": "user", "action": "message", "args": {"content": "Go."}},
        {"source": "user", "action": "recall", "args": {"query": "Go."}},
        {"source": "user", "observation": "recall", "content": "Added workspace context", "extras": extras},
        {"source": "agent", "action": "message", "args": {"content": "Done."}},
    ]
    (trace,) = read_traces(put(tmp_path / "a.json", run))
    assert trace.messages[0] == {"role": "user", "content": "Go.\n\nUse make.\n\nCommit often."}
