"""The pages of the documentation: their links lead somewhere, and what is made from the code is of today's code."""

from __future__ import annotations

import re
import tomllib
from typing import get_args

import pytest
from markdown_it import MarkdownIt
from support import REPOSITORY
from support.documented import PAGES

import capvec
from capvec.stats import verdict
from dev.docs import DOCS, generated

pytestmark = pytest.mark.unit

NAMES = [page.relative_to(REPOSITORY).as_posix() for page in PAGES]
README_LINES = 150
"""Three screens."""


def links(path):
    """Targets of the links and images of a page that lead to other files."""
    for token in MarkdownIt("commonmark").enable("table").parse(path.read_text(encoding="utf-8")):
        for child in token.children or ():
            target = child.attrGet("href") or child.attrGet("src")
            if target and not re.match(r"[a-z]+:", target):
                yield target


def anchors(path):
    """The anchors of a page's headings, as Python-Markdown and GitHub both make them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip()) for heading in headings}


@pytest.mark.parametrize("name", NAMES)
def test_every_link_leads_to_a_file_and_every_anchor_to_a_heading(name):
    page = REPOSITORY / name
    for target in links(page):
        file, _, anchor = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        assert path.exists(), f"{name} links to {target}, which does not exist"
        assert not anchor or anchor in anchors(path), f"{name} links to {target}, and {file} has no such heading"


@pytest.mark.parametrize("path", list(generated()), ids=lambda path: path.name)
def test_what_is_made_from_the_code_is_of_todays_code(path):
    written = path.read_text(encoding="utf-8") if path.exists() else ""
    assert written == generated()[path], "stale: `make docs` or `python -m dev.docs` writes it again"


def test_every_page_is_in_the_navigation_once():
    def pages(entry):
        for value in entry.values():
            yield from [value] if isinstance(value, str) else [page for one in value for page in pages(one)]

    config = tomllib.loads((REPOSITORY / "zensical.toml").read_text())
    listed = [page for entry in config["project"]["nav"] for page in pages(entry)]
    assert sorted(listed) == sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))


def test_the_readme_fits_three_screens():
    assert len((REPOSITORY / "README.md").read_text().splitlines()) <= README_LINES


@pytest.mark.parametrize("name", NAMES)
def test_every_file_of_the_repository_that_is_named_exists(name):
    text = (REPOSITORY / name).read_text(encoding="utf-8")
    named = re.findall(r"`((?:capvec|dev|docs|tests|reports)/[\w./-]+)`", text)
    of_readers = ("reports/first/", "reports/all", "reports/latest")
    ours = [path for path in named if "NAME" not in path and not path.startswith(of_readers)]
    assert [path for path in ours if not (REPOSITORY / path).exists()] == []


def test_the_page_on_the_verdict_explains_every_name_that_a_verdict_can_have():
    text = (DOCS / "verdict.md").read_text(encoding="utf-8")
    assert [name for name in get_args(verdict.Name) if f"| **{name}" not in text] == []


def test_the_page_on_the_api_has_every_public_name():
    text = (DOCS / "reference" / "api.md").read_text(encoding="utf-8")
    assert [name for name in capvec.__all__ if f"`capvec.{name}`" not in text] == ["__version__"]
