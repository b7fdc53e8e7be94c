"""An engine on a real socket whose endpoints wait to be told their answers."""

from __future__ import annotations

import pytest
from support.waiting_engine import Waiting


@pytest.fixture
def waiting():
    return Waiting()


@pytest.fixture
def engine(waiting):
    with waiting.served() as running:
        yield running
