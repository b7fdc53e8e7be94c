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
    known = (None, None) if name == "version1" else (0, 0)  # version 1 marks nothing
    assert (trace.parse_fail, trace.no_cmd) == known
    assert ("mini-swe-agent" in trace.uncounted) == (name == "version1")


def with_complaints(name, complaints, calls):
    """A trajectory in which so many replies were refused, as version 2 keeps that, and the calls of the model."""
    document = json.loads((WRITTEN / f"{name}.traj.json").read_text())
    extra = {"interrupt_type": "FormatError", "n_actions": 0, "model_response": "Hm."}
    document["messages"][2:2] = [{"role": "user", "content": "Give one action.", "extra": extra}] * complaints
    document["info"]["model_stats"]["api_calls"] = calls
    return document


@pytest.mark.parametrize("name", ["text", "toolcall", "responses"])
@pytest.mark.parametrize("complaints", [0, 1, 3])
def test_a_refused_reply_is_a_step_that_did_not_parse(tmp_path, name, complaints):
    put(tmp_path / "a.traj.json", with_complaints(name, complaints, 2 + complaints))
    (trace,) = read_traces(tmp_path)
    assert (trace.steps, trace.parse_fail, trace.no_cmd, trace.uncounted) == (2 + complaints, complaints, 0, "")


def test_counts_that_do_not_add_up_with_the_calls_of_the_model_are_unknown(tmp_path):
    put(tmp_path / "a.traj.json", with_complaints("text", 1, 4))
    (trace,) = read_traces(tmp_path)
    assert (trace.parse_fail, trace.no_cmd) == (None, None)
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
