"""Plugins of others in a session with trials: what the terminal counts is in the ledger, or the session is refused.

The plugins are those of `requirements-plugins.lock`, in a folder of their own. The trials' ends are given.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from support import REPOSITORY
from support.scripted_trials import TEST_FILE

pytestmark = pytest.mark.integration

PLUGINS = Path(sys.prefix) / "plugins"
TRIALS = "solved1 unsolved2 error3 solved4 unsolved5 solved6"
EXIT_ON_TIMEOUT = ("-o", "faulthandler_exit_on_timeout=true")
ALL = {"solved": 3, "unsolved": 2, "error": 1}

CONFTEST = """
import pytest

@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    for item in items:
        item.add_marker(pytest.mark.{mark})
"""
"""It marks every test, as those of projects do."""


@dataclass(frozen=True)
class Ran:
    """A session that ended."""

    code: int
    output: str
    error: str
    folder: Path

    @property
    def terminal(self) -> Counter[str]:
        """The counts of pytest's last line."""
        last = self.output.strip().splitlines()[-1]
        found = re.findall(r"(\d+) (solved|unsolved|errors?|passed|failed|rerun)", last)
        return Counter({name.removesuffix("s") if name == "errors" else name: int(count) for count, name in found})

    @property
    def ledger(self) -> list[dict]:
        file = self.folder / "trials.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


@pytest.fixture
def session(tmp_path):
    """Runs the scripted trials in a process of their own, with some plugins and no others."""

    def run(plugins: str, *arguments: str, mark: str = "", late: str = "", **variables: str) -> Ran:
        if plugins and not PLUGINS.is_dir():
            pytest.skip("`make test` installs the plugins")
        (tmp_path / "test_scripted.py").write_text(TEST_FILE)
        if mark:
            (tmp_path / "conftest.py").write_text(CONFTEST.format(mark=mark))
        if late:
            (tmp_path / "conftest.py").write_text(f"import pytest\n\n{late}\n")
        paths = os.pathsep.join(map(str, (REPOSITORY, REPOSITORY / "tests", PLUGINS)))
        given = {"PYTHONPATH": paths, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "TRIALS": TRIALS} | variables
        loaded = ("capvec.pytest_plugin.plugin", "xdist", "support.scripted_trials", *plugins.split())
        named = [part for plugin in loaded for part in ("-p", plugin)]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *named, *arguments],
            cwd=tmp_path, env=os.environ | given, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        return Ran(done.returncode, done.stdout, done.stderr, tmp_path)

    return run


@pytest.mark.parametrize(
    ("plugins", "arguments"),
    [
        ("", ("-p", "no:cacheprovider")),
        ("", EXIT_ON_TIMEOUT),
        ("", (*EXIT_ON_TIMEOUT, "-o", "faulthandler_timeout=0.5", "-p", "no:faulthandler")),
        ("", ("-n", "2", "--dist", "worksteal")),
        ("", ("-n", "2", "--dist", "loadscope")),
        ("", ("-n", "2", "--dist", "loadgroup")),
        ("pytest_randomly", ()),
        ("random_order.plugin", ("--random-order",)),
        ("pytest_timeout", ("--timeout", "0")),
        ("pytest_rerunfailures", ()),
        ("pytest_repeat pytest_flakefinder flaky.flaky_pytest_plugin pytest_forked", ()),
        ("pytest_cov", ("--cov=support", "--cov-report=", "-W", "ignore::Warning")),
        ("pytest_asyncio.plugin", ()),
        ("pytest_retry.retry_plugin pytest_base_url.plugin", ("--base-url", "http://localhost")),
        ("pytest_stress.pytest_stress pytest_run_parallel.plugin", ()),
        ("pytest_socket", ("--allow-hosts", "127.0.0.1")),
        ("pytest_html.plugin pytest_html.fixtures pytest_metadata.plugin", ("--html=r.html", "--self-contained-html")),
    ],
)
def test_the_counts_of_the_terminal_and_of_the_ledger_agree(session, plugins, arguments):
    ran = session(plugins, *arguments)
    assert ran.terminal == ALL, ran
    assert Counter(line["outcome"] for line in ran.ledger) == ALL
    assert len({line["trial"] for line in ran.ledger}) == 6
    assert (ran.code, "6 of 6 trials recorded" in ran.output) == (1, True)


@pytest.mark.parametrize(
    ("plugins", "arguments", "said"),
    [
        ("", ("-n", "2", "--dist", "each"), "--dist each does not go with a study: every worker would run every trial"),
        ("pytest_forked", ("--forked",), "--forked does not go with a study: outcomes do not come back"),
        ("pytest_rerunfailures", ("--reruns", "2"), "--reruns, or `reruns` in pytest's settings, does not go"),
        ("pytest_rerunfailures", ("-o", "reruns=2"), "--reruns, or `reruns` in pytest's settings, does not go"),
        ("pytest_rerunfailures", ("--max-suite-reruns", "2"), "--max-suite-reruns does not go with a study"),
        ("flaky.flaky_pytest_plugin", ("--force-flaky",), "--force-flaky does not go with a study"),
        ("pytest_retry.retry_plugin", ("--retries", "2"), "-p no:pytest-retry leaves that plugin out; --retries is"),
        ("pytest_retry.retry_plugin", ("-o", "retries=2"), "--retries, or `retries` in pytest's settings, does not go"),
        ("pytest_stress.pytest_stress", ("--seconds", "2"), "--seconds does not go with a study: trials would"),
        ("pytest_run_parallel.plugin", ("--parallel-threads", "2"), "--parallel-threads does not go with a study"),
        ("pytest_run_parallel.plugin", ("--iterations", "2"), "--iterations does not go with a study: trials would"),
        ("", ("--setup-only",), "--setup-only does not go with a study: trials would run, and what came of them would"),
        ("", ("--setup-plan",), "--setup-plan does not go with a study: no trial would run; --collect-only lists"),
        ("", ("--fixtures",), "--fixtures does not go with a study: no trial would run"),
        ("", ("--fixtures-per-test",), "--fixtures-per-test does not go with a study: no trial would run"),
        ("", ("--cache-show",), "--cache-show does not go with a study: no trial would run"),
        ("pytest_socket", ("--disable-socket",), "--disable-socket does not go with a study: trials reach the engine"),
        ("pytest_timeout", ("--timeout", "60"), "--timeout, or `timeout` in pytest's settings, does not go"),
        ("pytest_timeout", ("-o", "timeout=60"), "--timeout 0 turns this one off"),
        ("", (*EXIT_ON_TIMEOUT, "-o", "faulthandler_timeout=0.5"), "`faulthandler_exit_on_timeout` in pytest's"),
        ("pytest_repeat", ("--count", "2"), "has multiplied the trials, as the test [solved1-baseline-t1-1-2] shows"),
        ("pytest_flakefinder", ("--flake-finder", "--flake-runs", "2"), "another plugin has multiplied the trials"),
    ],
)  # fmt: skip
def test_what_would_run_a_trial_twice_or_cut_it_off_is_refused_in_one_sentence(session, plugins, arguments, said):
    assert_refused(session(plugins, *arguments), said)


@pytest.mark.parametrize("processes", [(), ("-n", "2")])
@pytest.mark.parametrize(
    ("plugins", "mark"),
    [
        ("pytest_timeout", "timeout(60)"),
        ("pytest_rerunfailures", "flaky(reruns=2)"),
        ("flaky.flaky_pytest_plugin", "flaky(max_runs=2)"),
        ("pytest_retry.retry_plugin", "flaky(retries=2)"),
        ("pytest_repeat", "repeat(2)"),
        ("pytest_forked", "forked"),
        ("pytest_run_parallel.plugin", "iterations(2)"),
        ("pytest_run_parallel.plugin", "parallel_threads(2)"),
        ("pytest_run_parallel.plugin", "force_parallel_threads(2)"),
        ("pytest_socket", "disable_socket"),
        ("", "xfail"),
    ],
)
def test_a_mark_that_would_do_so_is_refused_by_its_name(session, plugins, mark, processes):
    name, _, _ = mark.partition("(")
    assert_refused(session(plugins, *processes, mark=mark), f"the mark '{name}' on trials does not go with a study: ")


@pytest.mark.parametrize("mark", ["usefixtures('tmp_path')", "xdist_group('one')", "filterwarnings('error')"])
@pytest.mark.parametrize("processes", [(), ("-n", "2", "--dist", "loadgroup")])
def test_other_marks_change_no_outcome(session, mark, processes):
    ran = session("", *processes, mark=mark)
    assert ran.terminal == ALL, ran
    assert Counter(line["outcome"] for line in ran.ledger) == ALL


IN_SETUP = "def pytest_runtest_setup(item):\n    item.add_marker(pytest.mark.{})"
IN_FIXTURE = "@pytest.fixture(autouse=True)\ndef mark(request):\n    request.node.add_marker(pytest.mark.{})"
BY_HAND = "@pytest.fixture(autouse=True)\ndef mark():\n    pytest.xfail('not today')"


@pytest.mark.parametrize("processes", [(), ("-n", "2")])
@pytest.mark.parametrize("where", [IN_SETUP, IN_FIXTURE], ids=["in a hook", "in a fixture"])
@pytest.mark.parametrize("mark", ["xfail", "xfail(strict=True)", "xfail(run=False)"])
def test_a_mark_that_a_plugin_adds_while_trials_run_makes_no_error_an_expected_failure(session, mark, where, processes):
    ran = session("", *processes, late=where.format(mark))
    assert ran.terminal == ALL, ran
    assert Counter(line["outcome"] for line in ran.ledger) == ALL
    assert ran.code == pytest.ExitCode.TESTS_FAILED
    assert "6 of 6 trials recorded" in ran.output


@pytest.mark.parametrize("processes", [(), ("-n", "2")])
def test_a_trial_that_a_fixture_ends_as_an_expected_failure_is_an_error(session, processes):
    ran = session("", *processes, late=BY_HAND)
    assert ran.terminal == {"error": 6}, ran
    assert Counter(line["outcome"] for line in ran.ledger) == {"error": 6}


@pytest.mark.parametrize("where", [IN_SETUP, IN_FIXTURE], ids=["in a hook", "in a fixture"])
def test_a_trial_that_is_skipped_while_trials_run_is_not_run_and_said_to_be_so(session, where):
    ran = session("", late=where.format("skip"))
    if ran.ledger:  # a fixture comes after pytest has looked for this mark
        assert ran.terminal == ALL
    else:
        assert "NOT RUN" in ran.output
        assert ran.code == pytest.ExitCode.TESTS_FAILED


def assert_refused(ran: Ran, said: str) -> None:
    """No trial ran, and one sentence tells why."""
    (line,) = [line for line in ran.error.splitlines() if line.strip()]
    assert line.startswith("ERROR: ")
    assert said in line
    assert (ran.code, ran.ledger) == (pytest.ExitCode.USAGE_ERROR, [])
    assert "Traceback" not in ran.output + ran.error


def test_a_settings_limit_of_time_is_turned_off_on_the_command_line(session):
    assert session("pytest_timeout", "-o", "timeout=60", "--timeout", "0").terminal == ALL
    assert session("pytest_timeout", PYTEST_TIMEOUT="60").code == pytest.ExitCode.USAGE_ERROR


@pytest.mark.parametrize(
    ("arguments", "ran_trials"),
    [(("-x",), 3), (("--maxfail", "1"), 3), (("--sw",), 3), (("-k", "solved1"), 1),
     (("--deselect", "test_scripted.py::test_trial[error3-baseline-t1]"), 5)],
)  # fmt: skip
def test_a_part_of_the_trials_is_recorded_as_a_part(session, arguments, ran_trials):
    ran = session("", *arguments)
    assert sum(ran.terminal.values()) == len(ran.ledger) == ran_trials
    assert ("NOT RUN" in ran.output) == (ran_trials == 3)


@pytest.mark.parametrize("processes", [(), ("-n", "2")])
@pytest.mark.parametrize("arguments", [("-k", "nothing"), ("--ignore-glob", "*scripted*")])
def test_a_session_of_which_no_trial_is_left_is_refused_and_writes_no_report(session, processes, arguments):
    ran = session("", *processes, *arguments)
    assert ran.code == pytest.ExitCode.USAGE_ERROR
    assert "none of the 6 trials is left to run" in ran.error
    assert not (ran.folder / "RESULTS.md").exists()


def test_last_failed_runs_the_trials_in_error_again(session):
    (session("").folder / "trials.jsonl").unlink()
    ran = session("", "--lf")
    assert [line["trial"] for line in ran.ledger] == ["error3-baseline-t1"]
    assert ran.terminal == {"error": 1}


def test_a_loop_over_failures_is_refused_before_it_begins(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-m", "sweep", "-f", "--pyargs", "capvec"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    (line,) = [line for line in done.stderr.splitlines() if line.strip()]
    assert line.startswith("ERROR: -f, or --looponfail, does not go with a study: trials would run again and again")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
