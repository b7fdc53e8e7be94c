"""The section on the off-task cost, and its sentence in the interpretation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support.outcomes import outcome
from support.results import results_of
from support.sections import cells, sentences, words

from capvec.plan.plan import Plan, Settings
from capvec.records import Config
from capvec.report.battery import battery_section
from capvec.report.document import sweep_report
from capvec.report.interpretation import interpretation_section
from capvec.report.section import Table
from capvec.report.terminal import section_lines, sweep_lines
from capvec.results.battery import Answer, BatteryResult, costs_of
from capvec.task_records import Task

pytestmark = pytest.mark.unit
CONFIGS = (Config("baseline", "baseline"), Config("s", "steered"))


def found(base, steered, of=100, missing=0, errors=0):
    answers = [
        Answer(f"i{n}", "d", config, right=n < right)
        for config, right in (("baseline", base), ("s", steered))
        for n in range(of)
    ]
    answers += [Answer(f"e{n}", "d", "s", error="EngineUnavailable: x") for n in range(errors)]
    return BatteryResult(costs_of(answers, CONFIGS), of, missing)


def results(battery):
    outcomes = [outcome(config.name, f"t{n}", "solved") for config in CONFIGS for n in range(8)]
    tasks = tuple(Task(f"t{n}", Path(f"t{n}"), "do", "0") for n in range(8))
    plan = Plan("r", Path("r"), tasks, CONFIGS, (), Settings("m", "bash-block", "brief", 1, 1, 0.7))
    return replace(results_of(plan, outcomes), battery=battery)


def test_the_table_has_accuracy_difference_interval_and_both_p_values():
    section = battery_section(results(found(80, 60)))
    assert section.title == "Off-task cost"
    base, steered = cells(section)
    assert base[:4] == ["baseline", "80/100", "0.800", "–"]
    assert steered[:4] == ["s", "60/100", "0.600", "−0.20"]
    assert steered[5:] == ["<0.001", "<0.001", "0"]
    assert "100 items beside the tasks" in words(section)
    assert "missing" not in words(section)
    assert battery_section(results(None)) is None


def test_what_is_missing_and_a_baseline_without_ability_are_named():
    assert "3 answers are missing; add --resume" in words(battery_section(results(found(80, 60, missing=3))))
    assert "1 answer is missing; add --resume to ask for it" in words(
        battery_section(results(found(80, 60, missing=1)))
    )
    assert "little ability here" in words(battery_section(results(found(20, 20))))


@pytest.mark.parametrize(("right", "choices", "told"), [(52, 2, True), (80, 2, False), (52, 4, False), (35, 0, False)])
def test_a_baseline_that_does_not_beat_guessing_has_little_to_lose(right, choices, told):
    answers = [Answer(f"i{n}", "d", c.name, right=n < right, choices=choices) for c in CONFIGS for n in range(100)]
    said = words(battery_section(results(BatteryResult(costs_of(answers, CONFIGS), 100, 0))))
    assert (f"The baseline answers {right / 100:.3f} of the items right, where guessing gives" in said) == told


def test_a_run_that_ended_before_its_battery_has_no_table_of_it():
    section = battery_section(results(BatteryResult(costs_of([], CONFIGS), 100, 200)))
    assert "100 items beside the tasks, and no answer yet; add --resume" in words(section)
    assert not [block for block in section.blocks if isinstance(block, Table)]


@pytest.mark.parametrize(
    "battery",
    [found(80, 60, missing=3), found(20, 20), BatteryResult(costs_of([], CONFIGS), 100, 200)],
    ids=["missing", "low", "none"],
)
def test_the_terminal_shows_the_cost_above_the_verdict(battery):
    section = battery_section(results(battery))
    shown = section_lines(section)
    lines = list(sweep_lines(sweep_report(results(battery))))
    start = lines.index(shown[0])
    assert lines[start : start + len(shown)] == shown
    assert any(line.startswith("s ") for line in lines[start + len(shown) :])
    told = " ".join(" ".join(shown).split())
    assert all(sentence in told for sentence in sentences(section) if "missing" in sentence or "little" in sentence)


@pytest.mark.parametrize(("steered", "told"), [(60, True), (80, False), (79, False), (95, False)])
def test_a_significant_cost_is_told_beside_the_verdict(steered, told):
    lines = sentences(interpretation_section(results(found(80, steered))))
    costly = [line for line in lines if "costs ability off task" in line]
    assert len(costly) == told
    assert all(
        line.startswith("s costs ability off task: its accuracy on the battery changed by −0.20 (") for line in costly
    )


def test_a_run_is_good_only_if_every_item_has_a_valid_answer_under_every_config():
    assert results(found(80, 60)).good
    assert not results(found(80, 60, missing=1)).good
    assert not results(found(80, 60, errors=1)).good
