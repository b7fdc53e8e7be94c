"""What a container prints reaches a terminal and every report as text: nothing in it acts."""

from __future__ import annotations

import csv
import json
import os
import re
import xml.etree.ElementTree as ET

import pytest
from markdown_it import MarkdownIt
from support.real_sweeps import no_container_is_left, write_task
from support.started_runs import RUN, sweep_command
from support.terminal import run_on_terminal

pytestmark = [pytest.mark.siege, pytest.mark.slow]

PRINTED = (
    "\x1b[31mred\x1b[0m\x1b]0;title\x07\x1b]8;;http://evil.invalid\x1b\\link\x1b]8;;\x1b\\\x1b[2J\x9b5n\x07\x08\x00"
    "\u202egnp <script>alert(1)</script><img src=x onerror=alert(2)> ]]> &amp; [a](javascript:alert(3)) `x` |y| "
    '=HYPERLINK("http://evil.invalid") \ud800'
)
"""Colours, a title, a link, bells, the other direction of writing, markup of HTML, XML and Markdown, a formula."""
ACTS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@pytest.fixture
def tasks(tmp_path):
    """A task whose verifier prints it and gives no reward."""
    folder = tmp_path / "tasks" / "mute"
    write_task(folder, "cat /tests/words\n")
    (folder / "tests" / "words").write_bytes(PRINTED.encode("utf-8", "surrogatepass"))
    return tmp_path / "tasks"


@pytest.mark.parametrize("workers", ["2", "0"])
def test_what_a_container_prints_is_text_wherever_it_is_shown(model, tasks, tmp_path, workers):
    command = sweep_command(
        model, "-n", workers, "--tasks", str(tasks), "--junitxml", "junit.xml", "-rA", "--retries", "0"
    )
    seen = run_on_terminal(
        command, environ=os.environ | {"TERM": "xterm"}, columns=200, rows=50, cwd=tmp_path, timeout_s=400
    )  # fails at control sequences that neither pytest nor capvec writes
    assert seen.code == pytest.ExitCode.TESTS_FAILED, seen.text
    assert "red" in seen.text
    assert not [word for word in ("evil.invalid\x1b", "title\x07", "\x1b[2J", "\x9b", "\u202e") if word in seen.text]
    folder = tmp_path / "reports" / RUN
    outcomes = [json.loads(line) for line in (folder / "trials.jsonl").read_text().splitlines()]
    assert all("<script>" in one["error"] and "red" in one["error"] for one in outcomes)
    for name in ("RESULTS.md", "report.html", "master_summary.csv", "summary.json"):
        assert not ACTS.findall((folder / name).read_bytes().decode()), name
    assert "<script>" not in MarkdownIt("commonmark", {"html": True}).render((folder / "RESULTS.md").read_text())
    page = (folder / "report.html").read_text()
    assert "<script>alert(1)" not in page
    assert "<img src=x" not in page
    with (folder / "master_summary.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    assert not [cell for row in rows for cell in row.values() if cell[:1] in ("=", "+", "@", "\t", "\r")]
    cases = [case for case in ET.parse(tmp_path / "junit.xml").iter("testcase") if "test_trial" in case.get("name")]
    assert len(cases) == 2
    assert all("<script>" in ET.tostring(case, encoding="unicode", method="text") for case in cases)
    assert not ACTS.findall((tmp_path / "junit.xml").read_bytes().decode())
    assert no_container_is_left(RUN)
