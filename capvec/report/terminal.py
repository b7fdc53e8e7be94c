"""What the terminal shows when the last trial has ended: the briefs of some sections."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from textwrap import wrap

from capvec.report.completion import errors_section, gates_section, retried_section
from capvec.report.origin import proof_status
from capvec.report.section import (
    Block,
    Bullets,
    Code,
    Findings,
    Inline,
    Link,
    Markdown,
    Paragraph,
    Report,
    Section,
    Strong,
    Table,
    Text,
    parts,
)
from capvec.results.results import Results
from capvec.text import WIDTH, align, printable

_SHOWN = (
    "preregistration",
    "error-difference",
    "results",
    "pass-at-k",
    "rewards",
    "battery",
    "verdict",
    "interim-analyses",
    "controls",
)
"""Sections, in the order of the terminal: what matters most comes last and stays in view."""


def sweep_lines(report: Report) -> tuple[str, ...]:
    """The numbers of a sweep: the table, the off-task cost, the verdicts, the interim analyses, and the controls."""
    sections = {section.id: section for section in report.sections}
    lines: list[str] = []
    for name in _SHOWN:
        if name in sections and (drawn := section_lines(sections[name])):
            lines += ["", *drawn] if lines else drawn
    return tuple(lines)


def closing_lines(results: Results, lines: Iterable[str]) -> tuple[str, ...]:
    """Everything that the terminal shows after the last trial. Errors and gates keep a line each, to be searched for.

    Args:
        results: of the run.
        lines: of the study itself.
    """
    folder = results.plan.folder
    return (*lines, *judged_lines(results), f"report: {folder / 'RESULTS.md'} and {folder / 'report.html'}")


def judged_lines(results: Results) -> tuple[str, ...]:
    """What stays in view after the verdict: errors, tries, what is missing, the receipts that are, and gates."""
    completeness = results.completeness
    counts = [str(completeness)] if completeness.missing or completeness.interrupted or completeness.stopped else []
    errors, gates = errors_section(results.outcomes), gates_section(results)
    retried = retried_section(results.outcomes)
    return (
        *section_lines(errors, None),
        *section_lines(retried, None),
        *counts,
        *proof_status(results),
        *section_lines(gates, None),
    )


def section_lines(section: Section | None, width: int | None = WIDTH) -> list[str]:
    """The brief of a section in lines of `width` characters, or a line for each paragraph; nothing for no section."""
    return [line for block in (section.brief if section else ()) for line in block_lines(block, width)]


def block_lines(block: Block, width: int | None = WIDTH) -> Iterator[str]:
    """The lines of one block."""
    match block:
        case Paragraph(text):
            yield from _wrapped(plain(text), width)
        case Bullets(items):
            for item in items:
                yield from _wrapped(plain(item), width)
        case Findings(items):
            for one in items:
                yield from _wrapped(plain(f"{one.config} {one.name}{one.details}."), width)
        case Table():
            titles = [column.title for column in block.columns]
            yield from align([titles, *([plain(cell) for cell in row] for row in block.rows)])
        case _:
            raise ValueError(f"a brief holds a {type(block).__name__}; expected text or a table")


def _wrapped(text: str, width: int | None) -> list[str]:
    return [text] if width is None else wrap(text, width, subsequent_indent="  ", break_on_hyphens=False)


def plain(text: Text) -> str:
    """A text without markup on one line, and without anything that a terminal would act on."""
    return " ".join(printable("".join(_plain(part) for part in parts(text))).splitlines())


def _plain(part: Inline) -> str:
    match part:
        case Code(text) | Strong(text):
            return text
        case Link(_, title):
            return title
        case Markdown(source):
            return source
        case str():
            return part
