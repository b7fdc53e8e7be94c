"""The format change of published totals, against arithmetic."""

from __future__ import annotations

import pytest

from dev.original_study.totals import Totals, format_change_of_totals

pytestmark = pytest.mark.unit

# The table of the original study: passes of 6 trials, parse_fail and no_cmd per run.
BASELINE, L22, L30 = Totals(2, 6, 2.2, 1.2), Totals(2, 6, 1.3, 2.7), Totals(1, 6, 1.8, 0.3)


def test_the_original_studys_trade_off_is_named_from_its_own_counts():
    found = format_change_of_totals(L22, BASELINE)
    assert (found.parse_fail, found.no_cmd, found.pass_rate) == ("down", "up", "flat")
    assert found.words.startswith("traded parse_fail for no_cmd: format changed, solving did not")
    assert "parse_fail 2.2 → 1.3 and no_cmd 1.2 → 2.7 per run; pass 2/6 → 2/6, Fisher p = 1" in found.words
    assert "Descriptive: totals carry no spread between tasks" in found.words
    assert not found.tested


def test_the_original_studys_other_layer_lost_both_faults_and_solved_no_more():
    found = format_change_of_totals(L30, BASELINE)
    assert found.words.startswith("less parse_fail and less no_cmd: format changed, solving did not")
    assert "pass 2/6 → 1/6, Fisher p = 1" in found.words


@pytest.mark.parametrize("solved", [1, 0])
def test_passes_alone_are_described_with_what_five_runs_cannot_show(solved):
    found = format_change_of_totals(Totals(solved, 5, None, None), Totals(1, 5, None, None))
    assert found.pass_rate == "flat"
    blind = "5 runs cannot detect a rise of any size with power 80 %."
    assert found.words == f"solving did not change (pass 1/5 → {solved}/5, Fisher p = 1); {blind}"


def test_six_runs_could_only_have_shown_a_very_large_rise():
    # 6 of 6 against 1 of 6: p = 2·6/792 = 0.015; against 2 of 6: p = 2·15/495 = 0.061. So the baseline must solve at
    # most 1, which at its rate of (2 + ½)/(6 + 1) it does with probability 0.643^6 + 6·0.357·0.643^5 = 0.31 < 0.8.
    words = format_change_of_totals(L22, BASELINE).words
    assert words.endswith("tested, and 6 runs cannot detect a rise of any size with power 80 %.")


def test_counts_that_show_a_change_are_not_followed_by_what_they_could_not_show():
    # 1 of 5 → 5 of 5: the six passes fall 5 to 1 or 1 to 5, as far out as can be, in 2·5 of C(10, 6) = 210 ways.
    rose = format_change_of_totals(Totals(5, 5), Totals(1, 5)).words
    assert rose == f"solving rose (pass 1/5 → 5/5, Fisher p = {10 / 210:.2g})."
    # 6 of 6 → 0 of 6: 2 of C(12, 6) = 924 ways.
    fell = format_change_of_totals(Totals(0, 6, 0, 0), Totals(6, 6, 0, 0)).words
    assert f"Fisher p = {2 / 924:.2g})" in fell
    assert fell.endswith("so only the pass counts are tested.")
