"""Permuted labellings, folds of tasks, cross-fitted scores, and the interval of their AUC."""

from __future__ import annotations

import math
from collections import Counter
from itertools import product
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from support.labelled import estimate

from capvec.directions.auc_interval import auc_interval
from capvec.directions.estimators import METHODS
from capvec.directions.folds import cross_fitted_scores, group_tasks, parts, refit_cosines, why_not
from capvec.directions.labels import Labellings
from capvec.directions.permute import MIN_ARRANGEMENTS, choose_scheme, others, permuted
from capvec.directions.recipe import EstimatorName

pytestmark = pytest.mark.unit

seeds = st.integers(0, 2**31)


def observed(*tasks, rewards=None):
    """From `(positives, negatives)` of each task."""
    names = [f"t{t}" for t, (pos, _) in enumerate(tasks) for _ in range(pos)]
    names += [f"t{t}" for t, (_, neg) in enumerate(tasks) for _ in range(neg)]
    n_pos = sum(pos for pos, _ in tasks)
    return Labellings.observed(n_pos, len(names) - n_pos, names, rewards)


def distinct(labels):
    return {tuple(row) for row in labels.tolist()}


# ------------------------------------------------------------------------------------------------ permuting

counts = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=5)


@settings(max_examples=50)
@given(counts, seeds)
def test_permuting_within_tasks_keeps_every_tasks_positives(tasks, seed):
    if not sum(pos for pos, _ in tasks) or not sum(neg for _, neg in tasks):
        return
    given_ = observed(*tasks)
    scheme = choose_scheme(given_)
    arrangements = math.prod(math.comb(pos + neg, pos) for pos, neg in tasks)
    assert scheme.within_task == (arrangements >= MIN_ARRANGEMENTS)
    labels = permuted(given_, scheme, 50, seed).labels
    assert (labels.sum(1) == given_.labels.sum()).all()
    if scheme.within_task:
        for task in set(given_.tasks.tolist()):
            assert len(set(labels[:, given_.tasks == task].sum(1).tolist())) == 1


def test_within_tasks_needs_enough_arrangements_for_a_p_of_one_percent():
    # C(4, 2)² = 36 and C(4, 2)³ = 216 labellings within tasks, against 100.
    assert not choose_scheme(observed((2, 2), (2, 2))).within_task
    assert choose_scheme(observed((2, 2), (2, 2), (2, 2))).within_task
    assert str(choose_scheme(observed((6, 0), (0, 20)))).startswith("over all traces")


@pytest.mark.parametrize(
    ("tasks", "expected"),
    [
        ([(2, 3)], math.comb(5, 2)),
        ([(3, 0), (0, 3)], math.comb(6, 3)),
        ([(2, 2), (2, 2), (1, 2)], 6 * 6 * 3),
    ],
)
def test_all_labellings_are_taken_where_they_are_few_the_observed_one_first(tasks, expected):
    given_ = observed(*tasks)
    scheme = choose_scheme(given_)
    labels = permuted(given_, scheme, 1000, 0).labels
    assert scheme.arrangements == len(labels) == len(distinct(labels)) == expected
    assert (labels[0] == given_.labels[0]).all()
    # One short of all, they are drawn.
    assert len(permuted(given_, scheme, expected - 2, 0).labels) == 1 + expected - 2


def test_drawn_labellings_are_equally_likely():
    given_ = observed((2, 2), (2, 2), (2, 2))
    drawn = np.concatenate([permuted(given_, choose_scheme(given_), 200, seed).labels[1:] for seed in range(20)])
    times = Counter(tuple(row) for row in drawn.tolist())
    # 4000 draws of 216 labellings: a chi-squared with 215 degrees of freedom, at 1e-4.
    counts = np.array([*times.values(), *[0] * (216 - len(times))])
    assert ((counts - 4000 / 216) ** 2).sum() / (4000 / 216) < stats.chi2.ppf(1 - 1e-4, 215)


def test_rewards_go_with_their_labels():
    given_ = observed((2, 3), rewards=[1.0, 0.9, 0.1, 0.2, 0.3])
    every = permuted(given_, choose_scheme(given_), 50, 0)
    # They differ within a class, so no labelling says where each goes, and they are drawn.
    assert every.labels.shape == (51, 5)
    for labels, rewards in zip(every.labels, every.rewards, strict=True):
        assert sorted(rewards[labels]) == [0.9, 1.0]
        assert sorted(rewards[~labels]) == [0.1, 0.2, 0.3]
    plain = permuted(observed((2, 3), rewards=[5.0, 5.0, 3.0, 3.0, 3.0]), choose_scheme(given_), 50, 0)
    assert len(plain.labels) == 10
    np.testing.assert_array_equal(plain.rewards, np.where(plain.labels, 5.0, 3.0))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("tasks", "mirrored"), [([(2, 3)], False), ([(3, 3)], True)])
def test_the_controls_labels_are_neither_the_observed_nor_each_others_nor_the_mirror_image(tasks, mirrored, seed):
    given_ = observed(*tasks)
    n = given_.labels.size
    available = math.comb(n, n // 2) - (2 if mirrored else 1)
    labels = others(given_, choose_scheme(given_), available, seed).labels
    assert len(distinct(labels)) == available
    assert not distinct(labels) & distinct(np.concatenate([given_.labels, *([~given_.labels] if mirrored else [])]))
    with pytest.raises(ValueError, match=f"{available} other labellings where {available + 1} are needed"):
        others(given_, choose_scheme(given_), available + 1, seed)


# ------------------------------------------------------------------------------------------------ folds


@given(st.lists(st.integers(0, 40), min_size=1, max_size=60), st.integers(1, 8))
def test_folds_hold_whole_tasks_and_are_about_equal(tasks, at_most):
    numbers = np.array(tasks)
    folds = group_tasks(numbers, at_most)
    assert len(set(zip(tasks, folds.tolist(), strict=True))) == len(set(tasks))
    assert len(set(folds.tolist())) == min(at_most, len(set(tasks)))
    sizes = np.bincount(folds)
    # The fold that got its last task was the lightest then.
    assert sizes.max() - sizes.min() <= max(Counter(tasks).values())


def test_folds_that_leave_no_class_out_are_fine_and_others_say_why():
    assert why_not(np.array([True, True, False, False]), np.array([0, 1, 0, 1])) == ""
    assert why_not(np.array([True, False]), np.array([0, 0])) == "all traces are of one task"
    assert why_not(np.array([True, True, False, False]), np.array([0, 0, 0, 1])).startswith("all positives are in one")
    assert why_not(np.array([True, True, False, False]), np.array([0, 1, 0, 0])).startswith("all negatives are in one")


@pytest.mark.parametrize("estimator", get_args(EstimatorName))
def test_cross_fitted_scores_and_cosines_are_those_of_refits_in_d_dimensions(estimator):
    tasks = [(2, 1), (1, 2), (1, 1), (0, 2)]
    given_ = observed(*tasks)
    n = given_.labels.size
    x = np.random.default_rng(5).standard_normal((n, 30)).astype(np.float32) + 3
    labels = np.array([given_.labels[0], np.random.default_rng(1).permutation(given_.labels[0])])
    labellings = Labellings(labels, labels.astype(float), given_.tasks)
    centred = x.astype(float) - x.astype(float).mean(0)
    gram = centred @ centred.T

    def refit(labels, kept):
        side = labels[kept]
        names = given_.tasks[kept]
        order = [*np.flatnonzero(side), *np.flatnonzero(~side)]
        rows = x[kept][order][:, None, :]
        v = estimate(rows[: side.sum()], rows[side.sum() :], estimator, tasks=[str(names[i]) for i in order])[0]
        return v.astype(float) / np.linalg.norm(v.astype(float))

    scores = cross_fitted_scores(gram, parts(labellings, given_.tasks), METHODS[estimator], 30)
    for row, own in zip(labels, scores, strict=True):
        for task in range(4):
            held = given_.tasks == task
            expected = (x[held] - x[~held].mean(0, dtype=float)) @ refit(row, ~held)
            np.testing.assert_allclose(own[held], expected, atol=1e-4)
    whole = refit(labels[0], np.ones(n, bool))
    cosines = [whole @ refit(labels[0], given_.tasks != task) for task in range(4)]
    got = refit_cosines(gram, labellings.rows(slice(0, 1)), METHODS[estimator], 30)
    np.testing.assert_allclose(got, cosines, atol=1e-5)


def test_a_fold_without_which_a_class_is_missing_scores_nothing():
    given_ = observed((2, 1), (0, 2))
    x = np.random.default_rng(0).standard_normal((5, 8))
    centred = x - x.mean(0)
    scores = cross_fitted_scores(centred @ centred.T, parts(given_, given_.tasks), METHODS["mean-difference"], 8)
    assert (scores[0, given_.tasks == 0] == 0).all()
    assert (scores[0, given_.tasks == 1] != 0).all()
    assert refit_cosines(centred @ centred.T, given_, METHODS["mean-difference"], 8).shape == (1,)


def test_held_out_scores_of_noise_lie_on_neither_side():
    # 6 against 20 at d = 2560, each trace its own task. Were scores measured from the middle of the class means, a
    # positive that is held out would move it by d/2·(1/5 − 1/6) = 43, and scores vary by √(d·(1/6 + 1/20)) = 24: the
    # AUC would be near 0. From the mean of all it is one half on average, give or take the variance of a
    # Mann-Whitney statistic, (n₊ + n₋ + 1)/(12n₊n₋) = 0.137²; 40 of them vary by 0.022, and six times that is 0.13.
    rng = np.random.default_rng(0)
    given_ = Labellings.observed(6, 20)
    part = parts(given_, given_.tasks)
    values = []
    for _ in range(40):
        x = rng.standard_normal((26, 2560))
        centred = x - x.mean(0)
        scores = cross_fitted_scores(centred @ centred.T, part, METHODS["mean-difference"], 2560)[0]
        values.append(np.mean([p > n for p, n in product(scores[:6], scores[6:])]))
    assert abs(np.mean(values) - 0.5) < 0.13


# ------------------------------------------------------------------------------------------------ interval


def newcombe_variance(theta, m, n):
    """Method 4 and 5's variance as in Newcombe (2006), with N* = (m + n)/2 − 1."""
    star = (m + n) / 2 - 1
    return theta * (1 - theta) / (m * n) * (1 + star * (1 - theta) / (2 - theta) + star * theta / (1 + theta))


@settings(max_examples=40)
@given(seeds, st.integers(2, 8), st.integers(2, 8))
def test_the_ends_of_the_interval_are_as_far_from_the_auc_as_its_variance_there_says(seed, m, n):
    scores = np.random.default_rng(seed).integers(0, 6, m + n).astype(float)
    labels = np.arange(m + n) < m
    value = np.mean([(p > q) + 0.5 * (p == q) for p in scores[:m] for q in scores[m:]])
    found = auc_interval(scores, labels, np.arange(m + n))
    assert 0 <= found.low <= value <= found.high <= 1
    assert found.high - found.low > 0.05
    for end in (found.low, found.high):
        if 0 < end < 1:
            assert abs(end - value) == pytest.approx(1.959964 * math.sqrt(newcombe_variance(end, m, n)), rel=1e-4)
    turned = auc_interval(-scores, labels, np.arange(m + n))
    assert (turned.low, turned.high) == pytest.approx((1 - found.high, 1 - found.low), abs=1e-6)


@settings(max_examples=25)
@given(seeds, st.integers(2, 4))
def test_traces_repeated_within_their_cluster_add_nothing(seed, times):
    # The cluster variance of repeated traces is that of the traces once; so is what they leave as sample size.
    scores = np.random.default_rng(seed).standard_normal(9)
    labels, clusters = np.arange(9) < 4, np.arange(9)
    once = auc_interval(scores, labels, clusters)
    repeated = auc_interval(*(np.repeat(part, times) for part in (scores, labels, clusters)))
    assert (repeated.low, repeated.high) == pytest.approx((once.low, once.high))


def test_at_auc_one_the_interval_has_a_width_and_counts_tasks_not_traces():
    scores, labels = np.arange(24.0), np.arange(24) >= 12
    alone, of_six = auc_interval(scores, labels, np.arange(24)), auc_interval(scores, labels, np.arange(24) // 4)
    assert alone.high == of_six.high == 1
    assert of_six.low < alone.low < 0.95
    # 3 and 3 tasks: the root of 1 − θ = z·√V(θ).
    assert 1 - of_six.low == pytest.approx(1.959964 * math.sqrt(newcombe_variance(of_six.low, 3, 3)), rel=1e-4)


def test_clusters_that_shift_both_classes_alike_widen_nothing():
    # Two positives and two negatives a task, far apart from task to task: where positives win more, negatives lose
    # less, and Obuchowski's covariance of the two takes out what the likeness within a class puts in.
    rng = np.random.default_rng(4)
    tasks, labels = np.repeat(np.arange(10), 4), np.tile([True, True, False, False], 10)
    scores = 5 * rng.standard_normal(10)[tasks] + labels + 0.1 * rng.standard_normal(40)
    assert auc_interval(scores, labels, tasks) == auc_interval(scores, labels, np.arange(40))
    # With each class in tasks of its own, the same scores are worth fewer.
    apart = auc_interval(scores, labels, tasks + 10 * labels)
    assert apart.high - apart.low > 1.2 * (
        auc_interval(scores, labels, tasks).high - auc_interval(scores, labels, tasks).low
    )


def test_the_interval_covers_the_auc_of_clustered_scores():
    # 14 tasks of three traces, half of them positive; a task's shift makes for a correlation of one half within it.
    # True AUC: Φ(1.5/√(2·2)) with variance 1 + 1 of each score. A miss rate of 5 % in 300 tries is below 10 % (30
    # tries) but for 3e-4; taken as independent, the same scores miss it more often.
    rng = np.random.default_rng(2)
    truth, tasks = stats.norm.cdf(1.5 / 2), np.repeat(np.arange(14), 3)
    labels = tasks < 7
    missed = {"clustered": 0, "alone": 0}
    for _ in range(300):
        scores = 1.5 * labels + rng.standard_normal(14)[tasks] + rng.standard_normal(42)
        for name, clusters in (("clustered", tasks), ("alone", np.arange(42))):
            found = auc_interval(scores, labels, clusters)
            missed[name] += not found.low <= truth <= found.high
    assert missed["clustered"] <= 30 < missed["alone"]


def test_an_interval_needs_both_classes():
    with pytest.raises(ValueError, match="2 positives of 2"):
        auc_interval(np.ones(2), np.ones(2, bool), np.arange(2))
