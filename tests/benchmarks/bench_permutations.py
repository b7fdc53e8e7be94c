"""What validating a direction of the original study's shape costs, with each estimator.

6 traces against 20 at 32 layers of width 2560, 13 tasks, 10,000 permutations, everything in `ranking.csv` included. By
turns with the same null by refitting the mean difference in d dimensions, on few permutations, from which the time of
as many is extrapolated.
"""

from __future__ import annotations

import time
from typing import get_args

import numpy as np
import pytest
from support.labelled import estimate, labelled

from capvec.directions.auc import auc
from capvec.directions.recipe import EstimatorName
from capvec.directions.validate import validate

pytestmark = pytest.mark.bench

N_POS, N_NEG = 6, 20
TASKS = np.array([f"passed-{n // 2}" for n in range(N_POS)] + [f"failed-{n // 2}" for n in range(N_NEG)])


def in_d_dimensions(residuals: np.ndarray, permutations: int) -> float:
    """Seconds for refitting in sample and without each task, under each permutation, and scoring both by AUC."""
    rng = np.random.default_rng(0)
    started = time.perf_counter()
    for _ in range(permutations):
        labels = rng.permutation(N_POS + N_NEG) < N_POS
        direction = estimate(residuals[labels], residuals[~labels])
        scores = np.einsum("nld,ld->ln", residuals, direction)
        held_out = np.zeros_like(scores)
        for task in np.unique(TASKS):
            kept = task != TASKS
            if labels[kept].any():
                without = estimate(residuals[kept & labels], residuals[kept & ~labels])
                without = without / np.linalg.norm(without, axis=1, keepdims=True)
                held_out[:, ~kept] = np.einsum("nld,ld->ln", residuals[~kept] - residuals[kept].mean(0), without)
        for row in (*scores, *held_out):
            auc(row[labels], row[~labels])
    return time.perf_counter() - started


def test_permutations(bench):
    sizes = bench.sizes(
        {"estimators": get_args(EstimatorName), "permutations": 10_000, "layers": 32, "width": 2560, "plain": 10},
        {"permutations": 50, "layers": 2, "width": 64, "plain": 2},
    )
    shape = (N_POS + N_NEG, sizes.layers, sizes.width)
    residuals = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    for estimator in sizes.estimators:
        plain = in_d_dimensions(residuals, sizes.plain) / sizes.plain * sizes.permutations
        wall, cpu = time.perf_counter(), time.process_time()
        ranking = validate(
            *labelled(residuals[:N_POS], residuals[N_POS:]),
            estimator=estimator,
            tasks=TASKS.tolist(),
            permutations=sizes.permutations,
        )
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        bench.add(
            f"{estimator}, {ranking.null}: {wall:.1f} s, {cpu:.1f} s of processor time; refitting the mean difference "
            f"in {sizes.width} dimensions {plain:.0f} s, {plain / wall:.0f} times as long",
            estimator=estimator, seconds=wall, processor_s=cpu, plain_s=plain, ratio=plain / wall,
        )  # fmt: skip
