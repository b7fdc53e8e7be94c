"""A report begins with the errors of the instrument where they differ between configs."""

from __future__ import annotations

import pytest
from support.outcomes import outcome
from support.plans import plan_of
from support.results import results_of
from support.sections import cells, words

from capvec.report.completion import errors_section
from capvec.report.document import sweep_report
from capvec.report.error_difference import error_difference_section, error_difference_status
from capvec.report.markdown import markdown
from capvec.report.terminal import sweep_lines

pytestmark = pytest.mark.unit
DEAD, UNJUDGED = "EngineUnavailable: it died", "VerifierFault: no reward"


def results(**errors_of):
    """Results of 12 tasks, of which a config's first trials ended in the errors given for it."""
    plan = plan_of(12, 3, 1)
    names = [config.name for config in plan.configs]
    errors = dict(zip(names, errors_of.values(), strict=True))
    outcomes = []
    for trial in plan.trials:
        left = errors[trial.config]
        change = {"status": "error", "error": left.pop()} if left else {"status": "unsolved"}
        outcomes.append(outcome(trial.config, trial.task, attempt=trial.attempt, run=plan.run, **change))
    return names, results_of(plan, outcomes)


def test_errors_that_differ_come_before_anything_else():
    (baseline, s, t), found = results(baseline=[], s=[DEAD] * 5 + [UNJUDGED], t=[DEAD])
    report = sweep_report(found)
    said = f"Errors differ between configs: {baseline} 0 of 12, {s} 6 of 12, {t} 1 of 12. "
    assert report.status.startswith(f"{said}That is more than chance would explain for {s}:")
    assert report.sections[0].id == "error-difference"
    assert markdown(report).split("**Status:** ", 1)[1].startswith("Errors differ between configs")
    assert " ".join(sweep_lines(report)[:2]).startswith("Errors differ between configs")
    table = cells(report.sections[0])
    assert table[0] == [baseline, "12", "0", "–", "–"]
    assert table[1] == [s, "12", "6", "5 engine, 1 verifier", "0.014"]
    assert table[2][3:] == ["1 engine", "1.000"]


def test_a_config_with_the_baselines_share_of_errors_has_no_row():
    (baseline, s, _), found = results(baseline=[], s=[DEAD], t=[])
    assert [row[0] for row in cells(error_difference_section(found))] == [baseline, s]


def test_errors_that_chance_may_have_divided_are_said_so():
    _, found = results(baseline=[], s=[DEAD], t=[])
    assert error_difference_status(found).endswith("Chance alone may have divided them so.")


@pytest.mark.parametrize("errors", [0, 2])
def test_the_same_share_of_errors_in_every_config_needs_no_word(errors):
    _, found = results(**{name: [DEAD] * errors for name in "bst"})
    assert error_difference_section(found) is None
    assert error_difference_status(found) == ""


def test_errors_are_counted_by_what_failed():
    _, found = results(baseline=[UNJUDGED], s=[DEAD, DEAD], t=[])
    assert "By what failed: 2 engine, 1 verifier." in words(errors_section(found.outcomes))
