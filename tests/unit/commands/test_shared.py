"""What several commands do."""

from __future__ import annotations

import gc

import pytest

from capvec.commands.shared import keeping_records

pytestmark = pytest.mark.unit


def test_cycles_are_searched_for_again_after_a_report():
    with keeping_records():
        assert not gc.isenabled()
    assert gc.isenabled()
