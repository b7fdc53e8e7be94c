"""Sections of a report, as tests look at them: their text without markup, and the cells of their tables."""

from __future__ import annotations

from capvec.report.section import Bullets, Findings, Heading, Paragraph, Section, Table
from capvec.report.terminal import plain


def blocks_of(section):
    """The blocks of a section, of None, or of a tuple of blocks."""
    return section.blocks if isinstance(section, Section) else tuple(section or ())


def sentences(section):
    """Paragraphs, items of lists and headings, without markup."""
    found = []
    for block in blocks_of(section):
        match block:
            case Paragraph(text):
                found.append(plain(text))
            case Bullets(items):
                found += map(plain, items)
            case Heading(title):
                found.append(title)
            case Findings(items):
                found += [f"{one.config} {one.name}{one.details}." for one in items]
    return found


def words(section):
    """All sentences in one text."""
    return "\n".join(sentences(section))


def cells(section):
    """Every row of every table, as a list of texts without markup."""
    return [[plain(cell) for cell in row] for table in tables(section) for row in table.rows]


def titles(table):
    return [column.title for column in table.columns]


def tables(section):
    return [block for block in blocks_of(section) if isinstance(block, Table)]
