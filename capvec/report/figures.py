"""From a function that draws a chart at a width to a figure in both widths."""

from __future__ import annotations

from collections.abc import Callable

from capvec.report.charts.canvas import Chart
from capvec.report.section import Figure

WIDE, NARROW = 860, 336
"""Widths of a chart in px: on a desk, and on a phone of 360."""


def figures(draw: Callable[[int], Chart | None]) -> tuple[Figure, ...]:
    """The one figure; none where the chart has nothing to show."""
    wide, narrow = draw(WIDE), draw(NARROW)
    return (Figure(wide, narrow),) if wide is not None and narrow is not None else ()
