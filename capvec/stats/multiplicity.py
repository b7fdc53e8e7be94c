"""Several comparisons at once."""

from __future__ import annotations

from collections.abc import Sequence


def holm(pvalues: Sequence[float]) -> tuple[float, ...]:
    """Adjusted p-values after Holm (Scandinavian Journal of Statistics 1979, 6:65), as R's `p.adjust(method="holm")`.

    Calling those significant that are below α errs anywhere in the family with probability α at most, whatever the
    dependence between the tests (all configs share one baseline).

    Raises:
        ValueError: a p-value outside 0 to 1.
    """
    if any(not 0 <= p <= 1 for p in pvalues):
        raise ValueError(f"p-values {list(pvalues)}: expected each from 0 to 1")
    adjusted, least = [0.0] * len(pvalues), 0.0
    for rank, index in enumerate(sorted(range(len(pvalues)), key=pvalues.__getitem__)):
        least = max(least, min(1.0, (len(pvalues) - rank) * pvalues[index]))
        adjusted[index] = least
    return tuple(adjusted)
