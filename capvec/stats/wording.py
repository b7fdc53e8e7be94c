"""Numbers as every sentence and every table shows them."""

from __future__ import annotations


def signed(value: float | None) -> str:
    """`+0.25`, `−0.10`, `+0.00` (never −0.00), or `–`."""
    return "–" if value is None else f"{round(value, 2) + 0.0:+.2f}".replace("-", "−")
