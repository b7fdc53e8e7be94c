"""What every test shares."""

import os
import sys

import pytest

# Workers and engines share few cores: threads that spin while they wait keep the others from running. Read when torch
# is imported, which no test module does at its top.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

_imported: pytest.StashKey[frozenset[str]] = pytest.StashKey()


def pytest_collection_finish(session):
    session.config.stash[_imported] = frozenset(sys.modules)


@pytest.fixture(scope="session")
def imported_by_collection(pytestconfig):
    """Names of the modules that were imported when the tests were collected, before any of them ran."""
    return pytestconfig.stash[_imported]
