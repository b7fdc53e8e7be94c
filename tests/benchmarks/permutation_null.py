"""`python tests/benchmarks/permutation_null.py`: what validating a direction of the seed's shape costs.

6 traces against 20 at 32 layers of width 2560, 13 tasks, 10,000 permutations, everything in `ranking.csv` included. In
the same run, the same null by refitting the mean difference in d dimensions, on few permutations, from which the time
of as many is extrapolated.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from typing import get_args

import numpy as np
from support.labelled import estimate, labelled

from capvec.directions.auc import auc
from capvec.directions.recipe import EstimatorName
from capvec.directions.validate import validate

N_POS, N_NEG, LAYERS, WIDTH = 6, 20, 32, 2560
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
                without /= np.linalg.norm(without, axis=1, keepdims=True)
                held_out[:, ~kept] = np.einsum("nld,ld->ln", residuals[~kept] - residuals[kept].mean(0), without)
        for row in (*scores, *held_out):
            auc(row[labels], row[~labels])
    return time.perf_counter() - started


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the seconds and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--estimator", default="mean-difference", choices=get_args(EstimatorName))
    parser.add_argument("--permutations", type=int, default=10_000)
    parser.add_argument("--plain-permutations", type=int, default=10, help="refitted in d dimensions (0: none)")
    options = parser.parse_args(arguments)
    shape = (N_POS + N_NEG, LAYERS, WIDTH)
    residuals = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    wall, cpu = time.perf_counter(), time.process_time()
    ranking = validate(
        *labelled(residuals[:N_POS], residuals[N_POS:]),
        estimator=options.estimator,
        tasks=TASKS.tolist(),
        permutations=options.permutations,
    )
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"{options.estimator}, {ranking.null}; {ranking.folds}")
    print(f"{options.permutations} permutations in the Gram matrix: {wall:.1f} s, {cpu:.1f} s of processor time")
    if options.plain_permutations:
        plain = in_d_dimensions(residuals, options.plain_permutations)
        all_of_them = plain / options.plain_permutations * options.permutations
        print(
            f"{options.plain_permutations} by refitting the mean difference in {WIDTH} dimensions: {plain:.1f} s, so "
            f"{all_of_them:.0f} s for {options.permutations}: {all_of_them / wall:.0f} times as long"
        )
    print(f"{os.cpu_count()} cores; threads as OMP_NUM_THREADS says: {os.environ.get('OMP_NUM_THREADS', 'not set')}")


if __name__ == "__main__":
    main()
