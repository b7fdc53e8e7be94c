"""Matching the positives and negatives of a contrast, within tasks or by length.

Both methods give pairs that do not depend on the order of the traces. Where there is a choice, a hash of the trace's id
decides, which is independent of every property of the run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy

from capvec.records import Trace


@dataclass(frozen=True)
class Matched:
    """Pairs: the i-th positive goes with the i-th negative."""

    positives: tuple[Trace, ...]
    negatives: tuple[Trace, ...]
    rule: str
    """What a pair must be."""
    dropped: dict[str, int]
    """Reason → number of traces."""


def by_task(positives: Sequence[Trace], negatives: Sequence[Trace]) -> Matched:
    """Keep as many positives as negatives of every task, so that the task cannot separate the classes.

    A task with only one class is dropped. Of the larger class of a task, as many traces are kept as the other class
    has, chosen by the hash of their ids.
    """
    dropped = dict.fromkeys(
        (
            "passed on a task without a usable failure",
            "failed on a task without a pass",
            "more passes than failures of their task",
            "more failures than passes of their task",
        ),
        0,
    )
    alone_pos, alone_neg, surplus_pos, surplus_neg = dropped
    pairs: list[tuple[Trace, Trace]] = []
    for task in sorted({trace.task for trace in (*positives, *negatives)}):
        passes, failures = (
            [trace for trace in _shuffled(side) if trace.task == task] for side in (positives, negatives)
        )
        pairs += zip(passes, failures, strict=False)
        dropped[surplus_pos if failures else alone_pos] += max(0, len(passes) - len(failures))
        dropped[surplus_neg if passes else alone_neg] += max(0, len(failures) - len(passes))
    return _matched(pairs, "as many passes as failures of every task", dropped)


def by_length(positives: Sequence[Trace], negatives: Sequence[Trace], caliper: float) -> Matched:
    """Pair each positive with at most one negative of about the same number of steps.

    This is optimal matching with a caliper (Rosenbaum, 1989; Rosenbaum and Rubin, 1985): as many pairs as the caliper
    allows and, among these matchings, the one whose steps differ least in total. Length is counted in steps, which
    every source of traces knows. The number of tokens is known only after the capture; the audit then shows whether it
    still separates the classes.

    Args:
        positives: in any order.
        negatives: in any order.
        caliper: two runs have the same length if their steps differ by at most this share of the longer run, or by one
            step; from 0 to 1.
    """
    passes, failures = _shuffled(positives), _shuffled(negatives)
    steps = [np.array([trace.steps for trace in side], dtype=float) for side in (passes, failures)]
    gaps = np.abs(np.subtract.outer(*steps))
    near = gaps <= np.maximum(1, caliper * np.maximum.outer(*steps))
    # A pair outside the caliper costs more than all others together, so it is chosen only if no other pair is left.
    rows, columns = scipy.optimize.linear_sum_assignment(np.where(near, gaps, gaps.max() * min(gaps.shape) + 1))
    pairs = [(passes[row], failures[column]) for row, column in zip(rows, columns, strict=True) if near[row, column]]
    dropped = {
        "passed, with no failure of the same length left": len(passes) - len(pairs),
        "failed, with no pass of the same length left": len(failures) - len(pairs),
    }
    rule = f"pairs whose steps differ by at most one, or by {100 * caliper:g}% of the longer"
    return _matched(sorted(pairs, key=lambda pair: (pair[0].task, pair[0].id)), rule, dropped)


def _matched(pairs: Sequence[tuple[Trace, Trace]], rule: str, dropped: dict[str, int]) -> Matched:
    positives, negatives = zip(*pairs, strict=True) if pairs else ((), ())
    return Matched(tuple(positives), tuple(negatives), rule, {reason: n for reason, n in dropped.items() if n})


def _shuffled(traces: Sequence[Trace]) -> list[Trace]:
    return sorted(traces, key=lambda trace: hashlib.sha256(trace.id.encode()).digest())
