"""The mean reward and its tests, against brute force, against the pass rate's, and under the null."""

from __future__ import annotations

import json
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.outcomes import outcome

from capvec.records import Interval
from capvec.stats.effects import paired_effect
from capvec.stats.intervals import wilson, wilson_of_mean
from capvec.stats.rewards import NamedMean, summarise_rewards
from capvec.stats.summary import summarise

pytestmark = pytest.mark.unit

tenths = st.integers(0, 10).map(lambda n: n / 10)
pairs = st.lists(st.tuples(tenths, tenths), min_size=1, max_size=7)


def arm(config, *tasks, several=False):
    """Each task's rewards: a number, or a list with one for each attempt."""
    return [
        outcome(
            config, f"t{k}", "solved" if reward >= 1 else "unsolved", attempt, reward=reward,
            rewards={"reward": reward, "other": 0.0} if several else {"reward": reward},
        )
        for k, rewards in enumerate(tasks)
        for attempt, reward in enumerate(rewards if isinstance(rewards, list) else [rewards], start=1)
    ]  # fmt: skip


def rewards_of(*arms, comparisons=None):
    groups = {one[0].config: one for one in arms}
    others = [name for name in groups if name != "baseline"]
    bases = dict.fromkeys(groups, groups["baseline"])
    return summarise_rewards(groups, bases, "baseline", others if comparisons is None else comparisons)


def row_of(summary, config="x"):
    return next(row for row in summary.configs if row.config == config)


def test_rewards_that_are_0_and_1_but_for_rounding_are_not_partial():
    assert rewards_of(arm("baseline", 0.0, 0.7 + 0.2 + 0.1), arm("x", 1.0, 1.0)) is None


def by_hand(ours, base):
    """Every sign pattern of the exact differences, counted one by one."""
    differences = [Fraction(str(a)) - Fraction(str(b)) for a, b in zip(ours, base, strict=True)]
    seen = abs(sum(differences))
    sums = [
        abs(sum(sign * d for sign, d in zip(signs, differences, strict=True)))
        for signs in product((1, -1), repeat=len(differences))
    ]
    return float(Fraction(sum(one >= seen for one in sums), len(sums)))


@given(pairs)
def test_the_p_value_is_the_share_of_sign_patterns_that_are_as_far_from_zero(found):
    ours, base = zip(*found, strict=True)
    summary = rewards_of(arm("baseline", *base, several=True), arm("x", *ours, several=True))
    effect = row_of(summary).effect
    assert effect.pvalue == pytest.approx(by_hand(ours, base), abs=1e-12)
    assert effect.difference == pytest.approx(np.mean(ours) - np.mean(base))
    assert effect.interval.low <= effect.difference + 1e-12
    assert effect.interval.high >= effect.difference - 1e-12


wide = st.builds(lambda whole, scale: float(f"{whole}e{scale}"), st.integers(-99, 99), st.integers(-9, 12))
offsets = st.sampled_from([0.0, 2e6, 3e9, -1e12, 1e-9])


@given(st.lists(st.tuples(wide, wide) | offsets.map(lambda same: (same, same)), min_size=1, max_size=8))
def test_the_p_value_is_exact_where_tasks_have_rewards_of_any_scale(found):
    ours, base = zip(*found, strict=True)
    effect = row_of(rewards_of(arm("baseline", *base, several=True), arm("x", *ours, several=True))).effect
    assert effect.pvalue == by_hand(ours, base)
    exact = [sum(Fraction(str(value)) for value in side) / len(found) for side in (base, ours)]
    assert (effect.baseline, effect.value, effect.difference) == (*map(float, exact), float(exact[1] - exact[0]))


@given(pairs, st.integers(-9, 12))
def test_the_p_value_does_not_depend_on_the_scale(found, scale):
    ours, base = zip(*found, strict=True)
    plain = row_of(rewards_of(arm("baseline", *base, several=True), arm("x", *ours, several=True)))
    other = [[float(f"{value}e{scale}") for value in side] for side in (base, ours)]
    scaled = row_of(rewards_of(arm("baseline", *other[0], several=True), arm("x", *other[1], several=True)))
    assert scaled.effect.pvalue == plain.effect.pvalue
    assert (scaled.mean, scaled.effect.difference) == pytest.approx(
        (plain.mean * 10**scale, plain.effect.difference * 10**scale), rel=1e-12
    )


@pytest.mark.parametrize(("outlier", "low", "high"), [(2e6, 0.0, 1.0), (3e9, 1000.0, 2000.0), (1e12, 1e-9, 2e-9)])
def test_seven_tasks_that_rise_beside_one_of_another_scale_reach_two_of_128_patterns(outlier, low, high):
    base, ours = arm("baseline", outlier, *[low] * 7), arm("x", outlier, *[high] * 7)
    assert row_of(rewards_of(base, ours)).effect.pvalue == 2 / 2**7


def test_seven_tasks_that_rise_a_little_reach_two_of_128_patterns_where_the_pass_rate_shows_nothing():
    outcomes = [*arm("baseline", *[0.2] * 7), *arm("x", *[0.3, 0.25, 0.4, 0.21, 0.9, 0.5, 0.3])]
    summary = summarise(outcomes, ["baseline", "x"])
    effect = row_of(summary.rewards).effect
    assert (effect.pvalue, effect.holm) == (2 / 2**7, 2 / 2**7)
    assert summary.configs[1].effect.pvalue == 1.0


@given(pairs)
def test_rewards_of_0_and_1_have_the_numbers_of_the_pass_rate(found):
    ours, base = ([round(value) for value in side] for side in zip(*found, strict=True))
    arms = arm("baseline", *map(float, base), several=True), arm("x", *map(float, ours), several=True)
    summary = rewards_of(*arms)
    row, expected = row_of(summary), paired_effect([*arms[0], *arms[1]], "x", "pass_rate")
    assert not summary.partial
    assert (row.effect.pvalue, row.effect.difference, row.effect.interval) == (
        expected.pvalue, expected.difference, expected.interval,
    )  # fmt: skip
    found = wilson(sum(ours), len(ours))
    assert (row.interval.low, row.interval.high) == pytest.approx((found.low, found.high), abs=1e-12)


@given(pairs, st.sampled_from([-0.5, 0.1, 3.0, 250.0, 1e99]))
def test_another_scale_of_the_rewards_changes_the_scale_of_the_results_alone(found, factor):
    """Where the least or the greatest reward is at an end of the scale."""
    ours, base = ([*side, 0.0] for side in zip(*found, strict=True))
    plain = row_of(rewards_of(arm("baseline", *base, 1.0, several=True), arm("x", *ours, 1.0, several=True)))
    scaled = [[factor * value for value in [*side, 1.0]] for side in (base, ours)]
    other = row_of(rewards_of(arm("baseline", *scaled[0], several=True), arm("x", *scaled[1], several=True)))
    assert other.mean == pytest.approx(factor * plain.mean, rel=1e-12)
    assert other.effect.difference == pytest.approx(factor * plain.effect.difference, rel=1e-12)
    assert other.effect.pvalue == pytest.approx(plain.effect.pvalue)
    if factor > 1:
        assert other.effect.interval.high == pytest.approx(factor * plain.effect.interval.high)
        assert other.interval.low == pytest.approx(factor * plain.interval.low, abs=1e-9)


@settings(max_examples=20)
@given(st.lists(st.tuples(tenths, tenths), min_size=3, max_size=6))
def test_under_the_null_p_is_at_most_alpha_with_probability_alpha(found):
    """A config that does nothing exchanges the arms of any task. Of all 2ⁿ exchanges no more reach α than a share α."""
    pvalues = []
    for swaps in product((False, True), repeat=len(found)):
        ours, base = zip(*(pair[::-1] if swap else pair for pair, swap in zip(found, swaps, strict=True)), strict=True)
        summary = rewards_of(arm("baseline", *base, several=True), arm("x", *ours, several=True))
        pvalues.append(row_of(summary).effect.pvalue)
    for alpha in set(pvalues):
        assert np.mean(np.array(pvalues) <= alpha + 1e-12) <= alpha + 1e-12


@pytest.mark.parametrize("effect", [(0.0, 0.0), (0.05, 0.1), (-0.1, 0.25)], ids=["none", "everywhere", "mixed"])
def test_the_interval_of_the_difference_covers_the_mean_over_tasks_like_these(effect):
    """Tasks that differ in difficulty, two attempts each; the reward's mean moves by a number between two bounds."""
    random, covered, sweeps = np.random.default_rng(0), 0, 300
    for _ in range(sweeps):
        level, gain = random.uniform(0.15, 0.7, 12), random.uniform(*effect, 12)
        base, ours = (
            random.beta(5 * mean[:, None], 5 * (1 - mean[:, None]), (12, 2)) for mean in (level, level + gain)
        )
        interval = row_of(rewards_of(arm("baseline", *base.tolist()), arm("x", *ours.tolist()))).effect.interval
        covered += interval.low <= sum(effect) / 2 <= interval.high
    assert covered / sweeps >= 0.94


@pytest.mark.parametrize("draw", ["uniform", "halves", "mostly whole"])
def test_wilsons_interval_of_a_mean_covers_it(draw):
    random, n = np.random.default_rng(1), 20
    draws = {
        "uniform": (random.uniform(size=(2000, n)), 0.5),
        "halves": (random.choice([0, 0.5], p=[0.8, 0.2], size=(2000, n)), 0.1),
        "mostly whole": (random.choice([0, 0.5, 1], p=[0.6, 0.1, 0.3], size=(2000, n)), 0.35),
    }
    values, true = draws[draw]
    intervals = [wilson_of_mean(mean, n) for mean in values.mean(axis=1)]
    assert np.mean([one.low <= true <= one.high for one in intervals]) >= 0.94


@given(st.integers(1, 40).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilsons_interval_of_zeros_and_ones_is_that_of_their_share(count):
    k, n = count
    found, expected = wilson_of_mean(k / n, n), wilson(k, n)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize(("mean", "n"), [(0.5, 0), (-0.1, 3), (1.1, 3)])
def test_impossible_means_have_no_interval(mean, n):
    with pytest.raises(ValueError, match="expected n ≥ 1 and a mean from 0 to 1"):
        wilson_of_mean(mean, n)


def test_errors_have_no_reward_and_tasks_of_one_side_alone_are_not_compared():
    base = [*arm("baseline", 0.5, 0.5), outcome("baseline", "t2", "error")]
    ours = [*arm("x", 0.75), outcome("x", "t1", "error"), outcome("x", "t2", "solved", reward=1.0)]
    row = row_of(rewards_of(base, ours))
    assert (row.n, row.mean) == (2, 0.875)
    assert (row.effect.tasks, row.effect.difference) == (1, 0.25)
    assert row.effect.interval == Interval(-1.0, 1.0)


def test_where_every_reward_is_0_or_1_or_unknown_there_is_nothing_to_add():
    outcomes = [*arm("baseline", 0.0, 1.0), *arm("x", 1.0, 1.0), outcome("x", "t2", "solved")]
    summary = summarise(outcomes, ["baseline", "x"])
    assert summary.rewards is None
    assert "rewards" not in summary.to_json()


def test_a_planned_config_without_a_result_counts_in_holms_correction_and_a_control_does_not():
    base, ours = arm("baseline", *[0.2] * 8), arm("x", *[0.3] * 8)
    outcomes = [*base, *ours, *arm("control", *[0.9] * 8), outcome("y", "t0", "error")]
    names = ["baseline", "x", "y", "control"]
    summary = summarise(outcomes, names, comparisons=["x", "y"]).rewards
    found = {row.config: row.effect and (row.effect.pvalue, row.effect.holm) for row in summary.configs}
    assert found == {"baseline": None, "x": (2 / 2**8, 4 / 2**8), "y": None, "control": (2 / 2**8, None)}


def test_sums_of_attempts_that_rounding_alone_tells_apart_are_no_difference():
    # 0.1 + 0.2 is not 0.3 in floating point.
    summary = rewards_of(arm("baseline", *[[0.3, 0.0]] * 6), arm("x", *[[0.1, 0.2]] * 6))
    effect = row_of(summary).effect
    assert (effect.pvalue, effect.difference) == (1.0, 0.0)
    assert effect.interval.high == pytest.approx(1 - 0.025 ** (1 / 6))


def test_the_largest_rewards_of_either_sign_stay_finite():
    summary = summarise([*arm("baseline", *[-1e100] * 6), *arm("x", *[1e100] * 6)], ["baseline", "x"])
    data = json.loads(json.dumps(summary.to_json(), allow_nan=False))["rewards"]
    assert (data["low"], data["high"], data["configs"][1]["mean"]) == (-1e100, 1e100, 1e100)
    assert data["configs"][1]["effect"]["difference"] == 2e100


def test_named_rewards_have_means_over_the_trials_that_wrote_them():
    trials = [
        outcome("baseline", "t0", reward=0.0, rewards={"reward": 0.0, "speed": 2.0}),
        outcome("baseline", "t1", reward=0.0, rewards={"reward": 0.0, "speed": 4.0, "cost": 1.0}),
    ]
    summary = rewards_of(trials, arm("x", 0.0))
    assert row_of(summary, "baseline").named == {
        "reward": NamedMean(2, 0.0), "speed": NamedMean(2, 3.0), "cost": NamedMean(1, 1.0),
    }  # fmt: skip
    assert row_of(summary).named == {"reward": NamedMean(1, 0.0)}
    assert not summary.partial
