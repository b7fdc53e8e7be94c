"""Chats: what becomes of their messages and fields, and which key a refusal names."""

from __future__ import annotations

import json

import pytest
from support.traces import chat, lines

from capvec.errors import UsageError
from capvec.traces import read_traces

pytestmark = pytest.mark.unit


def test_a_chat_becomes_a_trace(tmp_path):
    (trace,) = read_traces(lines(tmp_path / "a.jsonl", chat(task="count", model="m", parse_fail=2, no_cmd=0, id="c1")))
    assert (trace.id, trace.task, trace.model, trace.reward) == ("c1", "count", "m", 1.0)
    assert (trace.steps, trace.parse_fail, trace.no_cmd, trace.uncounted) == (2, 2, 0, "")
    assert list(trace.messages) == chat()["messages"]


@pytest.mark.parametrize(
    ("wild", "field", "value"),
    [
        ({"score": 0.5, "reward": None}, "reward", 0.5),
        ({"success": True, "reward": None}, "reward", 1.0),
        ({"resolved": False, "reward": None}, "reward", 0.0),
        ({"score": 3, "success": False, "reward": None}, "reward", 0.0),
        ({"reward": 0.0, "resolved": True}, "reward", 1.0),
        ({"score": 3, "success": True, "reward": None}, "reward", 3.0),
        ({"reward": 0.5, "passed": False}, "reward", 0.5),
        ({"reward": "1"}, "reward", 1.0),
        ({"reward": "0.5"}, "reward", 0.5),
        ({"reward": "true"}, "reward", 1.0),
        ({"reward": "False"}, "reward", 0.0),
        ({"score": "3", "success": "false", "reward": None}, "reward", 0.0),
        ({"instance_id": "django-1"}, "task", "django-1"),
        ({"problem_id": 17}, "task", "17"),
        ({"model_name": "big"}, "model", "big"),
        ({"parse_failures": 3}, "parse_fail", 3),
        ({"n_steps": 9}, "steps", 9),
        ({}, "task", "unknown"),
        ({"reward": None}, "reward", None),
    ],
)
def test_fields_are_found_under_the_names_they_have_in_the_wild(tmp_path, wild, field, value):
    (trace,) = read_traces(lines(tmp_path / "a.jsonl", chat(**wild)))
    assert getattr(trace, field) == value


def test_the_users_names_come_first_and_reach_into_objects(tmp_path):
    file = lines(tmp_path / "a.jsonl", chat(metrics={"pass": 0.25}, talk=chat()["messages"][:3]), chat(reward=0.75))
    first, second = read_traces(file, {"reward": "metrics.pass", "messages": "talk"})
    assert (first.id, second.id) == ("a.jsonl, line 1", "a.jsonl, line 2")
    assert (first.reward, len(first.messages)) == (0.25, 3)
    assert (second.reward, len(second.messages)) == (0.75, 5)  # without them, the names that are known


def test_replies_of_a_chat_are_counted_by_the_protocol_that_it_names(tmp_path):
    talk = [*chat()["messages"], {"role": "assistant", "content": "```python\n1\n```"}]
    said = [chat(messages=talk, protocol="bash-block"), chat(messages=talk)]
    counted, unknown = read_traces(lines(tmp_path / "a.jsonl", *said))
    assert (counted.steps, counted.parse_fail, counted.no_cmd, counted.uncounted) == (3, 1, 0, "")
    assert unknown.parse_fail is None
    assert "protocol" in unknown.uncounted


def test_openais_tool_calls_become_text_and_tool_messages_the_users(tmp_path):
    call = {"id": "1", "type": "function", "function": {"name": "bash", "arguments": '{"command": "ls"}'}}
    talk = [
        {"role": "user", "content": "Count."},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": [{"type": "text", "text": "a b"}]},
    ]
    (trace,) = read_traces(lines(tmp_path / "a.jsonl", chat(messages=talk, protocol="tool-call")))
    assert trace.messages[1]["content"] == '<tool_call>{"name": "bash", "arguments": {"command": "ls"}}</tool_call>'
    assert trace.messages[2] == {"role": "user", "content": "a b"}
    assert (trace.parse_fail, trace.no_cmd) == (0, 0)  # the text is what the protocol reads


def test_sharegpts_conversations_are_read(tmp_path):
    talk = [{"from": "human", "value": "Go."}, {"from": "gpt", "value": "DONE"}]
    (trace,) = read_traces(lines(tmp_path / "a.jsonl", {"conversations": talk, "reward": 0}))
    assert trace.messages == ({"role": "user", "content": "Go."}, {"role": "assistant", "content": "DONE"})


def test_sharegpts_calls_are_the_assistants_and_their_results_the_users(tmp_path):
    call = {"name": "bash", "arguments": {"command": "ls"}}
    talk = [
        {"from": "human", "value": "Count."},
        {"from": "function_call", "value": json.dumps(call)},
        {"from": "observation", "value": "a b"},
        {"from": "function_call", "value": "no JSON"},
        {"from": "observation", "value": "?"},
        {"from": "gpt", "value": "Two."},
    ]
    (trace,) = read_traces(lines(tmp_path / "a.jsonl", {"conversations": talk}))
    said = [f"<tool_call>{json.dumps(call)}</tool_call>", "a b", "no JSON", "?", "Two."]
    assert [message["content"] for message in trace.messages] == ["Count.", *said]
    assert [message["role"] for message in trace.messages] == ["user", "assistant"] * 3


def test_nothing_to_say_plain_parts_and_text_beside_an_empty_content_are_read(tmp_path):
    talk = [
        {"role": "user", "content": ["Count.", {"type": "text", "text": "Please."}]},
        {"role": "assistant", "content": "ls"},
        {"role": "tool", "content": None},
        {"role": "assistant", "content": "", "text": "Two."},
    ]
    (trace,) = read_traces(lines(tmp_path / "a.jsonl", chat(messages=talk)))
    assert [message["content"] for message in trace.messages] == ["Count.\nPlease.", "ls", "", "Two."]


@pytest.mark.parametrize("field", ["reward", "task", "messages"])
def test_a_name_of_a_field_that_no_trace_has_is_refused(tmp_path, field):
    file = lines(tmp_path / "a.jsonl", chat())
    with pytest.raises(UsageError, match=rf"--trace-fields {field}=typo\.path: no trace of .*a\.jsonl has it"):
        read_traces(file, {field: "typo.path"})


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ([1], "is list, expected"),
        ({"reward": 1}, "--trace-fields"),
        (chat(messages="hi"), "key `messages` is 'hi'"),
        (chat(messages=[3]), "key `messages[0]` is 3"),
        (chat(messages=[{"role": "robot", "content": ""}]), "key `messages[0].role` is 'robot'"),
        (chat(messages=[{"role": "user"}]), "key `messages[0].content` is None"),
        (chat(messages=[{"role": "user", "content": "", "tool_calls": [1]}]), "key `messages[0].tool_calls[0]` is 1"),
        (chat(reward="high"), "key `reward` is 'high'"),
        (chat(reward="nan"), "key `reward` is nan"),
        (chat(score="high", reward=None), "key `score` is 'high'"),
        (chat(task=[1]), "key `task` is [1]"),
        (chat(parse_fail=-1), "key `parse_fail` is -1"),
        (chat(steps=1.5), "key `steps` is 1.5"),
    ],
)
def test_a_broken_chat_is_refused_with_file_line_and_key(tmp_path, line, named):
    with pytest.raises(UsageError) as refusal:
        read_traces(lines(tmp_path / "a.jsonl", chat(), line))
    assert "a.jsonl, line 2" in str(refusal.value)
    assert named in str(refusal.value)


def test_messages_of_published_data_sets_may_be_a_string_and_have_their_text_under_other_keys(tmp_path):
    talk = [
        {"role": "system", "system_prompt": "Rules.", "text": None},
        {"role": "user", "system_prompt": None, "text": "Count."},
        {"role": "ai", "text": "Two."},
    ]
    rows = [{"traj_id": "a", "trajectory": talk, "resolved": 1}, {"traj_id": "b", "messages": json.dumps(talk)}]
    for trace in read_traces(lines(tmp_path / "a.jsonl", *rows)):
        assert [message["content"] for message in trace.messages] == ["Rules.", "Count.", "Two."]
    assert [trace.id for trace in read_traces(tmp_path)] == ["a", "b"]
