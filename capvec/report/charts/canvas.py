"""A chart is a list of marks in pixels; `chart.svg` draws it. Colours are classes of `chart.css`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

CHARACTER = 7.2
"""Width in px of a character of the 12 px type in a wide face, so that no label meets another or the edge."""


@dataclass(frozen=True)
class Mark:
    """One SVG element."""

    tag: str
    attributes: Mapping[str, str | float | None]
    """By name; None leaves an attribute out."""
    text: str = ""
    """What a `<text>` shows."""
    tip: str = ""
    """What a pointer over the mark shows."""


@dataclass(frozen=True)
class Chart:
    """A finished chart."""

    name: str
    """Also the stem of its file."""
    title: str
    caption: str
    """How to read it."""
    values: str
    """What it shows, in words, for those who cannot see it."""
    width: int
    height: int
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class Scale:
    """A linear map of a domain to pixels."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self, count: int) -> list[float]:
        """Round numbers in the domain, about `count` of them."""
        rough = (self.high - self.low) / max(1, count)
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * (1 - 1e-9))
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [round(step * number, 10) + 0.0 for number in range(first, last + 1)]


def padded(values: Sequence[float], start: float, end: float, *, zero: bool = False) -> Scale:
    """A scale that holds all values, with a margin; with 0 as its lower end for counts."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if zero:
        low = min(low, 0.0)
    span = high - low
    if span < 1e-6:  # less than ticks and labels can tell apart
        span = max(abs(high), 1.0)
    return Scale(low if zero and low == 0 else low - 0.08 * span, high + 0.08 * span, start, end)


@dataclass
class Canvas:
    """Collects marks; every method draws one kind. Coordinates are pixels from the upper left corner."""

    marks: list[Mark] = field(default_factory=list)

    def _draw(self, tag: str, kind: str, *, text: str = "", tip: str = "", **attributes: str | float | None) -> None:
        names = {name.replace("_", "-"): _rounded(value) for name, value in attributes.items()}
        self.marks.append(Mark(tag, {**names, "class": kind}, text, tip))

    def line(self, x1: float, y1: float, x2: float, y2: float, kind: str) -> None:
        self._draw("line", kind, x1=x1, y1=y1, x2=x2, y2=y2)

    def path(self, points: Sequence[tuple[float, float]], kind: str, *, closed: bool = False) -> None:
        self._draw("path", kind, d="M" + " L".join(f"{x:.2f},{y:.2f}" for x, y in points) + ("Z" if closed else ""))

    def rect(self, x: float, y: float, width: float, height: float, kind: str, tip: str = "") -> None:
        self._draw("rect", kind, tip=tip, x=x, y=y, width=width, height=height)

    def dot(self, x: float, y: float, kind: str, tip: str = "", r: float = 4.5) -> None:
        self._draw("circle", kind, tip=tip, cx=x, cy=y, r=r)

    def diamond(self, x: float, y: float, kind: str, tip: str = "", r: float = 6.5) -> None:
        corners = ((x, y - r), (x + r, y), (x, y + r), (x - r, y))
        self._draw("polygon", kind, tip=tip, points=" ".join(f"{a:.2f},{b:.2f}" for a, b in corners))

    def text(self, x: float, y: float, text: str, kind: str = "label", anchor: str | None = None) -> None:
        self._draw("text", kind, text=text, x=x, y=y, text_anchor=anchor)

    def turned(self, x: float, y: float, text: str, angle: float, kind: str = "label") -> None:
        """A text that ends at the point, turned clockwise around it by `angle` degrees."""
        turn = f"rotate({angle:g} {x:.2f} {y:.2f})"
        self._draw("text", kind, text=text, x=x, y=y, text_anchor="end", transform=turn)

    def axis_below(self, scale: Scale, top: float | None, bottom: float, title: str = "", count: int = 5) -> None:
        """Ticks with their numbers and what they measure, and hair lines up to `top` unless it is None."""
        for tick in scale.ticks(count):
            if top is not None:
                self.line(scale(tick), top, scale(tick), bottom, "zero" if tick == 0 else "grid")
            self.text(scale(tick), bottom + 16, plain(tick), "tick", "middle")
        if title:
            self.text((scale.start + scale.end) / 2, bottom + 33, title, "axis", "middle")

    def axis_left(self, scale: Scale, left: float, right: float, count: int = 4) -> None:
        """Ticks with hair lines across the chart, their numbers at its left."""
        for tick in scale.ticks(count):
            self.line(left, scale(tick), right, scale(tick), "zero" if tick == 0 else "grid")
            self.text(left - 6, scale(tick) + 4, plain(tick), "tick", "end")


def _rounded(value: str | float | None) -> str | float | None:
    """Two decimals are a fiftieth of a pixel."""
    return f"{round(value, 2):g}" if isinstance(value, float) else value


def spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """The places moved apart, in their order and between `low` and `high`: for labels at the ends of lines.

    Args:
        places: where they would lie.
        gap: that there is to be between two neighbours; less where there is no room for it.
        low: the least place.
        high: the greatest.
    """
    order = sorted(range(len(places)), key=places.__getitem__)
    gap = min(gap, (high - low) / max(1, len(places) - 1))
    moved = [min(max(place, low), high) for place in places]
    for before, after in pairwise(order):
        moved[after] = max(moved[after], moved[before] + gap)
    for place, number in enumerate(reversed(order)):
        moved[number] = min(moved[number], high - place * gap)
    return moved


def plain(value: float) -> str:
    """A tick's number, with a real minus."""
    return f"{value:g}".replace("-", "−")


def shorten(text: str, pixels: float) -> str:
    """The text cut to what fits."""
    room = max(4, int(pixels / CHARACTER))
    return text if len(text) <= room else text[: room - 1] + "…"
