"""Reports of SWE-bench, alone and beside the runs of mini-swe-agent."""

from __future__ import annotations

import json
import shutil

import pytest
from support import REPOSITORY
from support.judged import RESULTS

from capvec.errors import UsageError
from capvec.harnesses import Reading, read_source

pytestmark = pytest.mark.unit

RUNS = REPOSITORY / "tests" / "data" / "traces" / "mini-swe-agent"


def test_each_report_of_a_run_is_a_config():
    source = read_source(RESULTS / "swe_bench", Reading())
    solved = {
        name: sum(one.outcome == "solved" for one in source.trials if one.config == name) for name in source.configs
    }
    # Both resolve 8 of 23, and differ in two: the rerun has astroid-1333 in the place of sqlfluff-1733.
    assert solved == {
        "deepseek__deepseek-chat.deepseek_chat_dev": 8,
        "deepseek__deepseek-chat.deepseek_chat_dev_rerun": 8,
    }
    one, two = (
        {t.task for t in source.trials if t.config == name and t.outcome == "solved"} for name in source.configs
    )
    assert one ^ two == {"pylint-dev__astroid-1333", "sqlfluff__sqlfluff-1733"}
    assert len(source.trials) == 2 * 23


def test_what_could_not_be_graded_is_an_error(tmp_path):
    report = {"resolved_ids": ["a"], "unresolved_ids": ["b"], "error_ids": ["c"], "incomplete_ids": ["d"]}
    (tmp_path / "m.run.json").write_text(json.dumps(report))
    found = {one.task: one.outcome for one in read_source(tmp_path / "m.run.json", Reading()).trials}
    assert found == {"a": "solved", "b": "unsolved", "c": "error", "d": "error"}


def test_a_failure_of_swe_benchs_environment_is_an_error_whatever_list_it_is_in_too(tmp_path):
    report = {
        "resolved_ids": ["a"],
        "unresolved_ids": ["b", "c"],
        "completed_ids": ["a", "b", "c"],
        "error_ids": ["d"],
        "infra_failure_ids": ["c", "d"],
    }
    (tmp_path / "m.run.json").write_text(json.dumps(report))
    found = {one.task: one for one in read_source(tmp_path / "m.run.json", Reading()).trials}
    assert {name: one.outcome for name, one in found.items()} == {
        "a": "solved", "b": "unsolved", "c": "error", "d": "error",
    }  # fmt: skip
    assert "environment" in found["c"].error
    assert found["c"].error == found["d"].error


def test_runs_of_mini_swe_agent_have_the_verdicts_of_the_report_beside_them(tmp_path):
    for arm, solved in (("plain", False), ("steered", True)):
        folder = tmp_path / "runs" / arm / "count-2"
        folder.mkdir(parents=True)
        shutil.copy(RUNS / "toolcall.traj.json", folder / "count-2.traj.json")
        (tmp_path / "runs" / arm / "report.json").write_text(json.dumps({"count-2": {"resolved": solved}}))
    plain, steered = read_source(tmp_path / "runs", Reading()).trials
    assert [(one.task, one.config, one.outcome) for one in (plain, steered)] == [
        ("count-2", "plain", "unsolved"),
        ("count-2", "steered", "solved"),
    ]
    assert plain.steps == steered.steps
    assert plain.steps
    assert (plain.parse_fail, plain.no_cmd) == (0, 0)


def test_runs_without_a_report_are_refused(tmp_path):
    shutil.copy(RUNS / "toolcall.traj.json", tmp_path / "task-1.traj.json")
    with pytest.raises(UsageError, match="put the report of SWE-bench"):
        read_source(tmp_path, Reading())
