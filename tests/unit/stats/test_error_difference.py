"""Do errors fall on some configs more than on the baseline?"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.outcomes import outcome

from capvec.stats.error_difference import error_differences
from capvec.stats.summary import summarise

pytestmark = pytest.mark.unit
counts = st.integers(0, 6)


def trials(**errors_of):
    """`name=(errors, n)`: the first trials of a config are errors."""
    return [
        outcome(name, f"task{index}", "error" if index < errors else "unsolved")
        for name, (errors, n) in errors_of.items()
        for index in range(n)
    ]


def test_every_config_is_compared_with_the_baseline():
    summary = summarise(trials(baseline=(0, 20), s=(7, 20), t=(0, 20)), ["baseline", "s", "t"])
    s, t = error_differences(summary)
    assert (s.config, s.errors, s.trials, s.base_errors, s.base_trials) == ("s", 7, 20, 0, 20)
    assert s.p == pytest.approx(0.0083, abs=5e-5)  # R: fisher.test(matrix(c(7, 13, 0, 20), 2))
    assert (s.differs, t.differs, t.p) == (True, False, 1.0)


@given(counts, counts, st.integers(1, 6), st.integers(1, 6))
def test_shares_differ_exactly_where_they_are_not_equal(errors, base_errors, more, base_more):
    n, base_n = errors + more, base_errors + base_more
    summary = summarise(trials(baseline=(base_errors, base_n), s=(errors, n)), ["baseline", "s"])
    (found,) = error_differences(summary)
    assert found.differs == (abs(errors / n - base_errors / base_n) > 1e-9)
    assert 0 < found.p <= 1


def test_a_config_or_a_baseline_without_a_trial_is_not_compared():
    assert error_differences(summarise(trials(baseline=(1, 3)), ["baseline", "s"])) == ()
    assert error_differences(summarise(trials(s=(1, 3)), ["baseline", "s"])) == ()
