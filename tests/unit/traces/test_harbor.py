"""The folder of one of Harbor's trials: its result, and a run in several files."""

from __future__ import annotations

import pytest
from support.traces import COMPLAINT, agent, chat, foreign, lines, put, terminus

from capvec.errors import UsageError
from capvec.traces import read_traces

pytestmark = pytest.mark.unit

RECORD = {"trajectory_format": "mini-swe-agent-1.1", "info": {"mini_version": "2.4.6"}, "messages": chat()["messages"]}


def test_harbors_result_beside_the_agents_folder_gives_reward_and_task(tmp_path):
    put(tmp_path / "trial" / "agent" / "trajectory.json", foreign())
    put(tmp_path / "trial" / "result.json", {"task_name": "t9", "verifier_result": {"rewards": {"reward": 0.0}}})
    put(tmp_path / "result.json", {"n_trials": 1})
    (trace,) = read_traces(tmp_path)
    assert (trace.task, trace.reward) == ("t9", 0.0)


def test_a_run_that_harbor_wrote_in_parts_is_one_trace_without_its_subagents(tmp_path):
    """`linear_history`: each part names the next; the summaries are trajectories of their own, which the run names."""
    folder = tmp_path / "trial" / "agent"
    handoff = {
        "source": "system",
        "message": "Performed context summarization and handoff to continue task.",
        "observation": {"results": [{"subagent_trajectory_ref": [{"trajectory_path": "trajectory.summary.json"}]}]},
    }
    first = terminus(agent("x", answer=COMPLAINT), handoff, continued_trajectory_ref="trajectory.cont-1.json")
    second = terminus(
        agent("x", answer=COMPLAINT, is_copied_context=True), agent("y", "bash_command"), session_id="s-cont-1"
    )
    put(folder / "trajectory.json", first)
    put(folder / "trajectory.cont-1.json", second)
    put(folder / "trajectory.summary.json", terminus(agent("So far…"), session_id="s1-summary"))
    put(folder.parent / "result.json", {"task_name": "t9", "verifier_result": {"rewards": {"reward": 1}}})
    said = []
    (trace,) = read_traces(tmp_path, None, said.append)
    assert (trace.id, trace.task, trace.reward) == ("s-cont-1", "t9", 1.0)
    assert any("trajectories of subagents (1: trial/agent/trajectory.summary.json)" in line for line in said)
    assert (trace.steps, trace.parse_fail, trace.no_cmd) == (2, 1, 0)


@pytest.mark.parametrize("after", ["trajectory.cont-1.json", "trajectory.json"])
def test_a_run_whose_next_part_is_missing_is_passed_over_with_its_reason(tmp_path, after):
    cut = terminus(agent("x"), continued_trajectory_ref=after)
    put(tmp_path / "whole.json", foreign())
    put(tmp_path / "trial" / "agent" / "trajectory.json", cut)
    lines(tmp_path / "runs.jsonl", foreign(session_id="other"), cut)
    said = []
    assert len(read_traces(tmp_path, None, said.append)) == 2
    assert (
        f"a run whose next part ({after}) was not found (2: runs.jsonl, line 2, trial/agent/trajectory.json)" in said[0]
    )
    with pytest.raises(UsageError, match=r"holds no trace: a run whose next part \("):
        read_traces(tmp_path / "trial" / "agent" / "trajectory.json")


def test_an_agents_own_record_beside_harbors_trajectory_is_no_second_run(tmp_path):
    put(tmp_path / "trial" / "agent" / "trajectory.json", foreign())
    put(tmp_path / "trial" / "agent" / "mini-swe-agent.trajectory.json", RECORD)
    put(tmp_path / "trial" / "result.json", {"task_name": "t9", "verifier_result": {"rewards": {"reward": 0.0}}})
    said = []
    (trace,) = read_traces(tmp_path, None, said.append)
    assert (trace.id, trace.task, trace.reward) == ("s1", "t9", 0.0)
    assert any("own record" in line and "mini-swe-agent.trajectory.json" in line for line in said)


def test_an_agents_own_record_alone_has_the_task_and_the_reward_of_the_trial(tmp_path):
    put(tmp_path / "trial" / "agent" / "mini-swe-agent.trajectory.json", RECORD)
    put(tmp_path / "trial" / "result.json", {"task_name": "t9", "verifier_result": {"rewards": {"reward": 1}}})
    (trace,) = read_traces(tmp_path)
    assert (trace.task, trace.reward) == ("t9", 1.0)


def test_a_trial_that_ended_before_the_first_reply_is_passed_over(tmp_path):
    put(tmp_path / "1" / "agent" / "trajectory.json", foreign(steps=[{"source": "user", "message": "Count."}]))
    put(tmp_path / "2" / "agent" / "trajectory.json", foreign())
    said = []
    assert len(read_traces(tmp_path, None, said.append)) == 1
    assert "without a reply of the model (1: 1/agent/trajectory.json)" in said[0]


def test_the_step_of_a_trial_has_the_verdict_on_the_step(tmp_path):
    verdicts = [
        {"step_name": "a", "verifier_result": {"rewards": {"reward": 1.0}}},
        {"step_name": "b", "verifier_result": {"rewards": {"reward": 0.0}}},
        {"step_name": "c", "verifier_result": None},
    ]
    result = {"task_name": "t9", "verifier_result": {"rewards": {"reward": 0.5}}, "step_results": verdicts}
    put(tmp_path / "trial" / "result.json", result)
    for step in "abcd":
        put(tmp_path / "trial" / "steps" / step / "agent" / "trajectory.json", foreign(session_id=step))
    traces = read_traces(tmp_path)
    assert [(trace.id, trace.reward) for trace in traces] == [("a", 1.0), ("b", 0.0), ("c", None), ("d", 0.5)]
    assert {trace.task for trace in traces} == {"t9"}


def test_rewards_of_which_none_has_a_known_name_are_said_and_one_can_be_named(tmp_path):
    put(tmp_path / "trial" / "agent" / "trajectory.json", foreign())
    rewards = {"tests": 1.0, "style": 0.25}
    put(tmp_path / "trial" / "result.json", {"task_name": "t9", "verifier_result": {"rewards": rewards}})
    said = []
    (trace,) = read_traces(tmp_path, None, said.append)
    assert trace.reward is None
    (line,) = [line for line in said if "unknown reward" in line]
    assert "gave style, tests (1: trial/agent/trajectory.json); choose one with --trace-fields reward=NAME" in line
    named = []
    (trace,) = read_traces(tmp_path, {"reward": "style"}, named.append)
    assert trace.reward == 0.25
    assert not any("unknown reward" in line for line in named)
