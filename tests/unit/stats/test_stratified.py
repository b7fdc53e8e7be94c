"""The Cochran–Mantel–Haenszel test."""

from __future__ import annotations

import math

import pytest

from capvec.stats.stratified import Stratum, cmh

pytestmark = pytest.mark.unit


def test_one_stratum_is_fishers_test():
    result = cmh([Stratum(3, 4, 1, 4)])
    assert result.pvalue == pytest.approx(34 / 70)
    assert result.odds_ratio == pytest.approx(9)


def test_tasks_that_all_trials_solve_or_none_tell_nothing():
    informative = [Stratum(3, 5, 1, 5), Stratum(4, 5, 2, 5)]
    with_silent = cmh([*informative, Stratum(5, 5, 5, 5), Stratum(0, 5, 0, 4)])
    assert with_silent.pvalue == pytest.approx(cmh(informative).pvalue)
    assert (with_silent.statistic, with_silent.informative) == (pytest.approx(cmh(informative).statistic), 2)
    silent = cmh([Stratum(5, 5, 5, 5)])
    assert (silent.pvalue, silent.pvalue_asymptotic, math.isnan(silent.odds_ratio)) == (1.0, 1.0, True)
