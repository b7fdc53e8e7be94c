"""Drift of the baseline with time and between workers; with trends and without."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from support.outcomes import outcome

from capvec.stats.drift import drift

pytestmark = pytest.mark.unit


def trials(rows):
    """Rows of (task, attempt, minute, solved, worker)."""
    return [
        replace(
            outcome("baseline", task, "solved" if solved else "unsolved", attempt, steps=1 + minute),
            started=f"2026-01-01T{minute // 60:02}:{minute % 60:02}:00.000+00:00",
            worker=worker,
        )
        for task, attempt, minute, solved, worker in rows
    ]


def test_hard_tasks_at_the_end_are_no_drift_where_attempts_let_us_tell():
    # Ten easy tasks, then ten hard ones; then all of them again.
    rows = [(f"t{k:02}", attempt, 20 * attempt + k, k < 10, "w") for attempt in (1, 2) for k in range(20)]
    found = drift(trials(rows))
    assert found.within_tasks
    assert found.pass_trend is None  # no task is solved once and not again
    assert found.workers == 1
    assert found.pass_by_worker is None


def test_a_sweep_that_gets_worse_within_its_tasks_is_found():
    rows = [(f"t{k:02}", attempt, 20 * attempt + k, attempt == 1, "w") for attempt in (1, 2) for k in range(20)]
    found = drift(trials(rows))
    # All 20 pairs fall: no drawn permutation is likely to (2 of 2^20), so p = 1/(1 + B).
    assert found.pass_trend.pvalue == 1e-4
    assert found.pass_trend.statistic < -0.9
    assert found.steps_trend.statistic > 0.9


def test_a_worker_that_solves_nothing_is_found():
    rows = [(f"t{k:02}", attempt, k, attempt == 1, f"w{attempt}") for attempt in (1, 2) for k in range(20)]
    assert drift(trials(rows)).pass_by_worker.pvalue < 1e-3


def test_workers_of_the_same_name_in_different_runs_are_different_workers():
    # In either run one worker solves everything and the other nothing; which is which turns from run to run, so that
    # pooled by name they would be alike.
    rows = [(f"t{k:02}", 1, k, k % 2 == 0, f"gw{k % 2}") for k in range(12)]
    turned = [(f"u{k:02}", 1, k, k % 2 == 1, f"gw{k % 2}") for k in range(12)]
    found = drift([*trials(rows), *(replace(one, run="other") for one in trials(turned))])
    assert (found.runs, found.workers) == (2, 4)
    assert found.pass_by_worker.pvalue < 1e-3


def test_runs_that_differ_are_no_drift_and_no_difference_of_workers():
    # The first run solves everything, the second, an hour later and on its own worker, nothing.
    early = trials([(f"t{k:02}", 1, k, True, "main") for k in range(12)])
    late = trials([(f"u{k:02}", 1, 60 + k, False, "main") for k in range(12)])
    found = drift([*early, *(replace(one, run="other") for one in late)])
    assert (found.pass_trend, found.pass_by_worker) == (None, None)


def test_where_tasks_were_repeated_in_another_run_that_run_is_compared_within_them():
    first = trials([(f"t{k:02}", 1, k, True, "gw0") for k in range(20)])
    second = trials([(f"t{k:02}", 2, 60 + k, False, "gw0") for k in range(20)])
    found = drift([*first, *(replace(one, run="other") for one in second)])
    assert found.within_tasks
    # All 20 pairs fall, and no drawn permutation is likely to (2 of 2^20).
    assert found.pass_by_worker.pvalue == found.pass_trend.pvalue == 1e-4


def test_where_tasks_do_not_count_the_worker_statistic_is_pearsons_chi_square():
    from scipy.stats import chi2_contingency

    solved = [1, 1, 1, 0, 0, 1, 0, 0, 0, 1]
    rows = [(f"t{k}", 1, k, solved[k], "a" if k < 4 else "b") for k in range(10)]
    expected = chi2_contingency([[3, 2], [1, 4]], correction=False).statistic
    assert drift(trials(rows)).pass_by_worker.statistic == pytest.approx(expected)


def test_errors_and_other_configs_are_left_out_and_nothing_gives_nothing():
    found = drift([outcome("baseline", "a", "error"), outcome("x", "a", "solved")])
    assert (found.trials, found.pass_trend, found.steps_trend, found.pass_by_worker) == (0, None, None, None)


@pytest.mark.parametrize("tasks", [40, 83])
def test_a_p_value_is_that_of_all_trials_sorted_at_once_however_many_they_are(tasks):
    # Tasks of two and of three trials, drawn in one batch and in several: the same numbers as without batches.
    rng = np.random.default_rng(tasks)
    rows = [
        (f"t{k:02}", attempt, int(minute), bool(solved), "w")
        for k in range(tasks)
        for attempt, minute, solved in zip(range(2 + k % 2), rng.integers(0, 600, 3), rng.random(3) < 0.6, strict=False)
    ]
    given = trials(rows)
    task = np.array([int(one.task[1:]) for one in given])
    orders = np.argsort(task + np.random.default_rng(0).random((9_999, len(given))), axis=1)

    def centred(values):
        return values - (np.bincount(task, values) / np.bincount(task))[task]

    start = centred(stats.rankdata([one.started for one in given]))
    solved = centred(np.array([one.outcome == "solved" for one in given], float))
    as_far = (np.abs(start[orders] @ solved) >= abs(start @ solved) - 1e-9).sum()
    assert drift(given).pass_trend.pvalue == (1 + as_far) / 10_000


def test_a_p_value_is_that_of_all_trials_sorted_at_once_where_thousands_are_exchanged():
    rng = np.random.default_rng(0)
    given = trials([(f"t{k:04}", 1, int(rng.integers(0, 600)), rng.random() < 0.6, "w") for k in range(1_100)])
    orders = np.argsort(np.random.default_rng(0).random((9_999, len(given))), axis=1)
    start = stats.rankdata([one.started for one in given])
    solved = np.array([one.outcome == "solved" for one in given], float)
    start, solved = start - start.mean(), solved - solved.mean()
    as_far = (np.abs(start[orders] @ solved) >= abs(start @ solved) - 1e-9).sum()
    assert drift(given).pass_trend.pvalue == (1 + as_far) / 10_000
