"""What a person sees while trials run, and what is left of it: pytest with and without workers, on a pseudo-terminal.

The ends of the trials are given (`support.scripted_trials`); processes, workers, terminal and Ctrl-C are real.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable

import pytest
from support import REPOSITORY
from support.scripted_trials import TEST_FILE
from support.terminal import Seen, run_on_terminal

pytestmark = pytest.mark.integration

GATES = [["no_harm(0.1)", False, "x passes 0.20, baseline 0.50"], ["steps<=baseline", True, "holds for every config"]]
TRIALS = "solved1 unsolved2 error3 unsolved4 solved5 unsolved6"
LIVE = re.compile(r"\d+/\d+( trials)? · \d+ solved")


@pytest.fixture
def environ():
    """Of somebody at a terminal, whoever runs these tests."""
    kept = {key: value for key, value in os.environ.items() if key not in {"CI", "BUILD_NUMBER", "COLUMNS", "LINES"}}
    paths = os.pathsep.join((str(REPOSITORY), str(REPOSITORY / "tests")))
    given = {"TERM": "xterm", "PYTHONPATH": paths, "TRIALS": TRIALS, "GATES": json.dumps(GATES), "SECONDS": "0.2"}
    return kept | given


@pytest.fixture
def command(tmp_path):
    (tmp_path / "test_sweep.py").write_text(TEST_FILE)
    plugins = ("-p", "support.scripted_trials", "-p", "no:hypothesispytest", "-p", "no:cacheprovider")
    return [sys.executable, "-m", "pytest", *plugins, "--junitxml", "junit.xml"]


@pytest.fixture
def terminal(command, environ, tmp_path):
    def run(*arguments: str, interrupt: Callable[[str], bool] = lambda _: False, **options) -> Seen:
        columns, rows = options.pop("size", (80, 24))
        given = {"columns": columns, "rows": rows, "cwd": tmp_path, "interrupt": interrupt, "timeout_s": 120}
        return run_on_terminal([*command, *arguments], environ=environ | options, **given)

    return run


def live_lines(seen: Seen) -> list[str]:
    """The line at the bottom, each time that it was another."""
    bottom = [moment[-1] for moment in seen.moments if moment and LIVE.search(moment[-1])]
    return [line for index, line in enumerate(bottom) if index == 0 or line != bottom[index - 1]]


def nothing_is_left(seen: Seen) -> bool:
    return not any(LIVE.search(line) for line in seen.screen.lines)


@pytest.mark.parametrize(("workers", "letters"), [("0", r"test_sweep\.py SuEuSuF\."), ("2", r"[SuE]{6}F\.")])
def test_the_line_follows_the_trials_and_leaves_the_screen_as_pytest_made_it(terminal, workers, letters):
    # A second each: two that end together, or that busy cores show together, are one change of the line.
    seen = terminal("-n", workers, SECONDS="1")
    lines = live_lines(seen)
    assert lines[0] == "capvec: 0/6 trials · 0 solved · 0 unsolved · 0 errors · …"
    assert any(re.fullmatch(r"capvec: [345]/6 trials · .* left", line) for line in lines)
    assert nothing_is_left(seen)
    assert seen.code == pytest.ExitCode.TESTS_FAILED
    assert any(re.fullmatch(letters + r" +\[100%\]", line) for line in seen.screen.lines)
    assert re.fullmatch(r"=+ 1 failed, 1 passed, 1 error, 2 solved, 3 unsolved in .*=+", seen.screen.lines[-1])
    # Each line is whole: nothing was written over or beside another.
    assert "6 of 6 trials recorded" in seen.screen.lines
    assert "FAILED test_sweep.py::gate[no_harm(0.1)] - x passes 0.20, baseline 0.50" in seen.screen.lines


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_small_screen_that_scrolls_shows_every_verbose_line_once(terminal, workers):
    seen = terminal("-v", "-n", workers, size=(100, 8))
    assert live_lines(seen)
    assert nothing_is_left(seen)
    text = "\n".join(seen.screen.lines)
    for name, word in {"solved1": "SOLVED", "unsolved2": "UNSOLVED", "error3": "ERROR", "solved5": "SOLVED"}.items():
        test = f"test_sweep.py::test_trial[{name}-baseline-t1]"
        pattern = (
            rf"^\[gw\d\] \[ *\d+%\] {word} {re.escape(test)}$" if workers == "2" else rf"^{re.escape(test)} {word} "
        )
        assert len(re.findall(pattern, text, re.MULTILINE)) == 1
    assert len(re.findall(r"^test_sweep\.py::gate\[no_harm\(0\.1\)\] FAILED +\[100%\]$", text, re.MULTILINE)) == 1


def test_a_narrow_quiet_terminal_without_colours_has_a_shorter_line(terminal):
    seen = terminal("-q", "--color=no", size=(44, 10))
    assert live_lines(seen)[0] == "0/6 · 0 solved · 0 errors · …"
    assert nothing_is_left(seen)
    assert not re.search(r"\x1b\[[\d;]*m", seen.text)
    assert any(re.fullmatch(r"SuEuSuF\. +\[100%\]", line) for line in seen.screen.lines)


@pytest.mark.parametrize("workers", ["0", "2"])
def test_ctrl_c_takes_the_line_away_and_no_gate_is_judged(terminal, tmp_path, workers):
    seen = terminal("-n", workers, SECONDS="2", interrupt=lambda text: re.search("[1-3]/6 trials", text) is not None)
    assert seen.code == pytest.ExitCode.INTERRUPTED
    assert nothing_is_left(seen)
    assert any("Interrupted: " in line and " of 6 trials recorded; NOT RUN: " in line for line in seen.screen.lines)
    cases = ET.parse(tmp_path / "junit.xml").getroot().iter("testcase")
    gates = {case.get("name"): [child.tag for child in case] for case in cases if "gate[" in case.get("name")}
    assert gates == {
        "gate[no_harm(0.1)]": ["properties", "skipped"],
        "gate[steps<=baseline]": ["properties", "skipped"],
    }


@pytest.mark.parametrize("workers", ["0", "2"])
def test_what_the_session_says_meanwhile_has_a_line_of_its_own(terminal, workers):
    seen = terminal("-n", workers, SAY="unsolved4")
    assert seen.screen.lines.count("capvec: unsolved4 has ended") == 1
    assert nothing_is_left(seen)


def test_a_worker_that_dies_is_an_error_in_the_line_and_xdist_is_heard(terminal):
    seen = terminal("-n", "2", SECONDS="1", TRIALS="solved1 unsolved2 crash3 unsolved4 solved5 unsolved6 solved7")
    assert "· 1 error" in live_lines(seen)[-1]
    assert nothing_is_left(seen)
    assert "replacing crashed worker gw1" in seen.screen.lines or "replacing crashed worker gw0" in seen.screen.lines


@pytest.mark.parametrize(
    ("arguments", "variables"),
    [((), {"CI": "true"}), ((), {"TERM": "dumb"}), (("-s",), {}), (("--log-cli-level=ERROR",), {})],
)
def test_where_nobody_watches_or_anything_may_print_there_is_no_line(terminal, arguments, variables):
    seen = terminal(*arguments, **variables)
    assert "solved ·" not in seen.text
    assert seen.screen.lines[-1].startswith("=")


def test_in_a_log_there_is_only_what_pytest_writes(command, environ, tmp_path):
    done = subprocess.run([*command, "-n", "2"], cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "\x1b" not in done.stdout
    assert "solved ·" not in done.stdout


def test_gates_are_tests_under_xdist_too_and_trials_keep_their_properties(command, environ, tmp_path):
    subprocess.run([*command, "-n", "2"], cwd=tmp_path, env=environ, capture_output=True, check=False)
    suite = ET.parse(tmp_path / "junit.xml").getroot().find("testsuite")
    counts = {name: int(suite.get(name)) for name in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": 8, "failures": 1, "errors": 1, "skipped": 0}
    cases = {
        case.get("name"): {entry.get("name"): entry.get("value") for entry in case.iter("property")}
        for case in suite.iter("testcase")
    }
    trials = {name for name in cases if name.startswith("test_trial[")}
    assert {cases[name]["trial"] for name in trials} == {f"{name}-baseline-t1" for name in TRIALS.split()}
    assert cases["gate[no_harm(0.1)]"]["verdict"] == "not met"
    assert cases["gate[steps<=baseline]"]["verdict"] == "met"
