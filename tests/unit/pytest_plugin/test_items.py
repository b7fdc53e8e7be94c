"""Each trial knows which one its process runs next."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.unit
pytest_plugins = ("pytester",)

CONFTEST = """
from capvec.pytest_plugin.items import TrialItems

def pytest_configure(config):
    config.pluginmanager.register(TrialItems())
"""
TESTS = """
import pytest
from capvec.pytest_plugin.items import following
from capvec.records import TrialSpec

SPECS = [TrialSpec(task, "baseline", 1, 0) for task in "abc"]

def say(request, name):
    after = following(request.node)
    with open("order.txt", "a") as file:
        file.write(f"{name} {'-' if after is None else after.task}\\n")

@pytest.mark.parametrize("outcome", SPECS)
def test_of_a_trial(outcome, request):
    say(request, outcome.task)

def test_of_something_else(request):
    say(request, "other")
"""


@pytest.mark.parametrize("workers", ["0", "1"])
def test_the_next_trial_is_known_with_workers_and_without(pytester, workers, monkeypatch) -> None:
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(TESTS)
    result = pytester.runpytest_subprocess("-p", "no:randomly", "-n", workers)
    result.assert_outcomes(passed=4)
    assert (pytester.path / "order.txt").read_text().split("\n")[:-1] == ["a b", "b c", "c -", "other -"]
