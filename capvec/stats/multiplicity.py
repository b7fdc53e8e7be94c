"""Holm's correction for several comparisons."""

from __future__ import annotations

from collections.abc import Sequence


def holm(pvalues: Sequence[float]) -> tuple[float, ...]:
    """Adjust p-values after Holm [1]_, as R's `p.adjust(method="holm")` does.

    Rejecting where the adjusted p-value is below α makes any false rejection with probability α at most, under any
    dependence between the tests. (All configs share one baseline, so the tests are dependent.)

    Args:
        pvalues: of all comparisons, in any order.

    Returns:
        The adjusted p-values, in the order of `pvalues`.

    Raises:
        ValueError: a p-value outside 0 to 1.

    References:
        .. [1] Holm, Scandinavian Journal of Statistics 1979, 6:65.
    """
    if any(not 0 <= p <= 1 for p in pvalues):
        raise ValueError(f"p-values {list(pvalues)}: expected each from 0 to 1")
    adjusted, least = [0.0] * len(pvalues), 0.0
    for rank, index in enumerate(sorted(range(len(pvalues)), key=pvalues.__getitem__)):
        least = max(least, min(1.0, (len(pvalues) - rank) * pvalues[index]))
        adjusted[index] = least
    return tuple(adjusted)
