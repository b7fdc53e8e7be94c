"""Verdicts of SWE-bench, in the forms that its `harness/reporting.py` and `harness/grading.py` write."""

from __future__ import annotations

import pytest
from support.traces import chat, put

from capvec.errors import UsageError
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


def run_of(model, said="DONE"):
    talk = [*chat()["messages"][:-1], {"role": "assistant", "content": said}]
    return TRAJECTORY | {"instance_id": "a", "info": {"config": {"model": {"model_name": model}}}, "messages": talk}


def verdicts(folder):
    return [(trace.model, trace.reward) for trace in read_traces(folder)]


@pytest.mark.parametrize("models", [("gpt", "qwen"), ("gpt-4", "gpt-4.1"), ("openai/gpt-4", "openai/gpt-4.1")])
@pytest.mark.parametrize("first", [True, False])
def test_a_report_named_after_a_model_grades_its_runs_alone(tmp_path, models, first):
    for number, model in enumerate(models):
        put(tmp_path / "runs" / str(number) / "a.traj.json", run_of(model, model))
    graded = models[0 if first else 1]
    put(tmp_path / f"{graded.replace('/', '__')}.r1.json", {"resolved_ids": ["a"]})
    assert verdicts(tmp_path) == [(model, 1.0 if model == graded else None) for model in models]
    other = models[1 if first else 0]
    put(tmp_path / f"{other.replace('/', '__')}.r1.json", {"unresolved_ids": ["a"]})
    assert verdicts(tmp_path) == [(model, 1.0 if model == graded else 0.0) for model in models]


def test_a_report_may_name_the_folder_of_the_runs_or_the_model_in_itself(tmp_path):
    for model in ("x", "y"):
        put(tmp_path / f"{model}-run" / "a.traj.json", run_of(f"org/{model}", model))
    put(tmp_path / "x-run.r1.json", {"resolved_ids": ["a"]})
    put(tmp_path / "report.json", {"model_name_or_path": "org/y", "a": {"resolved": False}})
    assert verdicts(tmp_path) == [("org/x", 1.0), ("org/y", 0.0)]


@pytest.mark.parametrize(("models", "report"), [("xy", "results.json"), ("xx", "results.json"), ("xx", "x.r1.json")])
def test_a_report_that_may_be_on_either_of_two_runs_is_refused(tmp_path, models, report):
    for folder, model in zip("ab", models, strict=True):
        put(tmp_path / folder / "a.traj.json", run_of(model, folder))
    put(tmp_path / report, {"resolved_ids": ["a"]})
    with pytest.raises(UsageError, match=rf"{report}: grades one run of a, and may be on .*/a/a\.traj.* on .*/b/a\."):
        read_traces(tmp_path)
    put(tmp_path / "a" / "results.json", {"unresolved_ids": ["a"]})
    put(tmp_path / "b" / "results.json", {"resolved_ids": ["a"]})
    assert verdicts(tmp_path) == [(models[0], 0.0), (models[1], 1.0)]


def test_a_run_that_was_copied_is_one(tmp_path):
    for folder in "ab":
        put(tmp_path / folder / "a.traj.json", run_of("x"))
    put(tmp_path / "results.json", {"resolved_ids": ["a"]})
    assert verdicts(tmp_path) == [("x", 1.0)]


@pytest.mark.parametrize("names", [("r1.json", "r2.json"), ("x.r1.json", "x.r2.json"), ("x.r1.json", "r2.json")])
def test_reports_of_one_folder_that_disagree_on_a_run_are_refused_by_name(tmp_path, names):
    put(tmp_path / "a.traj.json", run_of("x"))
    put(tmp_path / names[0], {"resolved_ids": ["a"]})
    put(tmp_path / names[1], {"resolved_ids": ["a"], "unresolved_ids": ["b"]})
    assert verdicts(tmp_path) == [("x", 1.0)]
    put(tmp_path / names[1], {"error_ids": ["a"], "unresolved_ids": ["b"]})
    assert verdicts(tmp_path) == [("x", 1.0)]
    put(tmp_path / names[1], {"unresolved_ids": ["a"]})
    with pytest.raises(UsageError, match=rf"{names[0]} and {names[1]} disagree on a"):
        read_traces(tmp_path)
