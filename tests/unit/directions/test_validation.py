"""What the validation says of noise, of a planted difference, and of labels that it permutes."""

from __future__ import annotations

import csv
import doctest
import sys
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from support.labelled import estimate, labelled

from capvec.directions import validate as module
from capvec.directions.auc import auc
from capvec.directions.estimate import estimate_direction
from capvec.directions.estimators import METHODS
from capvec.directions.fit import centred_states, fit
from capvec.directions.labels import Labellings
from capvec.directions.noise_margin import noise_margins
from capvec.directions.permute import choose_scheme, permuted
from capvec.directions.recipe import EstimatorName
from capvec.directions.validate import margin_p_values, validate

pytestmark = pytest.mark.unit

seeds = st.integers(0, 2**31)
COLUMNS = (
    "layer,auc,margin,ambient_norm,margin_ratio,margin_ratio_null_mean,margin_ratio_null_p95,margin_ratio_noise,n_pos,"
    "n_neg,auc_null_p95,cv_auc,cv_auc_low,cv_auc_high,cv_auc_null_p95,cv_p_value,p_value,p_corrected,stability_min,stability_mean,reference_cosine,flags"
)


def residuals(seed, n, layers=3, d=5):
    return np.random.default_rng(seed).standard_normal((n, layers, d)).astype(np.float32)


def by_layer(ranking):
    return [ranking.row(layer) for layer in range(len(ranking.rows))]


# ------------------------------------------------------------------------------------------------ noise and signal

REPETITIONS = 60
PERMUTATIONS = 99
TASKS = [f"p{n // 2}" for n in range(6)] + [f"n{n // 2}" for n in range(20)]


@pytest.fixture(scope="module")
def noise():
    """6 traces against 20 at the width of Qwen3.5-4B, the seed's design; two layers, as a test must be quick."""
    rng = np.random.default_rng(20)
    found = []
    for repetition in range(REPETITIONS):
        states = rng.standard_normal((26, 2, 2560), dtype=np.float32)
        ranking = validate(*labelled(states[:6], states[6:]), tasks=TASKS, permutations=PERMUTATIONS, seed=repetition)
        found.append(ranking)
    return found


def test_pure_noise_reaches_auc_one_under_the_true_labels_and_under_any(noise):
    assert {(row.auc, row.auc_null_p95) for ranking in noise for row in ranking.rows} == {(1.0, 1.0)}


def looks_uniform(p_values):
    """A p of 99 permutations is uniform on 0.01, …, 1.00 exactly.

    So the number of p up to x is binomial, and its middle 99.99 % is what is asked of it; and the distance of
    Kolmogorov and Smirnov, of which steps of 0.01 make no more than 0.01, stays below its critical value at 1e-4.
    """
    for bound in (0.1, 0.25, 0.5, 0.75):
        few, many = stats.binom.ppf([5e-5, 1 - 5e-5], len(p_values), bound)
        assert few <= (np.array(p_values) <= bound + 1e-9).sum() <= many
    assert stats.kstest(p_values, "uniform").statistic < stats.kstwo.ppf(1 - 1e-4, len(p_values)) + 0.01


def test_the_p_of_pure_noise_is_uniform(noise):
    looks_uniform([ranking.row(0).p_value for ranking in noise])


def test_the_corrected_p_of_the_best_layer_of_pure_noise_is_uniform(noise):
    looks_uniform([ranking.best.p_corrected for ranking in noise])


def test_the_p_of_the_cross_fitted_auc_of_pure_noise_is_not_too_small(noise):
    # Few distinct AUCs make for ties, which make p larger than uniform, never smaller.
    for bound in (0.1, 0.25, 0.5):
        many = stats.binom.ppf(1 - 1e-4, REPETITIONS, bound)
        assert sum(ranking.row(0).cv_p_value <= bound + 1e-9 for ranking in noise) <= many


def test_of_pure_noise_the_words_say_that_it_cannot_be_told_from_chance(noise):
    for ranking in noise:
        if ranking.best.p_corrected > 0.05:
            said = ranking.verdict()
            assert f"Layer {ranking.best.layer} is not distinguishable from chance: " in said
            assert "AUC 1.000 in sample" in said
            assert "label permutations reach at most 1.000" in said
            assert f"corrected over 2 layers p = {ranking.best.p_corrected:.3g}" in said
            assert not ranking.found()
    # p ≤ 0.05 has rate 0.05.
    assert sum(ranking.found() for ranking in noise) <= stats.binom.ppf(1 - 1e-4, REPETITIONS, 0.05)


def test_a_planted_difference_is_found_in_its_layer_every_time():
    # The squared margin of noise is χ² with d degrees of freedom times 1/6 + 1/20: 555 ± 15.5. 20 along one axis adds
    # 400. Of 99 permutations the best shares at most 5 of the 6 positives (all 6 is the observed labelling, which has
    # a chance of 1 in 230,230), so its gap along that axis is at most (5/6 − 1/20)·20 = 15.7, or 245 squared: the
    # observed one is ahead by 155, seven standard deviations of a difference of two. So p = 1/100 each time.
    rng = np.random.default_rng(5)
    for repetition in range(10):
        states = rng.standard_normal((26, 3, 2560), dtype=np.float32)
        states[:6, 1, 7] += 20
        ranking = validate(*labelled(states[:6], states[6:]), tasks=TASKS, permutations=PERMUTATIONS, seed=repetition)
        assert ranking.best.layer == 1
        assert ranking.best.p_value == ranking.best.p_corrected == pytest.approx(0.01)
        assert ranking.verdict().startswith("Layer 1 is distinguishable from chance: ")
        # Held out, the gap is 20·20/√(555 + 400) = 13 against a spread of 1: no pair is out of order.
        assert ranking.best.cv_auc == 1
        assert ranking.best.cv_p_value == pytest.approx(0.01)
        assert 0.4 < ranking.best.cv_auc_low < ranking.best.cv_auc_high == 1


@pytest.mark.parametrize("spread", [0.0, 3.0])
def test_under_the_within_task_scheme_tasks_that_differ_leave_p_uniform(spread):
    # A task's own shift is in both classes alike, and permuting within tasks keeps it out of every difference.
    rng = np.random.default_rng(6)
    tasks = [f"t{n % 6}" for n in range(24)]
    found = []
    for repetition in range(80):
        states = rng.standard_normal((24, 1, 12)) + spread * rng.standard_normal((6, 1, 12))[np.arange(24) % 6]
        states = states.astype(np.float32)
        ranking = validate(*labelled(states[:12], states[12:]), tasks=tasks, permutations=99, seed=repetition)
        assert "within tasks" in ranking.null
        found.append(ranking.row(0).p_value)
    looks_uniform(found)


def test_tasks_that_set_the_classes_apart_are_taken_out_where_they_can_be():
    # Task 0 and task 1 are far apart, and most positives are of task 1: over all traces the classes differ by that
    # alone, within tasks not at all. The shift of 30 is far beyond what six noisy coordinates add.
    states = residuals(8, 24, 1, 6)
    tasks = ["a"] * 3 + ["b"] * 9 + ["a"] * 9 + ["b"] * 3
    states[[t == "b" for t in tasks], 0, 0] += 30
    within = validate(*labelled(states[:12], states[12:]), tasks=tasks, permutations=199)
    free = validate(*labelled(states[:12], states[12:]), permutations=199)
    assert "within tasks" in within.null
    assert "over all traces" in free.null
    assert free.best.p_value < 0.05 < within.best.p_value


# ------------------------------------------------------------------------------------------------ the margin of noise


def test_the_margin_of_noise_at_six_against_twenty_traces_is_that_of_the_formula(noise):
    # √(1/6 + 1/20) = 0.465. A squared margin is that times χ² with 2560 degrees of freedom over 2560, whose standard
    # deviation is 2.8 %; that of the mean of 60 is 0.36 %, and half of it is left by the root: 1 % is five of them.
    expected = (1 / 6 + 1 / 20) ** 0.5
    rows = [ranking.row(0) for ranking in noise]
    assert np.mean([row.margin_ratio for row in rows]) == pytest.approx(expected, rel=0.01)
    # tr Σ of 24 degrees of freedom in 2560 dimensions is known to 0.6 %, the ambient norm to 0.3 %.
    assert [row.margin_ratio_noise for row in rows] == pytest.approx([expected] * REPETITIONS, rel=0.02)
    assert [row.margin_ratio_null_mean for row in rows] == pytest.approx([expected] * REPETITIONS, rel=0.02)
    assert all(row.margin_ratio_null_mean < row.margin_ratio_null_p95 for row in rows)
    assert "and noise 0.4" in rows[0].margin_in_words()


@pytest.mark.parametrize("shift", [0.0, 40.0])
def test_the_squared_margin_of_noise_is_estimated_without_bias_for_any_spread_and_mean(shift):
    # Noise along few axes, about a large common mean: nothing is isotropic. The estimate must not see `shift`, by which
    # the classes differ; the margins of the same noise without it are what it estimates.
    rng = np.random.default_rng(9)
    scales, draws = np.array([5.0, 2.0, 1.0, 0.1]), 4000
    noise = rng.standard_normal((draws, 13, 4)) * scales + 100
    margins = np.linalg.norm(noise[:, :4].mean(axis=1) - noise[:, 4:].mean(axis=1), axis=1)
    noise[:, :4, 2] += shift
    estimates = np.array([noise_margins(states.astype(np.float32)[:, None], 4)[0] for states in noise])
    expected = (scales**2).sum() * (1 / 4 + 1 / 9)
    for squares in (margins**2, estimates**2):
        error = squares.std() / draws**0.5
        assert squares.mean() == pytest.approx(expected, abs=4 * error)


@settings(max_examples=25, deadline=None)
@given(seeds, st.integers(1, 5), st.integers(1, 5))
def test_over_all_labellings_the_squared_margins_average_to_that_of_noise_with_the_whole_spread(seed, n_pos, n_neg):
    # Of a finite set of n vectors, the difference of the means of a random n₊ and the rest has the mean square
    # S/(n − 1)·(1/n₊ + 1/n₋), with S the squared distances from the mean of all. With S of the classes instead, and
    # n − 2, this is the value of noise: both agree where the classes have the same mean.
    x = residuals(seed, n_pos + n_neg, 1, 3).astype(np.float64)
    observed = Labellings.observed(n_pos, n_neg)
    centred = centred_states(x, 0)
    every = permuted(observed, choose_scheme(observed), 1000, 0)
    margins = fit(centred @ centred.T, every, METHODS["mean-difference"], 3).margins
    whole = (centred**2).sum() / (len(x) - 1) * (1 / n_pos + 1 / n_neg)
    assert (margins**2).mean() == pytest.approx(whole)
    x[:n_pos] -= x[:n_pos].mean(axis=0)
    x[n_pos:] -= x[n_pos:].mean(axis=0)
    if len(x) > 2:
        within = (x**2).sum() / (len(x) - 2) * (1 / n_pos + 1 / n_neg)
        assert noise_margins(x, n_pos) ** 2 == pytest.approx(within)


def test_two_traces_show_no_spread():
    row = validate(*labelled(residuals(0, 1, 1), residuals(1, 1, 1))).best
    assert row.margin_ratio_noise is None
    assert row.margin_in_words().endswith(f"at most {row.margin_ratio_null_p95:.2f}")


def test_residuals_of_zero_have_no_ratio_to_anything():
    row = validate(*labelled(np.zeros((3, 1, 4), np.float32), np.zeros((4, 1, 4), np.float32))).best
    assert (row.margin_ratio, row.margin_ratio_null_mean, row.margin_ratio_null_p95, row.margin_ratio_noise) == (0,) * 4


# ------------------------------------------------------------------------------------------------ oracles


@pytest.mark.parametrize("estimator", get_args(EstimatorName))
def test_the_null_is_what_refitting_in_d_dimensions_gives(estimator):
    x = residuals(2, 9, 2, 12)
    tasks, rewards = [f"t{n % 3}" for n in range(9)], [1.0, 0.8, 0.9, 0.7, 0.1, 0.0, 0.3, 0.2, 0.0]
    ranking = validate(
        *labelled(x[:4], x[4:]), estimator=estimator, tasks=tasks, rewards=rewards, permutations=19, seed=3
    )
    given_ = Labellings.observed(4, 5, tasks, rewards if estimator == "ridge" else None)
    every = permuted(given_, choose_scheme(given_), 19, 3)
    margins, aucs = np.empty((2, 20)), np.empty((2, 20))
    for b, (labels, worth) in enumerate(zip(every.labels, every.rewards, strict=True)):
        order = [*np.flatnonzero(labels), *np.flatnonzero(~labels)]
        states, names = x[order], [tasks[i] for i in order]
        vectors = estimate(states[:4], states[4:], estimator, tasks=names, rewards=worth[order])
        for layer, v in enumerate(vectors.astype(float)):
            scores = states[:, layer].astype(float) @ v / np.linalg.norm(v)
            margins[layer, b] = np.linalg.norm(v)
            aucs[layer, b] = auc(scores[:4], scores[4:])
    own = (margins >= margins[:, :1] - 1e-6).mean(1)
    z = (margins - margins.mean(1, keepdims=True)) / margins.std(1, keepdims=True)
    for layer, row in enumerate(by_layer(ranking)):
        assert row.margin == pytest.approx(margins[layer, 0], rel=1e-4)
        ambient = np.linalg.norm(x[:, layer].astype(float), axis=1).mean()
        assert row.margin_ratio_null_mean == pytest.approx(margins[layer, 1:].mean() / ambient, rel=1e-4)
        assert row.margin_ratio_null_p95 == pytest.approx(sorted(margins[layer, 1:])[18] / ambient, rel=1e-4)
        assert row.auc == aucs[layer, 0]
        assert row.auc_null_p95 == sorted(aucs[layer, 1:])[18]  # the lowest value that at least 95 % of 19 reach up to
        assert row.p_value == pytest.approx(own[layer])
        assert row.p_corrected == pytest.approx(np.mean(z.max(0) >= z[layer, 0] - 1e-6))


@settings(max_examples=30)
@given(seeds, st.integers(1, 4), st.integers(2, 12))
def test_p_values_by_counting_labelling_by_labelling(seed, layers, count):
    margins = np.random.default_rng(seed).integers(1, 5, (layers, count)).astype(float)
    own, corrected = margin_p_values(margins)

    def standard(layer, value):
        spread = float(np.std(margins[layer]))
        return (value - float(np.mean(margins[layer]))) / spread if spread else 0.0

    for layer in range(layers):
        seen = standard(layer, margins[layer, 0])
        assert own[layer] == pytest.approx(sum(margins[layer, b] >= margins[layer, 0] for b in range(count)) / count)
        largest = [max(standard(other, margins[other, b]) for other in range(layers)) for b in range(count)]
        assert corrected[layer] == pytest.approx(sum(value >= seen - 1e-9 for value in largest) / count)
    assert (corrected >= own - 1e-12).all()


@pytest.mark.parametrize(("below", "ties"), [(1e-13, True), (1e-9, True), (1e-3, False)])
def test_a_margin_that_is_lower_by_no_more_than_rounding_is_a_tie(below, ties):
    # Of four labellings the second reaches the observed margin 1 but for `below`; the standard deviation is about 0.4.
    own, corrected = margin_p_values(np.array([[1.0, 1.0 - below, 0.3, 0.2]]))
    assert own.tolist() == corrected.tolist() == [0.5 if ties else 0.25]


def test_one_layer_needs_no_correction():
    row = validate(*labelled(residuals(1, 4, 1), residuals(2, 5, 1)), permutations=50).best
    assert row.p_corrected == row.p_value


def test_the_smallest_p_value_of_few_traces_is_exact():
    # 2 against 3: the observed labelling is the best of C(5, 2) = 10. 3 against 3: its mirror image ties, 2 of 20.
    for n_pos, n_neg, expected in ((2, 3, 1 / 10), (3, 3, 2 / 20)):
        pos, neg = residuals(1, n_pos), residuals(2, n_neg)
        pos[:, :, 0] += 100
        assert [row.p_value for row in validate(*labelled(pos, neg)).rows] == pytest.approx([expected] * 3)


@pytest.mark.parametrize("offset", [1e3, 1e5])
def test_an_activation_that_all_traces_share_does_not_blur_the_null(offset):
    # A few coordinates of the residual stream are thousands of times the rest in every trace.
    states = residuals(5, 6, 1, 64) * np.float32(0.05)
    states[:, :, 3] += offset
    observed = Labellings.observed(3, 3)
    every = permuted(observed, choose_scheme(observed), 1000, 0)
    centred = centred_states(states, 0)
    margins = fit(centred @ centred.T, every, METHODS["mean-difference"], 64).margins
    assert len(margins) == 20
    for row, margin in zip(every.labels, margins, strict=True):
        v = states[row, 0].astype(float).mean(0) - states[~row, 0].astype(float).mean(0)
        assert margin == pytest.approx(float(np.linalg.norm(v)), rel=1e-10)


def test_labellings_are_the_same_whatever_the_chunks(monkeypatch):
    x = residuals(4, 10)
    whole = validate(*labelled(x[:4], x[4:]), permutations=50)
    monkeypatch.setattr(module, "CHUNK", 7)
    for one, other in zip(by_layer(whole), by_layer(validate(*labelled(x[:4], x[4:]), permutations=50)), strict=True):
        for name, value in vars(one).items():
            assert getattr(other, name) == pytest.approx(value)


# ------------------------------------------------------------------------------------------------ relations


@settings(max_examples=10, deadline=None)
@given(seeds, st.integers(-3, 3), st.sampled_from(get_args(EstimatorName)))
def test_scaling_the_residuals_scales_margins_and_leaves_every_p(seed, power, estimator):
    x = residuals(seed, 9, 2, 6)
    one = validate(*labelled(x[:4], x[4:]), estimator=estimator, permutations=29)
    other = validate(*labelled(x[:4] * 2.0**power, x[4:] * 2.0**power), estimator=estimator, permutations=29)
    for a, b in zip(by_layer(one), by_layer(other), strict=True):
        assert b.margin == pytest.approx(a.margin * 2.0**power)
        assert (b.p_value, b.p_corrected, b.cv_p_value, b.auc) == (a.p_value, a.p_corrected, a.cv_p_value, a.auc)
        assert b.margin_ratio == pytest.approx(a.margin_ratio)


@settings(max_examples=10, deadline=None)
@given(seeds)
def test_swapping_the_classes_turns_the_mean_difference_round_and_leaves_what_it_is_worth(seed):
    x = residuals(seed, 9, 2, 6)
    tasks = [f"t{n % 4}" for n in range(9)]
    # 126 labellings: all are taken, so both have the same null.
    one = validate(*labelled(x[:4], x[4:]), tasks=tasks)
    other = validate(*labelled(x[4:], x[:4]), tasks=tasks[4:] + tasks[:4])
    for a, b in zip(by_layer(one), by_layer(other), strict=True):
        assert b.margin == pytest.approx(a.margin)
        assert (b.p_value, b.p_corrected) == (a.p_value, a.p_corrected)
        assert b.auc == pytest.approx(a.auc)
        assert b.cv_auc == pytest.approx(a.cv_auc)
        assert b.stability_min == pytest.approx(a.stability_min)


def test_the_margin_is_the_directions_length_and_the_dose_of_alpha_one():
    pos, neg = residuals(3, 8, 3, 50), residuals(4, 8, 3, 50)
    for estimator in get_args(EstimatorName):
        vectors = estimate(pos, neg, estimator)
        for row in validate(*labelled(pos, neg), estimator=estimator, permutations=19).rows:
            assert row.margin == pytest.approx(float(np.linalg.norm(vectors[row.layer])), rel=1e-5)
            assert row.margin_ratio == pytest.approx(row.margin / row.ambient_norm)
            assert row.dose(-3) == pytest.approx(3 * row.margin_ratio)


def test_the_cosine_with_a_reference_is_told_layer_by_layer():
    pos, neg = residuals(3, 4), residuals(4, 4)
    v = estimate(pos, neg)
    rng = np.random.default_rng(0)
    other = rng.standard_normal(5)
    other -= other @ v[1] * v[1] / (v[1] @ v[1])
    reference = np.stack([-2 * v[0], other, np.zeros(5)]).astype(np.float32)
    got = [
        row.reference_cosine for row in by_layer(validate(*labelled(pos, neg), permutations=19, reference=reference))
    ]
    assert got[:2] == pytest.approx([-1, 0], abs=1e-6)
    assert got[2] is None
    with pytest.raises(ValueError, match=r"reference of shape \(2, 5\)"):
        validate(*labelled(pos, neg), reference=reference[:2])


# ------------------------------------------------------------------------------------------------ what is written


def test_layers_are_in_order_of_corrected_p_own_p_held_out_auc_and_ratio():
    ranking = validate(*labelled(residuals(0, 6, 12), residuals(1, 7, 12)), permutations=99)
    keys = [(row.p_corrected, row.p_value, -row.cv_auc, -row.margin_ratio) for row in ranking.rows]
    assert keys == sorted(keys)
    assert sorted(row.layer for row in ranking.rows) == list(range(12))


def test_the_csv_has_the_contracts_columns_first_and_nothing_where_nothing_is_known(tmp_path):
    validate(*labelled(residuals(0, 3), residuals(1, 3)), tasks=["a"] * 6).write_csv(
        tmp_path / "ranking.csv", ("model", "steps")
    )
    rows = list(csv.DictReader((tmp_path / "ranking.csv").read_text().splitlines()))
    assert ",".join(rows[0]) == COLUMNS
    assert len(rows) == 3
    assert [row["flags"] for row in rows] == ["model;steps"] * 3
    assert {rows[0][name] for name in ("cv_auc", "cv_p_value", "stability_min", "reference_cosine")} == {""}


@pytest.mark.parametrize(
    ("tasks", "said"),
    [
        (["a"] * 7, "not cross-fitted: all traces are of one task"),
        (["a"] * 3 + ["b", "c", "d", "e"], "not cross-fitted: all positives are in one fold of tasks"),
        (["a", "b", "a", "a", "b", "c", "c"], "cross-fitted leaving out one of 3 tasks at a time"),
        (None, "cross-fitted leaving out one of 7 tasks at a time"),
    ],
)
def test_how_tasks_were_held_out_is_said_in_words(tasks, said):
    ranking = validate(*labelled(residuals(0, 3), residuals(1, 4)), tasks=tasks)
    assert ranking.folds.startswith(said)
    assert (ranking.best.cv_auc is None) == said.startswith("not")
    assert ("not cross-fitted" in ranking.verdict()) == said.startswith("not")


def test_many_tasks_are_held_out_in_groups():
    ranking = validate(*labelled(residuals(0, 12, 1), residuals(1, 13, 1)), permutations=19)
    assert ranking.folds == "cross-fitted leaving out one of 20 groups of 25 tasks at a time"


def test_a_difference_that_other_tasks_do_not_show_is_called_that():
    # The verdict is a function of the row alone.
    ranking = validate(*labelled(residuals(0, 3, 1), residuals(1, 4, 1)), permutations=19)
    row = replace(ranking.best, p_corrected=0.01, cv_p_value=0.4)
    assert "does not tell them apart" in replace(ranking, rows=(row,)).verdict()
    assert "apart" not in replace(ranking, rows=(replace(row, cv_p_value=0.01),)).verdict()
    assert "apart" not in replace(ranking, rows=(replace(row, p_corrected=0.2),)).verdict()


@pytest.mark.parametrize("estimator", get_args(EstimatorName))
def test_the_order_of_labelled_traces_does_not_matter_beyond_the_order_within_each_class(estimator):
    x, rewards = residuals(5, 9, 2, 12), np.linspace(0, 1, 9)
    tasks = [f"t{n % 3}" for n in range(9)]
    mixed = np.array([4, 0, 5, 6, 1, 7, 2, 3, 8])  # each class keeps its order
    labels = np.arange(9) < 4
    whole = estimate_direction(x, labels, tasks=tasks, estimator=estimator, rewards=rewards)
    ranking = validate(x, labels, tasks=tasks, estimator=estimator, rewards=rewards, permutations=19)
    changed = {"tasks": [tasks[n] for n in mixed], "estimator": estimator, "rewards": rewards[mixed]}
    again = estimate_direction(x[mixed], labels[mixed].tolist(), **changed)
    assert again.hash == whole.hash
    np.testing.assert_allclose(again.ambient_norm, whole.ambient_norm)
    assert validate(x[mixed], labels[mixed].tolist(), permutations=19, **changed) == ranking


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"labels": [True] * 4}, "4 positives and 0 negatives"),
        ({"labels": [True, False]}, "2 labels for 4 traces"),
        ({"tasks": ["a"]}, "1 tasks for 4 traces"),
        ({"rewards": [1.0] * 5}, "5 rewards for 4 traces"),
        ({"residuals": np.ones((4, 3), np.float32)}, r"\(4, 3\); expected \[n, n_layers, d_model\]"),
    ],
)
@pytest.mark.parametrize("function", [validate, estimate_direction])
def test_labels_that_do_not_go_with_the_residuals_are_refused(function, changes, said):
    arguments = {"residuals": residuals(0, 4), "labels": [True, True, False, False]} | changes
    with pytest.raises(ValueError, match=said):
        function(**arguments)


@pytest.mark.parametrize("function", [validate, estimate_direction])
def test_the_examples_of_the_documentation_run(function):
    module = sys.modules[function.__module__]
    (example,) = doctest.DocTestFinder(recurse=False).find(function, globs=vars(module))
    assert example.examples
    assert doctest.DocTestRunner().run(example).failed == 0
