"""Trajectories of other agents: what becomes of their messages, and which key a refusal names."""

from __future__ import annotations

import pytest
from support.traces import foreign, put

from capvec.errors import UsageError
from capvec.traces import read_traces

pytestmark = pytest.mark.unit


def test_another_agents_tool_calls_and_observations_become_messages(tmp_path):
    (trace,) = read_traces(put(tmp_path / "a.json", foreign(extra={"reward": 1, "task": "count"})))
    call = '<tool_call>{"name": "bash", "arguments": {"command": "ls"}}</tool_call>'
    assert trace.messages == (
        {"role": "user", "content": "Count."},
        {"role": "assistant", "content": f"I look.\n{call}"},
        {"role": "user", "content": "a b"},
        {"role": "assistant", "content": "Two.\n[image]"},
    )
    assert (trace.reward, trace.task, trace.model, trace.steps) == (1.0, "count", "big", 2)
    assert (trace.parse_fail, trace.no_cmd) == (None, None)
    assert "other" in trace.uncounted


def test_roles_that_chat_templates_refuse_are_made_acceptable(tmp_path):
    """A late system message, and one role twice in a row."""
    steps = [
        {"source": "system", "message": "Rules."},
        {"source": "user", "message": "Go."},
        {"source": "system", "message": "Clock: 5."},
        {"source": "agent", "message": "A."},
        {"source": "agent", "message": "B."},
    ]
    (trace,) = read_traces(put(tmp_path / "a.json", foreign(steps=steps)))
    assert [message["role"] for message in trace.messages] == ["system", "user", "assistant"]
    assert [message["content"] for message in trace.messages] == ["Rules.", "Go.\n\nClock: 5.", "A.\n\nB."]


@pytest.mark.parametrize("minor", range(9))
def test_every_version_from_1_0_to_1_8_is_read(tmp_path, minor):
    assert len(read_traces(put(tmp_path / "a.json", foreign(schema_version=f"ATIF-v1.{minor}")))) == 1


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"schema_version": "ATIF-v1.9"}, "schema_version"),
        ({"schema_version": None}, "schema_version"),
        ({"agent": "me"}, "agent"),
        ({"steps": None}, "steps"),
        ({"steps": [3]}, "steps[0]"),
        ({"steps": [{"source": "robot", "message": ""}]}, "steps[0].source"),
        ({"steps": [{"source": "user"}]}, "steps[0].message"),
        ({"steps": [{"source": "agent", "message": "", "tool_calls": {}}]}, "steps[0].tool_calls"),
        ({"steps": [{"source": "agent", "message": "", "observation": {"results": [1]}}]}, "observation.results[]"),
        ({"extra": {"reward": "high"}}, "extra.reward"),
        ({"extra": {"reward": [1]}}, "extra.reward"),
        ({"extra": []}, "extra"),
        ({"extra": {"parse_fail": "2"}}, "extra.parse_fail"),
        ({"extra": {"no_cmd": -1}}, "extra.no_cmd"),
    ],
)
def test_a_broken_trajectory_is_refused_with_file_and_key(tmp_path, changes, key):
    file = put(tmp_path / "broken.json", foreign(**changes))
    with pytest.raises(UsageError) as refusal:
        read_traces(file)
    assert "broken.json" in str(refusal.value)
    assert f"{key}`" in str(refusal.value)


def test_the_users_names_hold_for_trajectories_as_well(tmp_path):
    file = put(tmp_path / "a.json", foreign(extra={"grade": 0.5, "puzzle": "p1"}))
    (trace,) = read_traces(file, {"reward": "grade", "task": "puzzle"})
    assert (trace.reward, trace.task) == (0.5, "p1")
