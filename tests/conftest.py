"""What every test shares."""

import os
import signal
import sys

import pytest
from hypothesis import settings

# No test goes by the clock: on shared cores an example may take a hundred times as long as the one before it.
settings.register_profile("capvec", deadline=None)
settings.load_profile("capvec")

# Workers and engines share few cores: threads that spin while they wait keep the others from running. Read when torch
# is imported, which no test module does at its top.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Some tests press Ctrl-C. A shell has what it starts in the background ignore that, and so would all that we start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_imported: pytest.StashKey[frozenset[str]] = pytest.StashKey()


def pytest_addoption(parser):
    parser.addoption("--rewrite-snapshots", action="store_true", help="write tests/data/snapshots anew")


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
