"""What `--plan` prints."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.plans import plan_of, probe_of, shard_of

from capvec.plan.option_parsers import Shard
from capvec.plan.options import SweepOptions
from capvec.plan.plan import Plan
from capvec.run.assumptions import assumptions_of
from capvec.run.capacity import Capacity, EngineSpeed, Forecast
from capvec.run.forecast import detections_of, forecast_lines

pytestmark = pytest.mark.unit


def lines_of(plan: Plan, options: SweepOptions | None = None) -> list[str]:
    assumptions = assumptions_of(options or SweepOptions())
    probe = probe_of(whole=[10.0] * 4, jobs=4)
    return list(forecast_lines(plan, assumptions, detections_of(plan, assumptions), probe, 12.0))


def test_too_few_tasks_are_said_first_and_loudly():
    lines = lines_of(plan_of(6, 3, 1), SweepOptions(effect=0.4))
    assert lines[0].startswith("UNDERPOWERED for any change in the pass rate: 6 tasks give no p below 0.031, and 0.025")
    # The pooled test counts trials, wherever they come from.
    (attempts,) = [line for line in lines if line.startswith("attempts that +0.4 needs")]
    assert "no number" in attempts
    assert int(attempts.split()[-1]) > 1
    said = "\n".join(lines).replace("\n  ", " ")
    assert "2 comparisons" in said
    assert "p < 0.025" in said
    assert "if effects differ, power is lower" in said


def test_a_plan_that_is_enough_has_no_warning_and_says_what_it_sees():
    lines = lines_of(plan_of(20, 2, 10), SweepOptions(base_rate=0.5, spread=0.0, effect=0.4))
    assert lines[0] == "plan: 400 trials = 2 configs × 20 tasks × 10 attempts; only the probe was run"
    (seen,) = [line for line in lines if line.startswith("power for +0.4")]
    # Without spread, 200 against 200 trials at 0.5 and 0.9: certain for both tests.
    assert seen.split()[-2:] == ["1.00", "1.00"]


@pytest.mark.parametrize(
    ("tasks", "said"),
    [
        # 0.025 is about 0.541 to the 6th, 0.846 to the 22nd, 0.852 to the 23rd, 0.912 to the 40th power.
        (6, "with 6 tasks no effect below 0.46 can be excluded, however many the attempts; 0.15 takes 23 tasks"),
        (22, "with 22 tasks no effect below 0.16 can be excluded, however many the attempts; 0.15 takes 23 tasks"),
        (40, "effects can be excluded down to 0.09, the share of tasks that none of 40 may show"),
    ],
)
def test_a_plan_says_whether_no_effect_could_be_its_verdict(tasks, said):
    assert f"absence: {said}" in "\n".join(lines_of(plan_of(tasks, 2, 1))).replace("\n  ", " ")


def test_a_plan_with_interim_analyses_says_when_they_are_and_when_there_is_none():
    plan = replace(plan_of(12, 2, 4), sequential=True)
    said = "\n".join(lines_of(plan)).replace("\n  ", " ")
    assert "after 24, 36, 48 of 48 (task, attempt) blocks; " in said
    said = "\n".join(lines_of(replace(plan_of(5, 2, 4), sequential=True))).replace("\n  ", " ")
    assert "after 20 of 20 (task, attempt) blocks: no config can stop early" in said


def test_the_plan_of_a_shard_has_its_own_time_and_the_power_of_the_whole():
    plan = plan_of(40, 2, 3)
    whole, part = lines_of(plan), lines_of(shard_of(plan, Shard(3, 8)))
    size = "30 trials = shard 3 of 8, 2 configs × 15 of 120 (task, attempt) pairs"
    assert f"plan: {size}; only the probe was run" in part
    assert next(line for line in part if line.startswith("time:")) != next(one for one in whole if "time:" in one)
    power = next(number for number, line in enumerate(whole) if line.startswith("level:"))
    assert part[-len(whole) + power :] == whole[power:]


def test_a_plan_says_what_more_workers_make_and_what_slows_them():
    plan = plan_of(20, 2, 10)
    assumptions = assumptions_of(SweepOptions())
    speed = EngineSpeed({1: 0.0523, 8: 0.061}, 22600.0, 32)
    capacity = Forecast(
        (Capacity(4, 96.04, ""), Capacity(64, 1234.0, "engine"), Capacity(256, 1250, "sandboxes")), speed, 2
    )
    lines = list(forecast_lines(plan, assumptions, {}, probe_of(whole=[10.0] * 4, jobs=4), 12.0, capacity))
    place = next(number for number, line in enumerate(lines) if line.startswith("workers (-n)"))
    assert [line.split()[:3] for line in lines[place + 1 : place + 4]] == [
        ["4", "96", "little"],
        ["64", "1,200", "the"],
        ["256", "1,200", "sandboxes:"],
    ]
    said = " ".join(line.strip() for line in lines[place + 4 : place + 7])
    assert "on 2 cores and the engine's speed just now: a step takes 52.3 ms with 1, 61 ms with 8 at a time" in said
    assert max(map(len, lines)) <= 100


def test_everything_fits_100_columns_and_matched_controls_share_a_row():
    lines = lines_of(plan_of(13, 3, 1, controls="zero,random:19,negated,prompt"), SweepOptions(effect=0.45))
    assert max(map(len, lines)) <= 100
    assert sum("random × 19" in line for line in lines) == 2
    assert any("and 1 more" in line for line in lines)


def test_a_study_without_a_steered_config_has_no_figures_of_power():
    lines = lines_of(plan_of(6, 1, 1))
    assert lines[-1].startswith("power: ")
    assert not any("Underpowered" in line for line in lines)
