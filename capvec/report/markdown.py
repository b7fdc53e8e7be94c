"""Reports as Markdown. Plain text is escaped, so that a reader of Markdown shows it as it is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import groupby

from capvec.report.section import (
    Block,
    Bullets,
    Code,
    Figure,
    Findings,
    Heading,
    Inline,
    Link,
    Markdown,
    Paragraph,
    Program,
    Report,
    Section,
    Strong,
    Table,
    Text,
    TrialMatrix,
    parts,
)
from capvec.report.trial_matrix import as_table
from capvec.text import visible

_SPECIAL = re.compile(
    r"[\\`*~]"
    r"|(?<![^\W_])_|_(?![^\W_])"  # `parse_fail` is no emphasis
    r"|<(?=[A-Za-z/!?])"  # a tag or a link
    r"|&(?=#?\w+;)"  # a character by its name
    r"|\](?=[(\[:])|!(?=\[)"  # a link or an image
    r"|(?<=\s)#(?=#*\s*$)"  # the end of a heading
    r"|^(?:[#>]|[-+](?=\s|$)|=+\s*$|-+\s*$)"  # the beginning of a heading, a quotation, a list or a line
)
_NUMBERED = re.compile(r"^(\d+)([.)])(?=\s|$)")


def markdown(report: Report) -> str:
    """The whole document."""
    lines = [f"# {escape(report.title)}", "", f"**Status:** {inline(report.status)}", ""]
    for warning in report.warnings:
        lines += [f"**Warning:** {inline(warning)}", ""]
    return "\n".join([*lines, *section_lines(report.sections)]).rstrip("\n") + "\n"


def section_lines(sections: Iterable[Section]) -> Iterator[str]:
    """The lines of sections. One that holds nothing but charts is left out: they are files of their own."""
    for section in sections:
        drawn = [lines for block in section.blocks if (lines := block_lines(block))]
        if drawn:
            yield from (f"## {escape(section.title)}", "")
            for lines in drawn:
                yield from (*lines, "")


def block_lines(block: Block) -> list[str]:
    """The lines of one block; none for a figure."""
    match block:
        case Heading(title):
            return [f"### {escape(title)}"]
        case Paragraph(text):
            return [inline(text)]
        case Bullets(items):
            return [f"- {inline(item)}" for item in items]
        case Program(language, lines):
            return [f"```{language}", *visible(lines).splitlines(), "```"]
        case Findings(items):
            return [f"- {escape(one.config)} {escape(one.name + one.details)}." for one in items]
        case Table():
            return _table(block)
        case TrialMatrix():
            return _table(as_table(block))
        case Figure():
            return []


def _table(table: Table) -> list[str]:
    head = _row([column.title for column in table.columns])
    rule = "|" + "|".join("---:" if column.align == "right" else "---" for column in table.columns) + "|"
    return [head, rule, *(_row(row) for row in table.rows)]


def _row(cells: Iterable[Text]) -> str:
    return "| " + " | ".join(inline(cell).replace("|", "\\|") for cell in cells) + " |"


def inline(text: Text) -> str:
    """A text in one line."""
    drawn: list[str] = []
    for kind, group in groupby(parts(text), key=type):
        if kind is str:  # in one piece, since what is plain in two parts may be markup where they meet
            plain = "".join(str(part) for part in group)
            drawn.append(escape(plain if drawn else plain.lstrip(" \t\n")))
        else:
            drawn += map(_inline, group)
    return "".join(drawn)


def _inline(part: Inline) -> str:
    match part:
        case Code(text):
            return _code(text)
        case Strong(text):
            return f"**{escape(text)}**"
        case Link(_, title):
            return f"*{escape(title)}*"
        case Markdown(source):
            return " ".join(visible(source).split())
        case str():
            return escape(part)


def escape(text: str) -> str:
    """Plain text for Markdown."""
    line = " ".join(visible(text).splitlines())
    return _NUMBERED.sub(r"\1\\\2", _SPECIAL.sub(lambda match: f"\\{match[0]}", line))


def _code(text: str) -> str:
    """A code span, within backticks that are more than any in its text."""
    line = " ".join(visible(text).splitlines())
    if not line.strip():
        return ""
    longest = max((len(run) for run in re.findall("`+", line)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if longest else ""
    return f"{fence}{pad}{line}{pad}{fence}"
