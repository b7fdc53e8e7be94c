"""What a report is before it is drawn: sections, blocks and text as values.

Builders make these from a run's `Results`. Renderers draw them: `markdown`, `html` and `terminal`. A value holds plain
text, and every renderer escapes it for its own format.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from capvec.records import Outcome
from capvec.report.charts.canvas import Chart

# ------------------------------------------------------------------------------------------------ text


@dataclass(frozen=True)
class Code:
    """A name, a path or an option, set as code."""

    text: str


@dataclass(frozen=True)
class Strong:
    """Text that stands out."""

    text: str


@dataclass(frozen=True)
class Link:
    """A reference to another section of the same report."""

    section: str
    """Its id."""
    title: str


@dataclass(frozen=True)
class Markdown:
    """A sentence that a run recorded as Markdown, such as the description of a direction in `provenance.json`."""

    source: str


Inline = str | Code | Strong | Link | Markdown
Text = Inline | tuple[Inline, ...]


def join(*texts: Text) -> tuple[Inline, ...]:
    """Several texts as one."""
    return tuple(part for text in texts for part in parts(text))


def parts(text: Text) -> tuple[Inline, ...]:
    """The parts of a text in order."""
    return text if isinstance(text, tuple) else (text,)


def listed(names: Sequence[str]) -> tuple[Inline, ...]:
    """Names as code: `a`, `b` and `c`."""
    found: list[Inline] = []
    for place, name in enumerate(names):
        if place:
            found.append(" and " if place == len(names) - 1 else ", ")
        found.append(Code(name))
    return tuple(found)


# ------------------------------------------------------------------------------------------------ blocks


@dataclass(frozen=True)
class Heading:
    """The title of a part of a section."""

    title: str


@dataclass(frozen=True)
class Paragraph:
    """One paragraph."""

    text: Text


@dataclass(frozen=True)
class Bullets:
    """A list without an order."""

    items: tuple[Text, ...]


@dataclass(frozen=True)
class Program:
    """Lines of a program, set as code."""

    language: str
    lines: str


@dataclass(frozen=True)
class Finding:
    """The verdict on one config."""

    config: str
    name: str
    """As in `stats.verdict`: `improves`, `harms` and so on."""
    details: str
    """What follows the name in its sentence."""


@dataclass(frozen=True)
class Findings:
    """The verdicts on the configs that were compared, in the plan's order."""

    items: tuple[Finding, ...]


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    title: str
    align: Literal["left", "right"] = "left"


def left(*titles: str) -> tuple[Column, ...]:
    """Columns of text."""
    return tuple(Column(title) for title in titles)


def right(*titles: str) -> tuple[Column, ...]:
    """Columns of numbers."""
    return tuple(Column(title, "right") for title in titles)


Row = tuple[Text, ...]


@dataclass(frozen=True)
class Table:
    """Rows of text under columns; the first cell of a row is its title."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]

    def __post_init__(self) -> None:
        """Check the number of cells.

        Raises:
            ValueError: a row has more or fewer cells than there are columns.
        """
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"a row of {len(row)} cells; expected {len(self.columns)}, one for each column")


@dataclass(frozen=True)
class Figure:
    """A chart, laid out for a desk and for a phone."""

    wide: Chart
    narrow: Chart


@dataclass(frozen=True)
class TrialMatrix:
    """Every trial of a run: tasks by configs."""

    splits: Mapping[str, Sequence[str]]
    """Split → names of its tasks, both in the plan's order."""
    configs: tuple[str, ...]
    """In the plan's order."""
    baseline: str
    cells: Mapping[tuple[str, str], Sequence[Outcome]]
    """(task, config) → its trials in the order of their attempts."""
    chart: Chart
    """The same as a chart, laid out for a desk. The page draws a table instead, whose marks are links."""


Block = Heading | Paragraph | Bullets | Program | Findings | Table | Figure | TrialMatrix


# ------------------------------------------------------------------------------------------------ reports


@dataclass(frozen=True)
class Section:
    """A part of a report under its own title."""

    id: str
    """Unique within the report; the anchor in the page."""
    title: str
    blocks: tuple[Block, ...]
    brief: tuple[Block, ...] = ()
    """What the terminal shows of it."""
    folded: str = ""
    """For the page: what to click on to see the section; empty for one that is open."""


@dataclass(frozen=True)
class Report:
    """A document, ready to be drawn."""

    title: str
    status: Text
    """The answer and the state of the run, in one paragraph."""
    sections: tuple[Section, ...]
    warnings: tuple[Text, ...] = ()
    about: str = ""
    """One line on the run, for the head of the page."""
    source: str = "trials.jsonl"
    """What the page says that it was written from."""

    @property
    def charts(self) -> Iterator[Chart]:
        """Every chart in its wide layout, in the order of the sections."""
        for block in (block for section in self.sections for block in section.blocks):
            if isinstance(block, Figure):
                yield block.wide
            elif isinstance(block, TrialMatrix):
                yield block.chart
