"""A verdict from outcomes alone."""

from __future__ import annotations

import doctest

import pytest

from capvec.errors import UsageError
from capvec.stats import judge as module
from capvec.stats.judge import judge, trial_outcome
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
