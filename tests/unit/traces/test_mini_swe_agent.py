"""Trajectories of mini-swe-agent: `tests/data/traces/mini-swe-agent` was written by versions 1.17.5 and 2.4.6."""

from __future__ import annotations

import json

import pytest
from support import REPOSITORY
from support.traces import put

from capvec.traces import read_traces

pytestmark = pytest.mark.unit

WRITTEN = REPOSITORY / "tests" / "data" / "traces" / "mini-swe-agent"


@pytest.mark.parametrize(
    ("name", "task", "steps", "command"),
    [
        ("version1", "count-0", 3, "```bash\nprintf 'a\\nb\\n'\n```"),
        ("text", "count-1", 2, "```mswea_bash_command\nprintf 'a\\nb\\n'\n```"),
        (
            "toolcall",
            "count-2",
            2,
            '<tool_call>{"name": "bash", "arguments": {"command": "printf \'a\\\\nb\\\\n\'"}}</tool_call>',
        ),
        ("responses", "count-3", 2, '<tool_call>{"name": "bash", "arguments": {"command": "ls /nowhere"}}</tool_call>'),
    ],
)
def test_what_each_of_its_models_wrote_is_read(name, task, steps, command):
    (trace,) = read_traces(WRITTEN / f"{name}.traj.json")
    assert (trace.id, trace.task, trace.model, trace.reward, trace.steps) == (name, task, "scripted", None, steps)
    assert [message["content"] for message in trace.messages[:3]] == [
        "You are an agent.",
        "Task: Count.",
        f"I list.\n{command}",
    ]
    assert trace.parse_fail is None
    assert "mini-swe-agent" in trace.uncounted


def test_the_exit_of_version_2_is_no_message():
    for name in ("text", "toolcall", "responses"):
        (trace,) = read_traces(WRITTEN / f"{name}.traj.json")
        assert trace.messages[-1]["role"] == "assistant"
        assert "COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT" in trace.messages[-1]["content"]


def test_predictions_and_reports_beside_it_are_passed_over_and_a_verdict_in_it_is_the_reward(tmp_path):
    document = json.loads((WRITTEN / "text.traj.json").read_text())
    document["info"]["resolved"] = True
    put(tmp_path / "count-1" / "count-1.traj.json", document)
    put(tmp_path / "preds.json", {"count-1": {"model_name_or_path": "m", "instance_id": "count-1", "model_patch": ""}})
    said = []
    (trace,) = read_traces(tmp_path, None, said.append)
    assert trace.reward == 1.0
    assert said == [f"--traces {tmp_path}: passed over: JSON without a conversation (1: preds.json)"]
