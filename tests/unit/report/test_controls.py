"""The section on controls, and what the terminal shows of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.controlled import CONFIGS, control, runs
from support.results import results_of
from support.sections import cells, sentences, tables, titles, words

from capvec.plan.plan import Plan, Settings
from capvec.records import Config
from capvec.report.controls import controls_section
from capvec.report.terminal import section_lines
from capvec.stats.summary import summarise
from capvec.task_records import Task

pytestmark = pytest.mark.unit


def section_of(outcomes, configs=CONFIGS):
    """The section of a run with these trials."""
    names = dict.fromkeys(one.task for one in outcomes)
    tasks = tuple(Task(name, Path(name), "do", "0") for name in names)
    plan = Plan("r", Path("r"), tasks, tuple(configs), (), Settings("m", "bash-block", "brief", 1, 1, 0.7))
    summary = summarise(outcomes, [config.name for config in configs])
    return controls_section(results_of(plan, outcomes, summary=summary))


def test_the_terminal_shows_one_line_for_each_steered_config_in_100_columns():
    name = "steered-L20+21+22+23+24-a0.0125-ambient-generated"
    configs = [
        Config("baseline", "baseline"),
        Config(name, "steered"),
        *(control(f"{kind}{k}", kind, name) for kind in ("random", "shuffled", "orthogonal") for k in range(19)),
    ]
    marks = {config.name: "1100" for config in configs}
    lines = section_lines(section_of(runs(**{**marks, name: "1110"}), configs))
    assert max(map(len, lines)) <= 100
    assert [line.split() for line in lines[:2]] == [
        ["against", "matched", "controls", "effect", "random", "p", "shuffled", "p", "orthogonal", "p"],
        # 59 characters are the other columns', which leaves 41: 20 of the beginning, the mark, and 20 of the end.
        ["steered-L20+21+22+23…25-ambient-generated", "+0.25", "0/19", "0.050", "0/19", "0.050", "0/19", "0.050"],
    ]
    assert "0.05." in lines[-1]  # 1/20: no p of 19 controls is smaller


def test_without_matched_controls_the_terminal_says_nothing_of_them():
    assert section_lines(section_of(runs(baseline="1", v="1", w="1", z="1"), (*CONFIGS[:3], CONFIGS[-1]))) == []


def test_the_report_puts_each_steered_config_beside_its_controls():
    outcomes = runs(baseline="1000", v="1110", w="1000", r1="1111", r2="0000", f="0000", z="1000")
    section = section_of(outcomes)
    effects, ranks = tables(section)
    assert titles(effects) == ["config", "steered", "α = 0", "−α", "random controls"]
    assert effects.rows == (("v", "+0.50", "+0.00", "−0.25", "−0.25 to +0.75"), ("w", "+0.00", "+0.00", "–", "–"))
    solved = ("2 random", "pass rate", "+0.50", "−0.25 to +0.75", "1", "0.667", "1", "0.667", "1", "0.667")
    assert ranks.rows[0] == ("v", *solved)
    assert sentences(section)[-1].endswith("1/3 = 0.333.")
    assert section_of(runs(baseline="1", v="1", w="1"), CONFIGS[:3]) is None


def test_a_config_that_erred_on_the_hard_tasks_has_the_headlines_effect_beside_its_controls():
    # On the two easy tasks v equals the baseline; its own 2 of 2 less the baseline's 2 of 4 would be +0.50.
    outcomes = runs(baseline="1100", v="11ee", r1="1000", r2="1100")
    configs = [config for config in CONFIGS if config.name in ("baseline", "v", "r1", "r2")]
    section = section_of(outcomes, configs)
    assert summarise(outcomes, ["baseline", "v", "r1", "r2"]).configs[1].effect.difference == 0
    # r1 lost one of four tasks, and one of the two that all have.
    assert ["v", "+0.00", "−0.25 to +0.00"] in cells(section)
    assert ["v", "2 random", "pass rate", "+0.00", "−0.50 to +0.00"] in [row[:5] for row in cells(section)]
    assert "at most 2 pairs" in words(section)
