"""A verdict from outcomes alone."""

from __future__ import annotations

import doctest
from dataclasses import replace

import pandas as pd
import pytest

from capvec.errors import UsageError
from capvec.results import judge as module
from capvec.results.judge import judge, trial_outcome
from capvec.stats.summary import summarise

pytestmark = pytest.mark.unit


def trials(**solved):
    """24 tasks of one attempt, the first ones solved."""
    return [trial_outcome(f"task{i}", name, i < count) for name, count in solved.items() for i in range(24)]


def test_the_example_of_the_documentation_runs():
    done = doctest.testmod(module)
    assert (done.attempted > 0, done.failed) == (True, 0)


def test_the_verdicts_are_those_of_a_sweeps_summary():
    outcomes = trials(baseline=5, a=17, b=5, c=0)
    found = judge(outcomes)
    rows = summarise(outcomes, ["baseline", "a", "b", "c"]).configs
    assert found == {row.config: row.verdict for row in rows[1:]}
    assert judge(reversed(outcomes)) == found


def test_controls_are_not_corrected_and_ask_nothing_of_the_others():
    outcomes = trials(baseline=5, a=17, random1=17)
    found = judge(outcomes, controls=["random1"])
    # Twelve tasks rise: two of 2^12 sign patterns are as far from zero.
    assert found["a"].pvalue == found["random1"].pvalue == 2 / 2**12
    assert judge(outcomes)["a"].pvalue == 2 * 2 / 2**12


def test_an_error_is_excluded_and_a_config_without_a_valid_trial_has_no_verdict():
    outcomes = trials(baseline=5, a=17)
    failed = [trial_outcome(f"task{i}", "b", None) for i in range(24)]
    found = judge([*outcomes, *failed])
    assert found["b"] is None
    assert found["a"].pvalue == 2 * 2 / 2**12  # two were planned


@pytest.mark.parametrize("margin", [0, -1, 1, 2, float("nan")])
def test_a_margin_out_of_its_range_is_refused(margin):
    with pytest.raises(UsageError, match="expected a number between 0 and 1"):
        judge([trial_outcome("t", name, True) for name in ("baseline", "a")], equivalence_margin=margin)


@pytest.mark.parametrize("given", [None, 3, [None]])
def test_what_holds_no_outcomes_is_refused(given):
    with pytest.raises(UsageError, match=r"expected what capvec\.trial_outcome makes, a DataFrame"):
        judge(given)


def test_a_wider_equivalence_margin_lets_absence_be_claimed():
    outcomes = trials(baseline=12, a=12)
    names = [judge(outcomes, equivalence_margin=margin)["a"].name for margin in (0.1, 0.3)]
    assert names == ["underpowered", "no effect detected"]


@pytest.mark.parametrize(
    ("arguments", "named"), [({"baseline": "base"}, "base"), ({"controls": ["random1"]}, "random1")]
)
def test_a_config_without_outcomes_is_refused(arguments, named):
    with pytest.raises(UsageError, match=f"no outcome of {named}"):
        judge(trials(baseline=5, a=17), **arguments)


def test_a_table_gives_the_same_verdicts_as_its_outcomes():
    outcomes = trials(baseline=5, a=17, b=5)
    frame = pd.DataFrame(
        {
            "task": [one.task for one in outcomes],
            "config": [one.config for one in outcomes],
            "outcome": [one.outcome for one in outcomes],
            **{name: [0] * len(outcomes) for name in ("parse_fail", "no_cmd", "steps", "repaired")},
        }
    )
    assert judge(frame) == judge(outcomes)
    renamed = frame.rename(columns={"task": "problem"})
    assert judge(renamed, columns={"task": "problem"}) == judge(outcomes)


def test_a_path_is_read_as_by_the_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [{"task": one.task, "config": one.config, "outcome": one.outcome} for one in trials(baseline=5, a=17)]
    pd.DataFrame(rows).to_csv("a.csv", index=False)
    assert judge("a.csv") == judge(tmp_path / "a.csv") == judge(pd.DataFrame(rows))
    with pytest.raises(UsageError, match=r"b\.csv: no such file"):
        judge("b.csv")


@pytest.mark.parametrize("given", [["a.csv"], [{"task": "a"}], [None]])
def test_what_is_no_outcome_is_refused_with_what_would_be_one(given):
    with pytest.raises(UsageError, match=f"type {type(given[0]).__name__}; expected what capvec.trial_outcome makes"):
        judge(given)


def test_without_counts_of_replies_no_change_of_format_is_claimed():
    rows = [
        {"task": f"t{i}", "config": config, "outcome": "solved", "parse_fail": 5 * (config == "a")}
        for config in ("baseline", "a")
        for i in range(30)
    ]
    known = pd.DataFrame(rows).assign(no_cmd=0)
    assert judge(known)["a"].name == "changes format only"
    assert judge(known.drop(columns="no_cmd"))["a"].name == "no effect detected"


def test_a_baseline_that_has_another_name_is_asked_for():
    outcomes = [replace(one, config=one.config.replace("baseline", "plain")) for one in trials(baseline=5, a=17)]
    with pytest.raises(UsageError, match="--baseline NAME"):
        judge(outcomes)
    assert judge(outcomes, "plain")["a"].name == "improves"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"baseline": 0}, "baseline=0: expected the name of a config"),
        ({"controls": "random1"}, "controls='random1': expected a list of names of configs"),
        ({"controls": [1]}, r"controls=\[1\]: expected a list of names"),
        ({"columns": "task=problem"}, "columns='task=problem': expected a name for some of task, config"),
        ({"columns": {"taks": "problem"}}, "columns={'taks': 'problem'}: expected a name for some of task"),
        ({"columns": {"task": 3}}, "columns={'task': 3}"),
        ({"reward": 1}, "reward=1: expected the name of a reward"),
        ({"solved_at": "half"}, "solved_at='half': expected a finite number"),
        ({"solved_at": float("nan")}, "solved_at=nan: expected a finite number"),
        ({"solved_at": 0.5}, "outcomes of trial_outcome say whether they are solved"),
        ({"reward": "acc"}, "reward='acc': outcomes of trial_outcome say whether they are solved"),
        ({"columns": {"task": "problem"}}, "columns={'task': 'problem'}: outcomes of trial_outcome say"),
        ({"equivalence_margin": "0.1"}, "equivalence_margin='0.1': expected a number between 0 and 1"),
    ],
)
def test_an_argument_of_another_type_is_named_with_what_is_expected(arguments, said):
    with pytest.raises(UsageError, match=said):
        judge(trials(baseline=5, a=17), **arguments)


@pytest.mark.parametrize("counts", ["baseline=2/6", "a=2/6,1/6", "a=2.5/6"])
def test_counts_are_no_path(counts):
    with pytest.raises(UsageError, match="counts alone have no verdict; expected a row for each trial"):
        judge(counts)


def test_scores_on_another_scale_need_a_threshold():
    frame = pd.DataFrame(
        [
            {"task": f"t{i}", "config": name, "score": 100 * (i < solved) - 0.5 * (i % 2)}
            for name, solved in (("baseline", 5), ("a", 17))
            for i in range(24)
        ]
    )
    with pytest.raises(UsageError, match=r"the table: column score goes from -0\.5 to 100"):
        judge(frame)
    assert judge(frame, solved_at=99)["a"].pvalue == 2 / 2**12
    for bad in (-1, 101):
        with pytest.raises(UsageError, match=r"expected a value above -0\.5 and at most 100"):
            judge(frame, solved_at=bad)


@pytest.mark.parametrize("solved", [0.4, 85, "no", float("nan")])
def test_a_score_is_not_whether_a_task_was_solved(solved):
    with pytest.raises(UsageError, match="expected True, False, or None"):
        trial_outcome("t", "a", solved)


def test_an_outcome_has_no_more_replies_of_a_kind_than_replies():
    assert trial_outcome("t", "a", True, steps=3, parse_fail=2, no_cmd=1).parse_fail == 2
    with pytest.raises(UsageError, match="no_cmd=2: expected no more together than steps=3"):
        trial_outcome("t", "a", True, steps=3, parse_fail=2, no_cmd=2)


def test_one_attempt_that_is_there_twice_is_refused_whichever_way_it_comes(tmp_path):
    outcomes = trials(baseline=5, a=17)
    again = [*outcomes, outcomes[30]]
    with pytest.raises(UsageError, match=r"attempt 1 of task task6 under a is there twice; .* attempt=2\)"):
        judge(iter(again))
    frame = pd.DataFrame(
        [{name: getattr(one, name) for name in ("task", "config", "attempt", "outcome")} for one in again]
    )
    frame.to_csv(tmp_path / "trials.csv", index=False)
    frame.to_json(tmp_path / "trials.jsonl", orient="records", lines=True)
    for given in (frame, tmp_path / "trials.csv", tmp_path / "trials.jsonl"):
        with pytest.raises(UsageError, match="attempt 1 of task task6 under a is there twice"):
            judge(given)
    second = trial_outcome("task6", "a", True, 2)
    assert judge([*outcomes, second])["a"] is not None
