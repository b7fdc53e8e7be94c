"""A chart as SVG: a handful of marks, scales, and what a screen reader is told. Colours are classes of `chart.css`."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from itertools import pairwise

from capvec.report.html.markup import Markup, element

CHARACTER = 7.2
"""Width of a character of the 12 px type, in px: of a wide face, so that no label meets another or the edge."""
_VARIABLE = re.compile(r"--([\w-]+):\s*([^;]+);")


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
    marks: tuple[Markup, ...]

    def svg(self, *, standalone: bool = False, suffix: str = "") -> Markup:
        """The `<svg>` element.

        Args:
            standalone: for a file of its own, with a style sheet in light colours; else the page's is used.
            suffix: makes ids unique where a page shows the chart more than once.
        """
        ident = f"{self.name}{suffix}"
        style = [element("style", Markup(light_style()))] if standalone else []
        paper = [element("rect", width=self.width, height=self.height, class_="paper")] if standalone else []
        return element(
            "svg",
            element("title", self.title, id=f"{ident}-title"),
            element("desc", f"{self.caption} {self.values}".strip(), id=f"{ident}-desc"),
            style,
            paper,
            self.marks,
            xmlns="http://www.w3.org/2000/svg" if standalone else None,
            viewBox=f"0 0 {self.width} {self.height}",
            width=self.width,
            height=self.height,
            role="img",
            class_="chart",
            aria_labelledby=f"{ident}-title {ident}-desc",
        )


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

    marks: list[Markup] = field(default_factory=list)

    def line(self, x1: float, y1: float, x2: float, y2: float, kind: str) -> None:
        self.marks.append(element("line", x1=float(x1), y1=float(y1), x2=float(x2), y2=float(y2), class_=kind))

    def path(self, points: Sequence[tuple[float, float]], kind: str, *, closed: bool = False) -> None:
        text = "M" + " L".join(f"{x:.2f},{y:.2f}" for x, y in points) + ("Z" if closed else "")
        self.marks.append(element("path", d=text, class_=kind))

    def rect(self, x: float, y: float, width: float, height: float, kind: str, tip: str = "") -> None:
        title = [element("title", tip)] if tip else []
        self.marks.append(
            element("rect", title, x=float(x), y=float(y), width=float(width), height=float(height), class_=kind)
        )

    def dot(self, x: float, y: float, kind: str, tip: str = "", r: float = 4.5) -> None:
        title = [element("title", tip)] if tip else []
        self.marks.append(element("circle", title, cx=float(x), cy=float(y), r=r, class_=kind))

    def diamond(self, x: float, y: float, kind: str, tip: str = "", r: float = 6.5) -> None:
        title = [element("title", tip)] if tip else []
        points = f"{x:.2f},{y - r:.2f} {x + r:.2f},{y:.2f} {x:.2f},{y + r:.2f} {x - r:.2f},{y:.2f}"
        self.marks.append(element("polygon", title, points=points, class_=kind))

    def text(self, x: float, y: float, text: str, kind: str = "label", anchor: str | None = None) -> None:
        self.marks.append(element("text", text, x=float(x), y=float(y), class_=kind, text_anchor=anchor))

    def turned(self, x: float, y: float, text: str, angle: float, kind: str = "label") -> None:
        """A text that ends at the point, turned clockwise around it by `angle` degrees."""
        turn = f"rotate({angle:g} {x:.2f} {y:.2f})"
        self.marks.append(element("text", text, x=float(x), y=float(y), class_=kind, text_anchor="end", transform=turn))

    def axis_below(self, scale: Scale, top: float, bottom: float, title: str) -> None:
        """Ticks with hair lines across the chart, their numbers below it, and what they measure."""
        for tick in scale.ticks(5):
            self.line(scale(tick), top, scale(tick), bottom, "zero" if tick == 0 else "grid")
            self.text(scale(tick), bottom + 16, plain(tick), "tick", "middle")
        self.text((scale.start + scale.end) / 2, bottom + 33, title, "axis", "middle")

    def axis_left(self, scale: Scale, left: float, right: float, count: int = 4) -> None:
        """Ticks with hair lines across the chart, their numbers at its left."""
        for tick in scale.ticks(count):
            self.line(left, scale(tick), right, scale(tick), "zero" if tick == 0 else "grid")
            self.text(left - 6, scale(tick) + 4, plain(tick), "tick", "end")


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


@cache
def chart_style() -> str:
    """The charts' style sheet, with variables for colours."""
    return asset("chart.css")


@cache
def light_style() -> str:
    """The charts' style sheet with the light colours in place of the variables."""
    colours = dict(_light_colours())
    return re.sub(r"var\(--([\w-]+)\)", lambda match: colours[match[1]], chart_style())


def _light_colours() -> Iterator[tuple[str, str]]:
    """The first block of the page's style sheet defines them all."""
    block = asset("page.css").partition("}")[0]
    yield from ((match[1], match[2].strip()) for match in _VARIABLE.finditer(block))


def asset(name: str) -> str:
    """The text of a file beside this one."""
    return resources.files("capvec.report.html").joinpath(name).read_text(encoding="utf-8")
