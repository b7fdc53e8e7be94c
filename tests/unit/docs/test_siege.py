"""The table of faults and attacks names tests that exist, and leaves out no file of the siege."""

from __future__ import annotations

import re

import pytest
from support import REPOSITORY

pytestmark = pytest.mark.unit

PAGE = (REPOSITORY / "docs" / "siege.md").read_text()
TESTS = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)
OF_THE_SUPPORT = {"test_second_docker.py"}
"""Tests of the daemon that takes the blows."""


def rows():
    return [line for line in PAGE.splitlines() if line.startswith("| ") and not line.endswith("| figure |")]


@pytest.mark.parametrize(("file", "name"), TESTS, ids=[name for _, name in TESTS])
def test_a_test_that_the_table_names_exists(file, name):
    assert re.search(rf"^ *def {name}\(", (REPOSITORY / file).read_text(), re.MULTILINE)


@pytest.mark.parametrize("row", rows())
def test_every_row_names_what_is_promised_and_its_test(row):
    _, promised, test, _ = (cell.strip() for cell in row.strip("|").split("|"))
    assert promised
    assert re.fullmatch(r"`tests/[\w/]+\.py::\w+`", test)


def test_every_file_of_the_siege_is_in_the_table():
    named = {file.rpartition("/")[2] for file, _ in TESTS}
    there = {file.name for file in (REPOSITORY / "tests" / "siege").glob("test_*.py")}
    assert there - named == OF_THE_SUPPORT
