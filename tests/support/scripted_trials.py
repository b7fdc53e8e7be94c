"""A pytest plugin (`-p support.scripted_trials`): trials whose ends are given, with capvec's own hooks around them.

It tests what capvec shows and counts while trials run. Environment variables define the trials:

* `TRIALS`: names of tasks, each of which says how its only trial ends: `solved1`, `unsolved2`, `error3`, `skip4`,
  `crash5` (its process ends) or `press6` (Ctrl-C).
* `GATES`: a JSON list of gates: the condition, whether it is met, and why.
* `SECONDS`: duration of a trial.
* `SAY`: name of a task whose trial makes the session print a line when it ends.
"""

from __future__ import annotations

import os
import signal
import time

import pytest

from capvec.errors import InfrastructureError, UsageError
from capvec.pytest_plugin.items import TrialItems
from capvec.pytest_plugin.other_plugins import refuse_other_plugins
from capvec.records import Config, Outcome

TEST_FILE = "from support.scripted_trials import outcome\n\n\ndef test_trial(outcome):\n    pass\n"
"""It imports the fixture, since capvec's fixture of that name would take precedence over a plugin's."""
CONFIG = Config("baseline", "baseline")
_outcome = pytest.StashKey[Outcome]()


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session):
    session.config.pluginmanager.register(TrialItems(), "capvec-items")
    if hasattr(session.config, "workerinput"):
        return
    try:
        refuse_other_plugins(session.config)
    except UsageError as error:
        raise pytest.UsageError(str(error)) from None
    from support.scripted_session import register  # SciPy: neither a worker nor a session that is refused needs it

    register(session.config, CONFIG)


def pytest_generate_tests(metafunc):
    if "outcome" not in metafunc.fixturenames:
        return
    names = os.environ["TRIALS"].split()
    metafunc.parametrize("outcome", names, ids=[f"{name}-{CONFIG.name}-t1" for name in names], indirect=True)


@pytest.fixture
def outcome(request):
    end = request.param.rstrip("0123456789")
    if end == "skip":
        pytest.skip("not wanted")
    if end == "press":
        os.kill(os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid(), signal.SIGINT)
    if end == "crash":
        os._exit(3)
    time.sleep(float(os.environ.get("SECONDS", "0")))
    request.node.stash[_outcome] = Outcome("r", request.param, CONFIG.name, None, None, 1, 0, end)
    if end == "error":
        raise InfrastructureError("the engine went away")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    result = item.stash.get(_outcome, None)
    if result is not None and call.when != "teardown" and (report.failed or call.when == "call"):
        report.capvec = result.to_json()
        item.user_properties[:] = [("trial", result.trial), ("outcome", result.outcome)]
        report.longrepr = "the engine went away" if report.failed else report.longrepr
    return report
