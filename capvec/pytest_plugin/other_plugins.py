"""Settings of other pytest plugins under which a study's trials would not run once each, whole and in a worker.

A trial is no test that may be tried again: what came of it is in the ledger at once.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator

import pytest

from capvec.errors import UsageError

_RERUNS = "a trial would have several outcomes; --retries repeats those in which Docker or the engine failed"
_PARALLEL = "a study's processes are those of pytest-xdist; use -n"
_REFUSED = (
    (
        "dist",
        ("each",),
        "--dist each",
        "every worker would run every trial; use -n alone, or --attempts for more",
    ),
    ("forked", (True,), "--forked", "outcomes do not come back from a forked process; use -n for processes"),
    ("force_flaky", (True,), "--force-flaky", _RERUNS),
    ("max_suite_reruns", (), "--max-suite-reruns", _RERUNS),
    ("workers", (), "--workers", _PARALLEL),
    ("tests_per_worker", (), "--tests-per-worker", _PARALLEL),
)
"""An option's name in `config.option`, the values that are refused (all if none is named), its spelling, and why."""


def refuse_other_plugins(config: pytest.Config) -> None:
    """Check the settings of other plugins before a study starts.

    Raises:
        UsageError: a trial would run twice, in a process from which no outcome comes back, or be cut off.
    """
    for reason in _reasons(config):
        raise UsageError(reason)


def _reasons(config: pytest.Config) -> Iterator[str]:
    for name, refused, spelling, why in _REFUSED:
        value = getattr(config.option, name, None)
        if value and (not refused or value in refused):
            yield f"{spelling} does not go with a study: {why}"
    if _has(config, "rerunfailures", "pytest_rerunfailures") and _setting(config, "reruns"):
        where = "--reruns, or `reruns` in pytest's settings,"
        yield f"{where} does not go with a study: {_RERUNS}. --reruns 0 turns it off"
    if _has(config, "timeout", "pytest_timeout") and _setting(config, "timeout", "PYTEST_TIMEOUT"):
        yield (
            "--timeout, or `timeout` in pytest's settings, does not go with a study: a trial that it cuts off would be "
            "an error and leave the pass rate, and the slow ones would be missing from it. Tasks have time limits of "
            "their own; --timeout 0 turns this one off"
        )


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


def parameter_of(node_id: str) -> str:
    """The trial in a node id; empty for a test that runs none."""
    _, _, parameter = node_id.partition("::test_trial[")
    return parameter.removesuffix("]")
