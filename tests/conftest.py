"""What every test shares."""

import os
import signal
import sys

import pytest
from hypothesis import settings

from capvec.programs import brief_waits
from capvec.pytest_plugin.preparation import STUDIES

# No test goes by the clock: on shared cores an example may take a hundred times as long as the one before it.
settings.register_profile("capvec", deadline=None)
settings.load_profile("capvec")

# Workers and engines share few cores: threads that spin for long while they wait keep the others from running. Read
# when torch is imported, which no test module does at its top.
os.environ.update(brief_waits(os.environ))

# Some tests press Ctrl-C. A shell has what it starts in the background ignore that, and so would all that we start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_imported: pytest.StashKey[frozenset[str]] = pytest.StashKey()


def pytest_addoption(parser):
    parser.addoption("--rewrite-snapshots", action="store_true", help="write tests/data/snapshots anew")
    group = parser.getgroup("benchmarks", "benchmarks (-m bench)")
    group.addoption("--bench-small", action="store_true", help="small sizes: seconds each, to see that they work")
    group.addoption("--bench-out", default="reports/benchmarks", metavar="DIR", help="folder for their JSON files")
    group.addoption("--bench-set", action="append", default=[], metavar="NAME=VALUE", help="another size; repeatable")


def pytest_ignore_collect(config):
    """Nothing here is a trial of a study, and each worker of one would import all tests to find that out."""
    return True if config.getoption("-m") in STUDIES else None


def pytest_collection_modifyitems(config, items):
    """Benchmarks run only where `-m` names them: they take minutes, and nothing else should run beside them."""
    if "bench" in config.getoption("-m"):
        return
    left_out = [item for item in items if item.get_closest_marker("bench")]
    if left_out:
        items[:] = [item for item in items if not item.get_closest_marker("bench")]
        config.hook.pytest_deselected(items=left_out)


def pytest_collection_finish(session):
    session.config.stash[_imported] = frozenset(sys.modules)


@pytest.fixture(scope="session")
def torch():
    """Slow to import, so no test module does at its top."""
    return pytest.importorskip("torch")


@pytest.fixture(scope="session")
def imported_by_collection(pytestconfig):
    """Names of the modules that were imported when the tests were collected, before any of them ran."""
    return pytestconfig.stash[_imported]
