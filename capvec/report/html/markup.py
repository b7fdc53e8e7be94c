"""Elements of HTML and SVG, built so that text cannot become markup, and the Markdown of `RESULTS.md` as HTML."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

_VOID = {"meta", "br", "hr", "input"}
_WORD = re.compile(r"[^\W\d_]|[✓·`]")
_INLINE = re.compile(r"`(?P<code>[^`]+)`|\*\*(?P<strong>.+?)\*\*|(?<![\w*])\*(?![\s*])(?P<em>[^*`]+)(?<!\s)\*(?![\w*])")


class Markup(str):
    """Text that is markup already. Everything else is escaped when it becomes part of an element."""

    __slots__ = ()


def element(tag: str, *children: str | Iterable[str], **attributes: object) -> Markup:
    """`<tag name="value">children</tag>`.

    Args:
        tag: its name.
        children: texts, which are escaped; `Markup`; or iterables of them.
        attributes: `class_` and the like lose the last underscore, others become hyphens; None and False leave the
            attribute out, True gives it no value.
    """
    names = "".join(_attribute(name, value) for name, value in attributes.items())
    if tag in _VOID:
        return Markup(f"<{tag}{names}>")
    return Markup(f"<{tag}{names}>{join(children)}</{tag}>")


def join(children: Iterable[str | Iterable[str]]) -> Markup:
    """Children of an element one after the other, escaped where they are not markup."""
    return Markup(
        "".join(
            escape(child) if isinstance(child, str) else join(child)  # a text is an iterable of texts too
            for child in children
        )
    )


def escape(text: str) -> Markup:
    """The text for the inside of an element or of a quoted attribute; markup stays as it is."""
    return text if isinstance(text, Markup) else Markup(html.escape(text))


def script_json(value: Any) -> Markup:
    """JSON that is safe inside `<script type="application/json">`: no `<`, so neither `</script>` nor `<!--`.

    All but ASCII is escaped too, so that U+2028 and lone surrogates reach the page as they were.
    """
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _attribute(name: str, value: object) -> str:
    if value is None or value is False:
        return ""
    name = name.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(_text(value))}"'


def _text(value: object) -> str:
    """Numbers in attributes are coordinates: two decimals are a fiftieth of a pixel."""
    return f"{round(value, 2):g}" if isinstance(value, float) else str(value)


# ------------------------------------------------------------------------------------------------ Markdown


def markdown(lines: Sequence[str]) -> Markup:
    """The Markdown of capvec's reports: headings, paragraphs, lists, tables, `code`, **bold** and *emphasis*.

    Args:
        lines: without line ends; a paragraph may be one long line.
    """
    return Markup("\n".join(_blocks(lines)))


def inline(text: str) -> Markup:
    """`code`, **bold** and *emphasis* of one line; the rest is escaped."""
    parts, end = [], 0
    for match in _INLINE.finditer(text):
        parts.append(escape(text[end : match.start()]))
        tag = str(match.lastgroup)
        parts.append(element(tag, inline(match[tag]) if tag == "strong" else match[tag]))
        end = match.end()
    return join([*parts, escape(text[end:])])


def _blocks(lines: Sequence[str]) -> Iterator[Markup]:
    block: list[str] = []
    for line in [*lines, ""]:
        for part in line.split("\n"):
            if part.strip() and (not block or _kind(part) == _kind(block[0])):
                block.append(part)
                continue
            if block:
                yield _block(block)
            block = [part] if part.strip() else []
    if block:
        yield _block(block)


def _kind(line: str) -> str:
    if line.startswith("#"):
        return line  # every heading is a block of its own
    return line[0] if line[0] == "|" or line.startswith("- ") else "p"


def _block(lines: Sequence[str]) -> Markup:
    first = lines[0]
    if first.startswith("#"):
        level, _, title = first.partition(" ")
        return element(f"h{min(6, len(level) + 1)}", inline(title))
    if first.startswith("|"):
        return _table([_cells(line) for line in lines])
    if first.startswith("- "):
        return element("ul", [element("li", inline(line[2:])) for line in lines])
    return element("p", inline(" ".join(lines)))


def _cells(line: str) -> list[str]:
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def _table(rows: Sequence[Sequence[str]]) -> Markup:
    head, _, *body = rows
    numeric = [not any(_WORD.search(row[column].replace(" to ", "")) for row in body) for column in range(len(head))]
    return table(
        [inline(cell) for cell in head],
        [[inline(cell) for cell in row] for row in body],
        numeric=numeric,
        label=", ".join(cell for cell in head if cell)[:80],
    )


def table(
    head: Sequence[str], rows: Iterable[Sequence[str]], *, numeric: Sequence[bool] | None = None, label: str
) -> Markup:
    """A table that scrolls sideways by itself where the screen is narrow, with the keyboard too.

    Args:
        head: titles.
        rows: the first cell of each is its title.
        numeric: columns to set flush right; all but the first where it is None.
        label: what a screen reader calls it.
    """
    right = [place > 0 for place in range(len(head))] if numeric is None else numeric
    classes = ["n" if flag else None for flag in right]
    titles = [element("th", cell, scope="col", class_=name) for cell, name in zip(head, classes, strict=True)]
    lines = [
        element(
            "tr",
            element("th", row[0], scope="row", class_=classes[0]),
            [element("td", cell, class_=name) for cell, name in zip(row[1:], classes[1:], strict=True)],
        )
        for row in rows
    ]
    inner = element("table", element("thead", element("tr", titles)), element("tbody", lines))
    return element("div", inner, class_="scroll", role="region", aria_label=label, tabindex="0")
