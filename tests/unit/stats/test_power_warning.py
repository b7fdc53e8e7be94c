"""When a sweep is called underpowered, before it and after it."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import expit
from support.recorded_run import write_recorded

from capvec.errors import UsageError
from capvec.plan.option_parsers import parse_base_rate
from capvec.plan.options import SweepOptions
from capvec.records import Outcome
from capvec.results.ledger import Ledger
from capvec.run.assumptions import assumptions_of
from capvec.stats.assumed import UNKNOWN_SPREAD
from capvec.stats.power import (
    SweepDesign,
    fewest_tasks,
    minimum_detectable_effect,
    needed_attempts,
    observed_rate,
    power,
)
from capvec.stats.power_warning import observed_power_warning, power_warning
from capvec.stats.summary import observed_design, summarise
from capvec.studies.regenerate import report

pytestmark = pytest.mark.unit


def outcomes(config: str, solved: dict[str, int], attempts: int) -> list[Outcome]:
    """So many of each task's attempts solved, the first ones."""
    return [
        Outcome("r", task, config, None, None, attempt, 0,
                "solved" if attempt <= count else "unsolved")
        for task, count in solved.items()
        for attempt in range(1, attempts + 1)
    ]  # fmt: skip


# The least p of n tasks is 2/2ⁿ: 1/32 for six, 1/64 for seven.
@pytest.mark.parametrize(("level", "tasks"), [(0.05, 6), (0.025, 7), (0.05 / 4, 8), (1 / 64, 8), (0.99, 2)])
def test_the_fewest_tasks_are_the_first_whose_least_p_is_below_the_level(level, tasks):
    assert fewest_tasks(level) == tasks
    assert 2 / 2**tasks < level <= 2 / 2 ** (tasks - 1)


def test_six_tasks_and_two_configs_are_blind_whatever_the_attempts():
    short = power_warning(SweepDesign(6, 400, 0.5, level=0.025), 0.4)
    assert short.too_few_tasks
    assert short.mde is None
    assert "6 tasks give no p below 0.031" in short.words
    assert "at least 7 tasks" in short.words


def test_a_weak_sweep_is_warned_with_what_it_detects_and_what_it_could():
    short = power_warning(SweepDesign(17, 1, 0.5, level=0.05), 0.15)
    assert not short.too_few_tasks
    assert power(short.design, short.mde) >= 0.8 > power(short.design, short.mde - 0.02)
    chance = 100 * power(short.design, 0.15)
    assert f"17 tasks with 1 attempt each detect it with power {chance:.0f} %" in short.words
    assert f"{short.mde:.2f} or more with power 80 %" in short.words


def test_the_attempts_that_an_effect_needs_are_the_fewest_that_are_not_underpowered():
    design = SweepDesign(17, 1, 0.4)
    needed = needed_attempts(design, 0.3)
    assert power_warning(replace(design, attempts=needed), 0.3) is None
    assert power_warning(replace(design, attempts=needed - 1), 0.3) is not None


def test_a_rise_that_two_decimals_cannot_tell_from_the_effect_counts_as_it():
    # Else the words would read: no rise of 0.42, only one of 0.42 or more.
    least = power_warning(SweepDesign(17, 1, 0.5), 0.15).mde
    assert power_warning(SweepDesign(17, 1, 0.5), round(least, 2)) is None
    assert power_warning(SweepDesign(17, 1, 0.5), round(least, 2) - 0.01) is not None


def test_a_baseline_that_solves_nearly_everything_leaves_no_room():
    short = power_warning(SweepDesign(8, 1, 0.95), 0.15)
    assert short.words.startswith("Underpowered for a rise of 0.15 in the pass rate: ")
    assert "no room for such a rise" in short.words


def test_a_finished_sweep_is_judged_by_what_was_observed_as_its_verdict_is():
    solved = dict.fromkeys((f"t{number}" for number in range(18)), 1)
    moved = {task: 2 * (number % 2) for number, task in enumerate(solved)}  # half up, half down
    both = [*outcomes("baseline", solved, 2), *outcomes("steered", moved, 2)]
    summary = summarise(both, ["baseline", "steered"])
    short, call = observed_power_warning(summary), summary.configs[1].verdict
    assert (short.design.tasks, short.design.attempts, short.basis) == (18, 2, "observed")
    # One of two trials of every task solved.
    assert short.design.base_rate == 0.5
    assert short.mde == call.detectable.rise
    assert call.name == "underpowered"
    assert f"{short.mde:.2f}" in call.words
    assert observed_power_warning(summary, short.mde + 0.01) is None


def chance(tasks: int, base: float, rise: float, attempts: tuple[int, int], sweeps: int = 400) -> float:
    """The sign-flip test's power at 0.05, from drawn sweeps and all sign patterns; the baseline's attempts first."""
    draw = np.random.default_rng(4)
    spread = UNKNOWN_SPREAD * draw.standard_normal((sweeps, tasks))
    wide = UNKNOWN_SPREAD * draw.standard_normal(100_000)
    means = [brentq(lambda mean, rate=rate: expit(mean + wide).mean() - rate, -15, 15) for rate in (base, base + rise)]
    theirs, ours = (draw.binomial(n, expit(mean + spread)) / n for mean, n in zip(means, attempts, strict=True))
    signs = np.array(list(product((-1, 1), repeat=tasks)))
    sums = np.abs(signs @ (ours - theirs).T)  # [patterns, sweeps]; the last pattern is as observed
    return float(((sums >= sums[-1] - 1e-9).mean(0) < 0.05).mean())


def test_a_baseline_with_fewer_attempts_is_not_passed_over():
    tasks = [f"t{number:02}" for number in range(12)]
    base = outcomes("baseline", {task: number % 2 for number, task in enumerate(tasks)}, 1)
    summary = summarise([*base, *outcomes("a", dict.fromkeys(tasks, 5), 10)], ["baseline", "a"])
    design = observed_design(summary, summary.configs[1].effect)
    assert (design.tasks, design.attempts, design.spread) == (12, 1, UNKNOWN_SPREAD)
    # Ten attempts on both sides would see a rise of 0.18 with power 80 %, one of the baseline's with about 20 %.
    rise = minimum_detectable_effect(replace(design, attempts=10))
    assert rise == pytest.approx(0.18, abs=0.02)
    assert chance(12, 0.5, rise, (1, 10)) < 0.35
    assert summary.configs[1].verdict.detectable.rise is None


@pytest.mark.parametrize("attempts", [(2, 6), (6, 2)])
def test_what_unequal_arms_are_said_to_see_they_see(attempts):
    tasks = [f"t{number:02}" for number in range(12)]
    arms = [
        *outcomes("baseline", dict.fromkeys(tasks, attempts[0] // 2), attempts[0]),
        *outcomes("a", {task: (number % 2) * attempts[1] for number, task in enumerate(tasks)}, attempts[1]),
    ]
    summary = summarise(arms, ["baseline", "a"])
    design = replace(observed_design(summary, summary.configs[1].effect), spread=UNKNOWN_SPREAD)
    assert design.attempts == 2
    assert chance(12, 0.5, minimum_detectable_effect(design), attempts) > 0.77  # 0.8 less a standard error and a half


@pytest.mark.parametrize(("errors", "attempts"), [(0, 2), (1, 2), (6, 1)])
def test_a_few_errors_do_not_halve_the_attempts_and_many_do(errors, attempts):
    # Of 20 tasks one has a single attempt, 20/(19/2 + 1) = 1.90, or six have, 20/(14/2 + 6) = 1.54.
    tasks = [f"t{number:02}" for number in range(20)]
    ours = outcomes("a", dict.fromkeys(tasks, 1), 2)
    failed = [replace(one, outcome="error") if one.attempt == 2 and one.task < f"t{errors:02}" else one for one in ours]
    summary = summarise([*outcomes("baseline", dict.fromkeys(tasks, 1), 2), *failed], ["baseline", "a"])
    assert observed_design(summary, summary.configs[1].effect).attempts == attempts
    each = {0: "with 2 attempts each", 1: "with 1.9 attempts (counted as 2) each", 6: "with 1.5 attempts (counted"}
    assert each[errors] in observed_power_warning(summary, 0.02).words


def test_a_config_whose_interval_excludes_the_effect_was_seen_well_enough():
    solved = dict.fromkeys((f"t{number}" for number in range(24)), 1)
    both = [*outcomes("baseline", solved, 2), *outcomes("steered", solved, 2)]
    summary = summarise(both, ["baseline", "steered"])
    call = summary.configs[1].verdict
    assert call.name == "no effect detected"
    assert call.detectable.rise > 0.15 > call.excluded
    assert observed_power_warning(summary) is None
    assert observed_power_warning(summary, call.excluded - 0.01) is not None


def test_six_tasks_on_which_nothing_is_ever_solved_fall_short():
    none = dict.fromkeys((f"t{number}" for number in range(6)), 0)
    summary = summarise([*outcomes("baseline", none, 6), *outcomes("steered", none, 6)], ["baseline", "steered"])
    assert summary.configs[1].verdict.name == "underpowered"
    assert observed_power_warning(summary) is not None


def test_of_several_configs_the_one_that_could_be_seen_least_is_told():
    solved = dict.fromkeys((f"t{number}" for number in range(12)), 1)
    few = dict.fromkeys(list(solved)[:7], 1)
    all_of_them = [*outcomes("baseline", solved, 2), *outcomes("a", solved, 2), *outcomes("b", few, 2)]
    assert observed_power_warning(summarise(all_of_them, ["baseline", "a", "b"])).design.tasks == 7


def test_what_holds_of_one_config_is_not_said_of_another_that_was_called_better():
    tasks = [f"t{number:02}" for number in range(20)]
    none, everything = dict.fromkeys(tasks, 0), dict.fromkeys(tasks, 1)
    two = [
        *outcomes("baseline", none, 1),
        *outcomes("a", everything, 1),
        *outcomes("b", dict.fromkeys(tasks[:3], 1), 1),
    ]
    summary = summarise(two, ["baseline", "a", "b"])
    assert summary.configs[1].verdict.name == "improves"
    words = observed_power_warning(summary).words
    # Three tasks: 2/2³ = 0.25.
    assert words.startswith(
        "Underpowered for any change in the pass rate under b (and, less so, under a): 3 tasks give no p"
    )
    assert "it cannot be called better or worse on its own; it takes" in words


def test_a_config_that_only_a_later_step_of_holm_lets_through_is_not_called_blind():
    tasks = [f"t{number:02}" for number in range(20)]
    none, everything = dict.fromkeys(tasks, 0), dict.fromkeys(tasks, 1)
    two = [
        *outcomes("baseline", none, 1),
        *outcomes("a", everything, 1),
        *outcomes("b", dict.fromkeys(tasks[:6], 1), 1),
    ]
    summary = summarise(two, ["baseline", "a", "b"])
    # Six tasks give 2/2⁶ = 0.031: above 0.025, the first step's level, and below 0.05, the second's.
    assert [row.verdict.name for row in summary.configs[1:]] == ["improves", "improves"]
    short = observed_power_warning(summary)
    assert short is None or not short.too_few_tasks


def test_the_observed_rate_is_the_tables_and_the_spread_stands_beside_it():
    # 2 of 7 tasks: (2 + ½)/(7 + 1) = 0.31 is what the design takes, 2/7 = 0.29 what was observed.
    rates = {f"t{number}": int(number < 2) for number in range(7)}
    short = observed_power_warning(
        summarise([*outcomes("baseline", rates, 1), *outcomes("a", rates, 1)], ["baseline", "a"])
    )
    assert short.design.base_rate == 0.31
    assert "observed base rate of 0.29 and an assumed spread" in short.words
    planned = power_warning(SweepDesign(17, 1, 0.5, spread=1.0), 0.15).words
    assert "assumed base rate of 0.50 and spread" in planned


def test_controls_alone_are_no_comparisons_and_so_never_underpowered():
    both = [*outcomes("baseline", {"t": 1}, 1), *outcomes("random1", {"t": 1}, 1)]
    assert observed_power_warning(summarise(both, ["baseline", "random1"], comparisons=[])) is None
    assert observed_power_warning(summarise(both[:1], ["baseline", "steered"], comparisons=["steered"])) is None


def test_a_baseline_that_solves_or_fails_everything_still_has_a_rate_between_0_and_1():
    assert (observed_rate(0, 500), observed_rate(500, 500), observed_rate(1, 2)) == (0.01, 0.99, 0.5)
    solved = {f"t{number}": 40 for number in range(7)}
    summary = summarise([*outcomes("baseline", solved, 40), *outcomes("a", solved, 40)], ["baseline", "a"])
    assert summary.configs[1].verdict is not None


def test_the_warning_stands_in_every_report_and_in_the_closing_lines_and_comes_back(tmp_path):
    write_recorded(tmp_path / "r")
    # Three tasks: 2/2³ = 0.25.
    said = "Underpowered for any change in the pass rate: 3 tasks give no p below 0.25, and 0.025 is needed"
    assert f"**Warning:** {said}" in (tmp_path / "r" / "RESULTS.md").read_text()
    assert f'<p class="warning">{said}' in (tmp_path / "r" / "report.html").read_text()
    assert said in (tmp_path / "r" / "summary.json").read_text()
    assert said in " ".join(line.strip() for line in report([tmp_path / "r"], None).lines)


# ------------------------------------------------------------------------------------------------ what is assumed


def test_without_a_word_from_the_user_the_rate_is_one_half_and_the_reason_is_said():
    assumed = assumptions_of(SweepOptions())
    assert (assumed.base_rate, assumed.spread, assumed.effect) == (0.5, UNKNOWN_SPREAD, 0.15)
    assert "nothing is known" in assumed.source
    assert assumptions_of(SweepOptions(base_rate=0.2, spread=0.5, effect=0.3)).base_rate == 0.2


def test_rate_and_spread_come_from_the_valid_baseline_trials_of_an_earlier_run(tmp_path):
    ledger = Ledger(tmp_path / "trials.jsonl")
    base = outcomes("baseline", {"a": 4, "b": 0, "c": 2}, 4)
    for outcome in (*base, replace(base[0], attempt=5, outcome="error"), *outcomes("s", {"a": 4}, 4)):
        ledger.append(outcome)
    assumed = assumptions_of(SweepOptions(base_rate=str(tmp_path)))
    # Six of twelve; by moments the tasks' rates 1, 0 and ½ differ as much as any do.
    assert (assumed.base_rate, assumed.spread) == (0.5, 4.0)
    assert "12 baseline trials" in assumed.source
    assert assumptions_of(SweepOptions(base_rate=str(tmp_path), spread=1.0)).spread == 1.0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (SweepOptions(base_rate="no/such/run"), "--base-rate no/such/run: expected a rate .* or the folder"),
        (SweepOptions(effect=0.5), "--effect 0.5: a pass rate of 0.5 .* cannot rise by that"),
        (SweepOptions(base_rate=0.9), "--effect 0.15: a pass rate of 0.9 .* less than 0.1"),
    ],
)
def test_assumptions_that_cannot_be_are_refused(options, said):
    with pytest.raises(UsageError, match=said):
        assumptions_of(options)


def test_a_run_without_a_baseline_is_refused(tmp_path):
    Ledger(tmp_path / "trials.jsonl").append(outcomes("steered", {"a": 1}, 1)[0])
    with pytest.raises(UsageError, match="no valid trial of a baseline"):
        assumptions_of(SweepOptions(base_rate=str(tmp_path)))


def test_a_base_rate_is_a_share_or_a_folder():
    assert parse_base_rate("0.25") == 0.25
    assert parse_base_rate("reports/earlier") == "reports/earlier"
    for text in ("0", "1", "1.5", "-0.1", "nan"):
        with pytest.raises(UsageError, match="--base-rate"):
            parse_base_rate(text)
