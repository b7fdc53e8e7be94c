"""Trajectories of SWE-agent, in the forms that its `sweagent/agent/agents.py` has written (1.1.0 and before)."""

from __future__ import annotations

import json

import pytest
from support.traces import put

from capvec.errors import UsageError
from capvec.traces import read_traces

pytestmark = pytest.mark.unit

HISTORY = [
    {"role": "system", "content": "Rules.", "agent": "main", "message_type": "system_prompt"},
    {"role": "user", "content": "Shown.", "agent": "main", "is_demo": True, "message_type": "demonstration"},
    {"role": "user", "content": [{"type": "text", "text": "Fix it.", "cache_control": {}}], "agent": "main"},
    {"role": "assistant", "content": "I list.\n```\nls\n```", "thought": "I list.", "action": "ls", "agent": "main"},
    {"role": "user", "content": "a.py", "agent": "main", "message_type": "observation"},
    {
        "role": "assistant", "content": "Done.", "thought": "Done.", "action": "submit", "agent": "main",
        "tool_calls": [{"function": {"name": "submit", "arguments": "{}"}, "id": "c", "type": "function"}],
    },
    {"role": "tool", "content": "ok", "tool_call_ids": ["c"], "agent": "main", "message_type": "observation"},
]  # fmt: skip
STEP = {"action": "ls", "observation": "a.py", "response": "I list.", "state": {}, "thought": "I list."}
REPLAY = {"agent": {"model": {"name": "gpt-4o"}}}


def attempt(**changes):
    info = {"exit_status": "submitted", "submission": "diff", "model_stats": {"instance_cost": 0.1}}
    return {
        "trajectory": [STEP], "history": HISTORY, "info": info, "replay_config": json.dumps(REPLAY),
        "environment": "main",
    } | changes  # fmt: skip


@pytest.mark.parametrize("replay", [REPLAY, json.dumps(REPLAY)])
def test_the_history_is_the_conversation(tmp_path, replay):
    (trace,) = read_traces(put(tmp_path / "django-1.traj", attempt(replay_config=replay)))
    assert [message["role"] for message in trace.messages] == [
        "system",
        "user",
        "assistant",
        "user",
        "assistant",
        "user",
    ]
    assert trace.messages[1]["content"] == "Shown.\n\nFix it."
    assert trace.messages[4]["content"] == 'Done.\n<tool_call>{"name": "submit", "arguments": {}}</tool_call>'
    assert (trace.id, trace.task, trace.model, trace.reward, trace.steps) == ("django-1", "django-1", "gpt-4o", None, 2)


def test_of_several_attempts_the_chosen_one_is_read_or_else_the_last(tmp_path):
    other = attempt(history=[*HISTORY[:-1], {"role": "tool", "content": "other"}])
    chosen = {**attempt(), "attempts": [attempt(), other]}
    (trace,) = read_traces(put(tmp_path / "a.traj", chosen))
    assert trace.messages[-1]["content"] == "ok"
    (trace,) = read_traces(put(tmp_path / "a.traj", {"attempts": [attempt(), other]}))
    assert trace.messages[-1]["content"] == "other"


def test_without_a_history_the_last_query_has_the_conversation(tmp_path):
    query = [{"role": "user", "content": "Fix it."}]
    document = attempt(history=[], trajectory=[STEP | {"query": query}])
    (trace,) = read_traces(put(tmp_path / "a.traj", document))
    assert [message["content"] for message in trace.messages] == ["Fix it.", "I list.", "a.py"]
    with pytest.raises(UsageError, match="without the prompts"):
        read_traces(put(tmp_path / "a.traj", attempt(history=[])))


def test_a_demonstration_may_be_a_history_alone_and_worked_replies_are_no_steps(tmp_path):
    shown = {"role": "assistant", "content": "Look.", "is_demo": True}
    (trace,) = read_traces(put(tmp_path / "demo", {"history": [HISTORY[1], shown, *HISTORY[2:]]}))
    assert trace.steps == 2
