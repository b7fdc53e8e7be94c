"""Settings and marks of other pytest plugins under which trials would not run once each, whole and in a worker.

A trial is no test that may be tried again: what came of it is in the ledger at once.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import pytest

from capvec.errors import UsageError

_RERUNS = "a trial would have several outcomes; --retries repeats those in which Docker or the engine failed"
_PARALLEL = "a study's processes are those of pytest-xdist; use -n"
_AGAIN = "trials would run again and again; --attempts N runs each task N times"
_CUT_OFF = (
    "a trial that it cuts off would be an error and leave the pass rate, and the slow ones would be missing from it. "
    "Tasks have time limits of their own"
)
_FORKED = "outcomes do not come back from a forked process; use -n for processes"
_SOCKETS = "trials reach the engine and Docker through sockets; leave it out"
_NO_TRIAL = "no trial would run; --collect-only lists the trials, and --plan says what a study can find"


class _Refused(NamedTuple):
    """A setting of another plugin."""

    option: str
    """Its name in `config.option`."""
    spelling: str
    why: str
    values: tuple[object, ...] = ()
    """Those that are refused; empty for all that are set."""
    harmless: tuple[object, ...] = ()
    plugins: tuple[str, ...] = ()
    """Names of the plugins that have it, where others may have an option of this name; empty for any."""


_LOOPS = ("pytest_stress", "pytest_stress.pytest_stress", "loop", "pytest_loop")
_THREADS = ("run-parallel", "pytest_run_parallel.plugin")
_REFUSED = (
    _Refused(
        "dist", "--dist each", "every worker would run every trial; use -n alone, or --attempts for more", ("each",)
    ),
    _Refused("forked", "--forked", _FORKED),
    _Refused("force_flaky", "--force-flaky", _RERUNS),
    _Refused("max_suite_reruns", "--max-suite-reruns", _RERUNS),
    _Refused("workers", "--workers", _PARALLEL),
    _Refused("tests_per_worker", "--tests-per-worker", _PARALLEL),
    _Refused("parallel_threads", "--parallel-threads", _PARALLEL, harmless=(1, "1"), plugins=_THREADS),
    _Refused("iterations", "--iterations", _AGAIN, harmless=(1,), plugins=_THREADS),
    _Refused("forever", "--forever", _AGAIN, plugins=_THREADS),
    *(_Refused(unit, f"--{unit}", _AGAIN, plugins=_LOOPS) for unit in ("hours", "minutes", "seconds")),
    _Refused("loop", "--loop", _AGAIN, harmless=(1,), plugins=_LOOPS),
    _Refused("setupplan", "--setup-plan", _NO_TRIAL),
    _Refused(
        "setuponly", "--setup-only", "trials would run, and what came of them would be lost; --setup-show keeps it"
    ),
    _Refused("showfixtures", "--fixtures", _NO_TRIAL),
    _Refused("show_fixtures_per_test", "--fixtures-per-test", _NO_TRIAL),
    _Refused("cacheshow", "--cache-show", _NO_TRIAL),
    _Refused("disable_socket", "--disable-socket", _SOCKETS),
)


class _Setting(NamedTuple):
    """A number that another plugin also reads from pytest's settings or from an environment variable."""

    name: str
    plugins: tuple[str, ...]
    why: str
    variable: str = ""


_SETTINGS = (
    _Setting("reruns", ("rerunfailures", "pytest_rerunfailures"), f"{_RERUNS}. --reruns 0 turns it off"),
    _Setting(
        "retries",
        ("pytest-retry", "pytest_retry.retry_plugin"),
        "a trial would have several outcomes. -p no:pytest-retry leaves that plugin out; --retries is capvec's then",
    ),
    _Setting(
        "timeout",
        ("timeout", "pytest_timeout"),
        f"{_CUT_OFF}; --timeout 0 turns this one off",
        "PYTEST_TIMEOUT",
    ),
)
_MARKS = {
    "timeout": _CUT_OFF,
    "flaky": _RERUNS,
    "repeat": _AGAIN,
    "iterations": _AGAIN,
    "parallel_threads": _PARALLEL,
    "force_parallel_threads": _PARALLEL,
    "forked": _FORKED,
    "xfail": "a trial in error would count as one that was expected to fail, and would not be recorded",
    "disable_socket": _SOCKETS,
}
"""Marks that are refused on trials. Those that leave a trial out, `skip` and `skipif`, are not: it is then not run."""


def refuse_other_plugins(config: pytest.Config) -> None:
    """Check the settings of other plugins before a study starts.

    Raises:
        UsageError: a trial would run twice, in a process from which no outcome comes back, or be cut off.
    """
    for reason in _reasons(config):
        raise UsageError(reason)


def refuse_loop(config: pytest.Config) -> None:
    """Check before any session that a study is not to begin anew whenever a file changes.

    Raises:
        UsageError: it is.
    """
    if getattr(config.option, "looponfail", False):
        raise UsageError(f"-f, or --looponfail, does not go with a study: {_AGAIN}")


def _reasons(config: pytest.Config) -> Iterator[str]:
    for one in _REFUSED:
        value = getattr(config.option, one.option, None)
        concerned = not one.plugins or _has(config, *one.plugins)
        if concerned and value and value not in one.harmless and (not one.values or value in one.values):
            yield f"{one.spelling} does not go with a study: {one.why}"
    for setting in _SETTINGS:
        if _has(config, *setting.plugins) and _setting(config, setting.name, setting.variable):
            where = f"--{setting.name}, or `{setting.name}` in pytest's settings,"
            yield f"{where} does not go with a study: {setting.why}"
    ends = _has(config, "faulthandler") and config.getini("faulthandler_exit_on_timeout")
    if ends and float(config.getini("faulthandler_timeout") or 0) > 0:
        yield (
            "`faulthandler_exit_on_timeout` in pytest's settings does not go with a study: a trial that takes longer "
            "than `faulthandler_timeout` would end the session without a report; leave it out, or set it to false"
        )
    if getattr(config.option, "tx", None) and (name := _name_that_no_worker_takes(config)):
        encoding = sys.getfilesystemencoding()
        yield (
            f"-n with the name {name!r}: pytest-xdist cannot hand it to its processes, since it has characters that "
            f"{encoding}, the encoding of this locale, lacks; set PYTHONUTF8=1, or leave -n out"
        )


def _name_that_no_worker_takes(config: pytest.Config) -> str:
    """A path or argument that Python could not read in this locale, as UTF-8 has it; empty if there is none."""
    arguments = (*map(str, config.invocation_params.args), os.environ.get("PYTEST_ADDOPTS", ""))
    for name in (os.getcwd(), *arguments, *sys.path):
        try:
            name.encode()
        except UnicodeEncodeError:
            return os.fsencode(name).decode(errors="replace")
    return ""


def _has(config: pytest.Config, *names: str) -> bool:
    """Whether a plugin is there, under the name of its entry point or of its module."""
    return any(config.pluginmanager.hasplugin(name) for name in names)


def _setting(config: pytest.Config, name: str, variable: str = "") -> float:
    """A number from the command line, the environment or pytest's settings, the first of them that has it."""
    given = [getattr(config.option, name, None), os.environ.get(variable), config.getini(name)]
    return float(next((value for value in given if value not in (None, "")), 0))


def refuse_multiplied(parameters: Iterable[str], trials: Iterable[str]) -> None:
    """Check that no trial was collected twice.

    Args:
        parameters: of the collected tests that run a trial, as pytest shows them in brackets.
        trials: the trials of the plan.

    Raises:
        UsageError: another plugin has multiplied the tests, as `--count` of pytest-repeat does.
    """
    counts, known = Counter(parameters), frozenset(trials)
    for parameter, count in counts.items():
        if count > 1 or (parameter not in known and any(trial in parameter for trial in known)):
            raise UsageError(
                f"another plugin has multiplied the trials, as the test [{parameter}] shows; leave out its option, "
                "such as --count or --flake-finder. --attempts N runs each task N times"
            )


def refuse_none(collected: int, planned: int) -> None:
    """Check that a trial of the plan is left.

    Args:
        collected: how many trials pytest is to run.
        planned: how many the plan has.

    Raises:
        UsageError: all were left out; a report without a trial would read as one of a run that went well.
    """
    if planned and not collected:
        raise UsageError(
            f"none of the {planned} trials is left to run: -k, --deselect, --ignore, `norecursedirs` in pytest's "
            "settings or a conftest.py leaves all of them out; --collect-only shows which are left"
        )


def refuse_marks(tests: Iterable[pytest.Item]) -> None:
    """Check the marks of trials, such as those that a `conftest.py` adds to all tests.

    Args:
        tests: as collected; those that run no trial may have any mark.

    Raises:
        UsageError: under a mark a trial would run twice, be cut off, or end otherwise than it is told.
    """
    for test in tests:
        for mark in test.iter_markers() if parameter_of(test.nodeid) else ():
            if why := _MARKS.get(mark.name):
                raise UsageError(
                    f"the mark {mark.name!r} on trials does not go with a study: {why}. A conftest.py or a plugin adds "
                    "it: let it leave out the tests that have the mark 'sweep' or 'calibration'"
                )


def parameter_of(node_id: str) -> str:
    """The trial in a node id; empty for a test that runs none."""
    _, _, parameter = node_id.partition("::test_trial[")
    return parameter.rpartition("]")[0]  # xdist writes the group of a test behind it
