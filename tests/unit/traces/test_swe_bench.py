"""Verdicts of SWE-bench, in the forms that its `harness/reporting.py` and `harness/grading.py` write."""

from __future__ import annotations

import pytest
from support.traces import chat, put

from capvec.traces import read_traces

pytestmark = pytest.mark.unit

NAMES = ("a", "b", "c", "d")
SUMMARY = {
    "total_instances": 4, "submitted_ids": [*NAMES], "completed_ids": ["a", "b"], "resolved_ids": ["a"],
    "unresolved_ids": ["b"], "empty_patch_ids": ["c"], "error_ids": ["d"], "schema_version": 2,
}  # fmt: skip
TRAJECTORY = {"trajectory_format": "mini-swe-agent-1.1", "info": {}, "messages": chat()["messages"]}


def rewards(folder):
    return {trace.task: trace.reward for trace in read_traces(folder)}


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        (SUMMARY, [1.0, 0.0, 0.0, None]),
        ({"resolved": ["b"], "unresolved": ["a"]}, [0.0, 1.0, None, None]),
        ({"a": {"patch_is_None": False, "resolved": True}, "b": {"resolved": False}}, [1.0, 0.0, None, None]),
        ({"a": {"resolved": "yes"}}, [None] * 4),
        ({"resolved": 3}, [None] * 4),
    ],
)
def test_a_report_grades_the_runs_beside_it_and_below(tmp_path, report, expected):
    for name in NAMES:
        put(tmp_path / name / f"{name}.traj.json", TRAJECTORY)
    put(tmp_path / "results.json", report)
    assert rewards(tmp_path) == dict(zip(NAMES, expected, strict=True))


def test_the_nearest_report_holds_and_a_verdict_in_the_file_comes_first(tmp_path):
    put(tmp_path / "results.json", {"resolved_ids": ["a", "b"], "unresolved_ids": []})
    put(tmp_path / "a" / "a.traj.json", TRAJECTORY)
    put(tmp_path / "a" / "report.json", {"a": {"resolved": False}})
    put(tmp_path / "b" / "b.traj.json", TRAJECTORY | {"info": {"resolved": False}})
    put(tmp_path / "other" / "c.traj.json", TRAJECTORY)
    assert rewards(tmp_path) == {"a": 0.0, "b": 0.0, "c": None}
