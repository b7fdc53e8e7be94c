"""Controls: twins of a direction, their ranks, what α = 0 has to show, and what the report says of it all."""

from __future__ import annotations

import json
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.outcomes import outcome
from support.results import results_of
from support.sections import cells, sentences, tables, titles, words

from capvec.directions.direction import Direction, orthogonal_controls, random_control
from capvec.errors import UsageError
from capvec.plan.option_parsers import parse_controls
from capvec.plan.plan import Plan, Settings, control_configs, steered_config
from capvec.records import Config, ControlOf, Task
from capvec.report.controls import controls_section
from capvec.report.terminal import section_lines
from capvec.results.zero_control import check_zero
from capvec.stats.matched_controls import compare_with_matched_controls, rank
from capvec.stats.summary import summarise

pytestmark = pytest.mark.unit
seeds = st.integers(0, 2**31)


# ------------------------------------------------------------------------------------------------ orthogonal twins


@settings(max_examples=25)
@given(st.integers(1, 3), st.integers(2, 6), st.integers(1, 8), seeds)
def test_orthogonal_controls_are_as_long_and_at_right_angles_in_every_layer(n_layers, d_model, count, seed):
    vectors = np.random.default_rng(seed).standard_normal((n_layers, d_model)).astype(np.float32)
    direction = Direction(vectors)
    twins = orthogonal_controls(direction, count, seed)
    assert len(twins) == count
    for twin in twins:
        np.testing.assert_allclose(twin.norms, direction.norms, rtol=1e-6)
        cosines = (twin.vectors.astype(float) * vectors).sum(1) / direction.norms**2
        np.testing.assert_allclose(cosines, 0, atol=1e-6)
    # To each other too, d_model − 1 at a time: that many directions are orthogonal to the first, and no more.
    lot = np.stack([twin.vectors for twin in twins[: d_model - 1]]).astype(float)
    for layer, norm in enumerate(direction.norms):
        np.testing.assert_allclose(lot[:, layer] @ lot[:, layer].T, norm**2 * np.eye(len(lot)), atol=1e-5 * norm**2)


def test_orthogonal_controls_are_drawn_by_their_seed_and_zero_stays_zero():
    vectors = np.random.default_rng(0).standard_normal((2, 50)).astype(np.float32)
    vectors[1] = 0
    direction = Direction(vectors)
    first, again, other = (orthogonal_controls(direction, 2, seed)[0] for seed in (3, 3, 4))
    assert first.hash == again.hash != other.hash
    assert first.hash != random_control(direction, 3).hash
    assert not first.vectors[1].any()


def test_their_sides_are_drawn_evenly():
    # In two dimensions there is one line at right angles to v, and two ways along it: 200 fair draws leave 60 to 140
    # on each side but for 1 in 10^8 (a binomial of standard deviation 7).
    direction = Direction(np.array([[1, 0]], np.float32))
    ups = sum(orthogonal_controls(direction, 1, seed)[0].vectors[0, 1] > 0 for seed in range(200))
    assert 60 < ups < 140


def test_nothing_is_orthogonal_in_one_dimension():
    with pytest.raises(UsageError, match="at width 1 nothing is orthogonal"):
        orthogonal_controls(Direction(np.ones((1, 1), np.float32)), 1, 0)


# ------------------------------------------------------------------------------------------------ ranks


@given(st.lists(st.integers(-4, 4).map(float), min_size=1, max_size=8), st.integers(-4, 4).map(float))
def test_ranks_count_ties_against_the_vector_and_mirror_each_other(twins, value):
    place, mirrored = rank(value, twins), rank(-value, [-twin for twin in twins])
    assert place.as_high == sum(twin >= value for twin in twins)
    assert (place.as_high, place.as_low, place.as_far) == (mirrored.as_low, mirrored.as_high, mirrored.as_far)
    assert place.p_higher == (1 + place.as_high) / (1 + len(twins))
    assert min(place.p_higher, place.p_lower, place.p_two_sided) >= 1 / (1 + len(twins))


def test_a_vector_that_is_one_more_twin_has_every_p_equally_often():
    # Every order of five values is as likely as every other: over all of them p takes 1/5 … 5/5 a fifth of the time.
    values = (-0.3, -0.1, 0.0, 0.25, 0.5)
    p_values = [rank(first, rest) for first, *rest in permutations(values)]
    for name in ("p_higher", "p_lower", "p_two_sided"):
        found, often = np.unique([getattr(p, name) for p in p_values], return_counts=True)
        np.testing.assert_allclose(found, [0.2, 0.4, 0.6, 0.8, 1.0])
        assert set(often) == {24}  # 5!/5


def test_sums_in_another_order_are_ties():
    # 0.1 + 0.2 − 0.3 is 5.6e-17 and not 0.
    assert rank(0.1 + 0.2 - 0.3, [0.0]).p_higher == 1


def test_a_rank_without_twins_does_not_exist():
    with pytest.raises(ValueError, match="at least one control"):
        rank(0.5, [])


# ------------------------------------------------------------------------------------------------ comparisons


def control(name, kind, *of):
    return Config(name, "control", control=ControlOf(kind, of))


CONFIGS = (
    Config("baseline", "baseline"),
    Config("v", "steered"),
    Config("w", "steered"),
    control("r1", "random", "v"),
    control("r2", "random", "v"),
    control("f", "negated", "v"),
    control("z", "zero", "v", "w"),
)


def runs(**solved):
    """Of each config, four trials on as many tasks: `1` solved, `0` unsolved, `e` an error, `.` not run."""
    status = {"1": "solved", "0": "unsolved", "e": "error"}
    return [
        outcome(config, f"t{k}", status[mark], steps=10 * (mark == "1") + 5)
        for config, marks in solved.items()
        for k, mark in enumerate(marks)
        if mark in status
    ]


def test_effects_are_differences_to_the_baseline_and_ranked_among_the_twins():
    found = compare_with_matched_controls(
        runs(baseline="1000", v="1110", r1="1111", r2="0000", f="0000", z="1000"), CONFIGS
    )
    assert [(c.config, c.kind, c.metric) for c in found] == [
        ("v", "random", metric) for metric in ("pass_rate", "parse_fail", "no_cmd", "steps")
    ]
    solved, *_, steps = found
    # 3/4 − 1/4; the twins 4/4 − 1/4 and 0/4 − 1/4: r1 is as high and as far, r2 is as low.
    assert (solved.effect, solved.controls) == (0.5, {"r1": 0.75, "r2": -0.25})
    assert (solved.rank.as_high, solved.rank.as_low, solved.rank.as_far) == (1, 1, 1)
    assert solved.rank.p_higher == pytest.approx(2 / 3)
    assert solved.smallest_p == pytest.approx(1 / 3)
    # A solved trial took 15 steps, another 5: the same picture, ten times as large.
    assert (steps.effect, steps.controls) == (5, {"r1": 7.5, "r2": -2.5})


def test_only_pairs_that_all_have_a_valid_trial_of_are_used():
    (solved, *_) = compare_with_matched_controls(runs(baseline="1000", v="1e10", r1="111e", r2="0.00"), CONFIGS)
    # Left: t0 and t2. Baseline 1, 0; v 1, 1; r1 1, 1; r2 0, 0.
    assert (solved.trials, solved.left_out) == (2, 2)
    assert (solved.effect, solved.controls) == (0.5, {"r1": 0.5, "r2": -0.5})


def test_a_twin_that_was_not_measured_is_no_twin():
    (solved, *_) = compare_with_matched_controls(runs(baseline="1000", v="1110", r1="1000", r2="eeee"), CONFIGS)
    assert solved.controls == {"r1": 0.0}
    assert solved.rank.p_higher == 1 / 2
    assert compare_with_matched_controls(runs(baseline="1000", v="1110", r1="eeee"), CONFIGS) == ()
    assert compare_with_matched_controls(runs(baseline="10..", v="..11", r1="1111"), CONFIGS) == ()


def test_every_control_names_the_configs_that_it_is_there_for():
    direction = Direction(np.ones((3, 4), np.float32))
    steered = [steered_config(direction, layer, alpha, "stored") for layer, alpha in ((1, 2.0), (1, 4.0), (2, 2.0))]
    controls = parse_controls("zero,orthogonal:2,negated,prompt")
    made = control_configs(controls, steered, direction, {"orthogonal": orthogonal_controls(direction, 2, 0)})
    named = {config.name: (config.control.kind, config.control.configs) for config in made}
    assert named["zero-L1"] == ("zero", ("steered-L1-a2", "steered-L1-a4"))
    assert named["zero-L2"] == ("zero", ("steered-L2-a2",))
    assert named["orthogonal2-L1-a4"] == ("orthogonal", ("steered-L1-a4",))
    assert named["negated-L2-a2"] == ("negated", ("steered-L2-a2",))
    assert named["prompt"] == ("prompt", ("steered-L1-a2", "steered-L1-a4", "steered-L2-a2"))
    assert all(Config.from_json(config.to_json()) == config for config in made)


# ------------------------------------------------------------------------------------------------ the report


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
    assert "Up to 2 pairs were left out" in words(section)


def test_twins_are_measured_as_the_headline_is_with_every_task_weighing_the_same():
    # Task a once, solved by v alone; task b three times, solved by none: a half over tasks, a quarter over trials.
    outcomes = [
        outcome(name, task, "solved" if (name, task) == ("v", "a") else "unsolved", attempt=attempt)
        for name in ("baseline", "v", "r1")
        for task, attempts in (("a", 1), ("b", 3))
        for attempt in range(1, attempts + 1)
    ]
    (solved, *_) = compare_with_matched_controls(outcomes, CONFIGS)
    assert (solved.effect, solved.controls) == (0.5, {"r1": 0.0})
    assert summarise(outcomes, ["baseline", "v", "r1"]).configs[1].effect.difference == 0.5


# ------------------------------------------------------------------------------------------------ α = 0


@pytest.fixture
def zero(tmp_path):
    """Judges a zero control whose trial said `ours` where the baseline's said `theirs`."""
    (tmp_path / "trajectories").mkdir()
    settings = Settings("m", "bash-block", "brief", 1, 1, 0.7)
    plan = Plan("r", tmp_path, (Task("t0", Path("t0"), "do", "0"),), CONFIGS, (), settings)

    def check(ours, theirs, marks="1"):
        for config, said in (("z", ours), ("baseline", theirs)):
            metrics = {"prompt_tokens": 9, "completion_tokens": len(said)}
            step = {"message": said, "metrics": metrics, "extra": {"observation": ""}, "llm_call_count": 1}
            (tmp_path / "trajectories" / f"t0-{config}-t1.json").write_text(json.dumps({"steps": [step]}))
        return check_zero(plan, runs(baseline="1", z=marks))

    return check


def test_zero_that_says_what_the_baseline_says_is_met_and_one_other_reply_is_not(zero):
    (gate,) = zero("ls", "ls")
    assert gate.met
    assert "1 replies to identical conversations compared in 1 trials, 0 differ" in gate.reason
    (gate,) = zero("ls", "cat")
    assert not gate.met
    assert "the first: t0, attempt 1, reply 0" in gate.reason


def test_zero_that_could_not_be_compared_is_not_met_and_one_that_was_not_run_is_not_judged(zero):
    (gate,) = zero("ls", "ls", marks="e")
    assert not gate.met
    assert zero("ls", "ls", marks=".") == ()
