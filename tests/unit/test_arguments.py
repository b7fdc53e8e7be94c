"""Checks of what a user typed."""

from __future__ import annotations

import pytest

from capvec.arguments import at_least
from capvec.errors import UsageError

pytestmark = pytest.mark.unit


def test_no_option_takes_a_number_that_no_record_could_hold():
    assert at_least("--seed", str((1 << 63) - 1), 0) == (1 << 63) - 1
    with pytest.raises(UsageError, match=r"--seed '9+': expected a whole number of at most 9223372036854775807"):
        at_least("--seed", "9" * 30, 0)
