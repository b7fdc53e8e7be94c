"""The estimators, each against a plain implementation in d dimensions that knows nothing of Gram matrices."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize
from support.labelled import estimate

from capvec.directions.estimate import directions
from capvec.directions.estimators import METHODS, ledoit_wolf
from capvec.directions.labels import Labellings
from capvec.directions.recipe import EstimatorName

pytestmark = pytest.mark.unit

NAMES = get_args(EstimatorName)
seeds = st.integers(0, 2**31)
sizes = st.integers(2, 6)


def sample(seed, n_pos, n_neg, layers=2, d=5, shift=1.0):
    """Residuals with a little signal, tasks and rewards, positives first."""
    rng = np.random.default_rng(seed)
    states = rng.standard_normal((n_pos + n_neg, layers, d)).astype(np.float32) * np.linspace(0.5, 2, d, dtype="f")
    states[:n_pos, :, 0] += shift
    tasks = [f"t{number}" for number in rng.integers(0, 3, n_pos + n_neg)]
    rewards = np.concatenate([1 + rng.random(n_pos), rng.random(n_neg)])
    return states, tasks, rewards


# ------------------------------------------------------------------------------------------------ plain references


def plain_mean_difference(x, positive, _tasks, _rewards):
    return x[positive].mean(0) - x[~positive].mean(0)


def plain_shrinkage(x):
    """Ledoit and Wolf's intensity by its definition, one outer product at a time; and the mean eigenvalue."""
    n, d = x.shape
    centred = x - x.mean(0)
    cov = centred.T @ centred / n
    mean = np.trace(cov) / d
    spread = ((cov - mean * np.eye(d)) ** 2).sum() / d
    noise = sum(((np.outer(row, row) - cov) ** 2).sum() / d for row in centred) / n**2
    return min(noise, spread) / spread, mean, cov


def plain_whitened(x, positive, _tasks, _rewards):
    """With the covariance *within* classes, and the same λ: the direction must not tell the difference."""
    rho, mean, _ = plain_shrinkage(x)
    within = np.concatenate([x[side] - x[side].mean(0) for side in (positive, ~positive)])
    matrix = (1 - rho) * within.T @ within / len(x) + rho * mean * np.eye(x.shape[1])
    return np.linalg.solve(matrix, x[positive].mean(0) - x[~positive].mean(0))


def plain_logistic(x, positive, _tasks, _rewards):
    centred = x - x.mean(0)
    penalty = (centred**2).sum() / len(x)
    sign = np.where(positive, 1, -1)

    def loss(parameters):
        beta, intercept = parameters[:-1], parameters[-1]
        wrong = 1 / (1 + np.exp(sign * (centred @ beta + intercept)))
        value = np.log1p(np.exp(-sign * (centred @ beta + intercept))).sum() + penalty / 2 * beta @ beta
        return value, np.append(penalty * beta - (sign * wrong) @ centred, -(sign * wrong).sum())

    found = optimize.minimize(loss, np.zeros(x.shape[1] + 1), jac=True, method="BFGS", options={"gtol": 1e-9})
    return found.x[:-1]


def plain_pairs(positive, tasks):
    """Greedy, in the order of the traces: within a task first, then what is left over."""
    left = {side: [i for i, p in enumerate(positive) if p == side] for side in (True, False)}
    pairs = []
    for task in sorted(set(tasks)):
        mine = {side: [i for i in left[side] if tasks[i] == task] for side in left}
        pairs += zip(mine[True], mine[False], strict=False)
    used = {i for pair in pairs for i in pair}
    # What is left over is taken task by task too.
    rest = {side: sorted((i for i in left[side] if i not in used), key=lambda i: (tasks[i], i)) for side in left}
    return pairs + list(zip(rest[True], rest[False], strict=False))


def plain_paired_pca(x, positive, tasks, _rewards):
    differences = np.array([x[p] - x[n] for p, n in plain_pairs(positive, tasks)])
    return np.linalg.svd(differences)[2][0]


def plain_ridge(x, _positive, _tasks, rewards):
    centred = x - x.mean(0)
    penalty = (centred**2).sum() / len(x)
    matrix = centred.T @ centred + penalty * np.eye(x.shape[1])
    return np.linalg.solve(matrix, centred.T @ (rewards - rewards.mean()))


PLAIN = {
    "mean-difference": plain_mean_difference,
    "whitened": plain_whitened,
    "logistic": plain_logistic,
    "paired-pca": plain_paired_pca,
    "ridge": plain_ridge,
}


@pytest.mark.parametrize(
    ("place", "names"),
    [
        ("METHODS in capvec/directions/estimators.py", METHODS),
        ("PLAIN in tests/unit/directions/test_estimators.py", PLAIN),
    ],
)
def test_the_estimators_are_those_that_the_option_offers(place, names):
    differ = set(names) ^ set(NAMES)
    assert not differ, f"{sorted(differ)} stand in only one of EstimatorName in capvec/directions/recipe.py and {place}"


def plain(estimator, x, positive, tasks, rewards):
    """With the natural length: the unit direction times the gap between the classes along it."""
    v = PLAIN[estimator](x.astype(float), positive, tasks, rewards)
    unit = v / np.linalg.norm(v)
    return unit * ((x[positive] @ unit).mean() - (x[~positive] @ unit).mean())


# ------------------------------------------------------------------------------------------------ against them


@pytest.mark.parametrize("estimator", NAMES)
@settings(max_examples=15, deadline=None)
@given(seeds, sizes, sizes, st.sampled_from([2, 5, 30]))
def test_an_estimator_gives_what_it_gives_in_d_dimensions(estimator, seed, n_pos, n_neg, d):
    states, tasks, rewards = sample(seed, n_pos, n_neg, d=d)
    got = estimate(states[:n_pos], states[n_pos:], estimator, tasks=tasks, rewards=rewards)
    assert got.dtype == np.float32
    positive = np.arange(n_pos + n_neg) < n_pos
    for layer in range(2):
        expected = plain(estimator, states[:, layer], positive, tasks, rewards)
        scale = np.linalg.norm(expected) + 1e-3
        np.testing.assert_allclose(got[layer] / scale, expected / scale, atol=2e-5)


@pytest.mark.parametrize("estimator", NAMES)
def test_many_labellings_at_once_are_fitted_like_each_alone(estimator):
    states, tasks, rewards = sample(3, 5, 7, d=40)
    rng = np.random.default_rng(0)
    orders = np.array([rng.permutation(12) for _ in range(6)])
    observed = Labellings.observed(5, 7, tasks, rewards)
    labellings = Labellings(observed.labels[0][orders], observed.rewards[0][orders], observed.tasks)
    got = directions(states, labellings, METHODS[estimator])
    for vectors, positive, worth in zip(got, labellings.labels, labellings.rewards, strict=True):
        expected = plain(estimator, states[:, 1], positive, tasks, worth)
        np.testing.assert_allclose(vectors[1], expected, atol=1e-5 * np.linalg.norm(expected))


@settings(max_examples=25)
@given(seeds, st.integers(2, 9), st.sampled_from([3, 20]))
def test_the_shrinkage_from_the_gram_matrix_is_that_of_the_covariance(seed, n, d):
    x = np.random.default_rng(seed).standard_normal((n, d)) * np.linspace(0.1, 3, d)
    centred = x - x.mean(0)
    assert ledoit_wolf(centred @ centred.T, d) == pytest.approx(plain_shrinkage(x)[:2])


@settings(max_examples=50)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3)), min_size=2, max_size=12))
def test_pairs_are_within_tasks_first_and_then_in_order(traces):
    positive = np.array([side for side, _ in traces])
    tasks = np.array([task for _, task in traces])
    labellings = Labellings(positive[None], positive[None].astype(float), tasks)
    left, right, exists = labellings.pairs
    got = [(int(p), int(n)) for p, n, there in zip(left[0], right[0], exists[0], strict=True) if there]
    assert sorted(got) == sorted(plain_pairs(positive, tasks.tolist()))
    assert len(got) == min(positive.sum(), (~positive).sum())


# ------------------------------------------------------------------------------------------------ relations


@pytest.mark.parametrize("estimator", NAMES)
@settings(max_examples=10, deadline=None)
@given(seeds, sizes, sizes)
def test_alpha_one_moves_the_negatives_mean_projection_onto_the_positives(estimator, seed, n_pos, n_neg):
    states, tasks, rewards = sample(seed, n_pos, n_neg, layers=1, d=8)
    pos, neg = states[:n_pos, 0].astype(float), states[n_pos:, 0].astype(float)
    (v,) = estimate(states[:n_pos], states[n_pos:], estimator, tasks=tasks, rewards=rewards).astype(float)
    unit = v / np.linalg.norm(v)
    assert ((neg + v) @ unit).mean() == pytest.approx((pos @ unit).mean(), abs=1e-4)


@pytest.mark.parametrize("estimator", NAMES)
@settings(max_examples=10, deadline=None)
@given(seeds, st.floats(0.01, 100), st.integers(-50, 50))
def test_shifting_leaves_a_direction_scaling_scales_it_and_turning_turns_it(estimator, seed, scale, shift):
    states, tasks, rewards = sample(seed, 4, 6, layers=1, d=6)
    turn = np.linalg.qr(np.random.default_rng(seed).standard_normal((6, 6)))[0].astype(np.float32)

    def fitted(states):
        return estimate(states[:4], states[4:], estimator, tasks=tasks, rewards=rewards)[0]

    v = fitted(states)
    room = 1e-4 * max(np.linalg.norm(v), 0.1) * (1 + abs(shift))  # float32 residuals of size `shift`
    np.testing.assert_allclose(fitted(states + shift), v, atol=room)
    np.testing.assert_allclose(fitted(states * np.float32(scale)) / scale, v, atol=room)
    np.testing.assert_allclose(fitted(states @ turn), v @ turn, atol=room)


@pytest.mark.parametrize("estimator", NAMES)
def test_traces_that_do_not_differ_give_the_zero_vector(estimator):
    same = np.full((3, 2, 4), 7, np.float32)
    assert not estimate(same, same, estimator).any()


def test_without_rewards_ridge_takes_the_classes_for_them():
    states, _, _ = sample(1, 4, 5)
    by_class = estimate(states[:4], states[4:], "ridge", rewards=[1.0] * 4 + [0.0] * 5)
    np.testing.assert_array_equal(estimate(states[:4], states[4:], "ridge"), by_class)


def test_a_stronger_shrinkage_is_nearer_to_the_mean_difference():
    # With very many coordinates of equal variance the covariance is shrunk to nearly a multiple of the identity, and
    # whitening by that does nothing; with few, and one of them loud, it turns away from the loud one.
    rng = np.random.default_rng(0)
    wide, loud = (rng.standard_normal((40, 1, d)).astype(np.float32) for d in (4000, 3))
    loud[:, :, 0] *= 20
    loud[:20, :, 1] += 1
    cosines = []
    for states in (wide, loud):
        a, b = estimate(states[:20], states[20:], "whitened")[0], estimate(states[:20], states[20:])[0]
        cosines.append(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    assert cosines[0] > 0.99
    assert abs(estimate(loud[:20], loud[20:], "whitened")[0][1]) > 3 * abs(
        estimate(loud[:20], loud[20:], "whitened")[0][0]
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"tasks": ["t"]}, "1 tasks for 5 traces"), ({"rewards": [1.0] * 4}, "4 rewards for 5 traces")],
)
def test_tasks_and_rewards_that_do_not_fit_the_traces_are_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        estimate(np.ones((2, 1, 3), np.float32), np.ones((3, 1, 3), np.float32), "ridge", **changes)


def test_rewards_that_are_no_numbers_are_refused():
    with pytest.raises(ValueError, match="expected finite numbers"):
        estimate(np.ones((1, 1, 3), np.float32), np.ones((1, 1, 3), np.float32), "ridge", rewards=[float("nan"), 0.0])
