"""The fenced code of the documentation, with the mark above each fence that says how it is tested."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

from support import REPOSITORY

PAGES = (
    *(
        REPOSITORY / name
        for name in ("README.md", "CHANGELOG.md", "reports/README.md", "tests/README.md", "dev/README.md")
    ),
    *sorted((REPOSITORY / "docs").rglob("*.md")),
)
SHELL = frozenset({"sh", "bash", "console", "shell"})
_COMMAND = re.compile(r"(capvec|pytest|python|make) .*-")
_MARK = re.compile(r"<!-- (.+?) -->")


@dataclass(frozen=True)
class Fence:
    """A fenced block of shell or Python."""

    page: str
    """Relative to the repository."""
    line: int
    language: str
    code: str
    mark: str
    """The comment on the line above it; empty where there is none."""

    @property
    def commands(self) -> list[list[str]]:
        """Of a shell block, its commands as words, without comments and without what sets a variable in front."""
        lines = self.code.replace("\\\n", " ").splitlines()
        found = [shlex.split(line, comments=True) for line in lines]
        return [without for words in found if (without := _without_variables(words))]

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def _without_variables(words: list[str]) -> list[str]:
    while words and re.match(r"[A-Z_]+=", words[0]):
        words = words[1:]
    return words


def fences() -> list[Fence]:
    """Every shell and Python block of every page."""
    return [fence for page in PAGES if page.exists() for fence in _of(page)]


def _of(page: Path) -> Iterator[Fence]:
    text = page.read_text(encoding="utf-8")
    lines = text.splitlines()
    for token in MarkdownIt("commonmark").parse(text):
        language = token.info.split(" ")[0] if token.type == "fence" else ""
        if token.map and (language in SHELL or language == "python"):
            above = next((line for line in reversed(lines[: token.map[0]]) if line.strip()), "")
            mark = _MARK.fullmatch(above.strip())
            name = page.relative_to(REPOSITORY).as_posix()
            yield Fence(name, token.map[0] + 1, language, token.content, mark[1] if mark else "")


def commands_in_text() -> list[str]:
    """Every command with an option that is set as code within a sentence or a table of any page."""
    tokens = [
        child
        for page in PAGES
        for token in MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8"))
        for child in token.children or ()
    ]
    return sorted({token.content for token in tokens if token.type == "code_inline" and _COMMAND.match(token.content)})
