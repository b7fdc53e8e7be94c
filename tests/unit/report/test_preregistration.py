"""What a report says of a preregistration, before anything else."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.outcomes import outcome
from support.plans import plan_of
from support.registered import registered_for
from support.results import results_of
from support.sections import cells, words

from capvec.plan.options import SweepOptions
from capvec.report.document import sweep_report
from capvec.report.markdown import markdown
from capvec.report.preregistration import preregistration_section
from capvec.report.terminal import sweep_lines
from capvec.results.departures import Comparison, Departure

pytestmark = pytest.mark.unit


def results(*departures, hypothesis="It helps.", not_compared=()):
    """Results of two tasks that depart from their preregistration so."""
    plan = plan_of(2, 2, 1)
    found = results_of(plan, [outcome(one.config, one.task, "unsolved", run=plan.run) for one in plan.trials])
    registered = registered_for(plan, SweepOptions(), hypothesis=hypothesis)
    return registered, replace(found, comparison=Comparison(registered, departures, not_compared))


DEPARTURES = (
    Departure("attempts", "1 attempt in place of 8"),
    Departure("tasks", "tasks missing", tuple(f"t{number}" for number in range(20))),
)


def test_every_departure_is_named_before_anything_else():
    registered, found = results(*DEPARTURES)
    report = sweep_report(found)
    named = ", ".join(f"t{number}" for number in range(20))
    said = (
        f"Departs from its preregistration ({registered.hash[:12]}, written 2026-11-24 10:00:00 UTC) in 2 points: "
        f"1 attempt in place of 8; tasks missing: {named}."
    )
    assert report.status.startswith(said)
    assert markdown(report).split("**Status:** ", 1)[1].startswith(said)
    assert " ".join(" ".join(sweep_lines(report)).split()).startswith(said)
    assert report.sections[0].id == "preregistration"
    assert cells(report.sections[0]) == [["attempts", "1 attempt in place of 8"], ["tasks", f"tasks missing: {named}"]]
    assert registered.hash in words(report.sections[0])


def test_a_run_that_kept_to_it_says_so_and_one_without_says_nothing():
    registered, found = results()
    said = f"Preregistered ({registered.hash[:12]}, written 2026-11-24 10:00:00 UTC), and the sweep kept to it."
    assert sweep_report(found).status.startswith(said)
    assert "Nothing departs from it." in words(preregistration_section(found))
    without = replace(found, comparison=None)
    assert preregistration_section(without) is None
    assert "reregist" not in sweep_report(without).status


def test_a_hypothesis_is_shown_as_it_was_written():
    _, found = results(hypothesis="**Bold** <b>claims</b> at α = 4")
    assert "The hypothesis: \\*\\*Bold\\*\\* \\<b>claims\\</b> at α = 4" in markdown(sweep_report(found))
