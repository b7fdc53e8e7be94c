"""The rules that select layer and strength, and the file of the selection."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.recorded_calibration import a_selection, point

from capvec.errors import UsageError
from capvec.studies.calibration.selection import Selection, select_format, select_skill

pytestmark = pytest.mark.unit


def test_the_smallest_dose_within_a_standard_error_of_the_best_is_selected():
    # Standard errors with (s + 1)/(n + 2) at n = 20: 20/20 → 21/22, √(.955·.045/20) = .047; 19/20 → 20/22, .064.
    # Their hypotenuse is .079: 19/20 is .05 below the best and will do. 17/20 → 18/22, .086, hypotenuse .098, is not.
    best, near, far = point(dose=0.5, solved=20), point(dose=0.3, solved=19), point(dose=0.1, solved=17)
    assert select_skill([far, best, near]) == near
    assert select_skill([far, best]) == best


def test_a_certainty_of_few_trials_does_not_rule_out_a_smaller_dose():
    # 4/4 would have a standard error of 0, and 3/4 be out; with (s + 1)/(n + 2) = 5/6 and 4/6 it is .186 and .236.
    assert select_skill([point(dose=0.5, n=4, solved=4), point(dose=0.2, n=4, solved=3)]).solved == 3


@given(st.lists(st.tuples(st.integers(0, 20), st.floats(0.01, 2)), min_size=1, max_size=10))
def test_nothing_that_does_as_well_has_a_smaller_dose(drawn):
    points = [point(solved=solved, dose=dose) for solved, dose in drawn]
    selected = select_skill(points)
    assert not any(other.solved >= max(p.solved for p in points) and other.dose < selected.dose for other in points)


def test_the_format_steer_fails_to_parse_most_and_costs_at_most_the_margin():
    baseline = replace(point(solved=10), mode="baseline")
    costly, good, weak = (
        point(solved=7, parse_fail=2.0),  # 0.15 below the baseline
        point(solved=8, parse_fail=1.0),  # exactly the margin of 0.10
        point(solved=12, parse_fail=0.5),
    )
    assert select_format([costly, good, weak], baseline) == good
    assert select_format([costly, replace(costly, solved=6)], baseline) == costly


def test_without_a_valid_trial_there_is_nothing_to_choose():
    with pytest.raises(ValueError, match="none with a valid trial"):
        select_skill([point(n=0, solved=0)])


def test_a_choice_comes_back_from_its_file(tmp_path):
    a_selection().save(tmp_path / "selection.json")
    assert Selection.load(tmp_path / "selection.json") == a_selection()
    data = a_selection().to_json()
    data["tune_families"] = data.pop("dev_families")  # the key of an earlier capvec
    assert Selection.from_json(data) == a_selection()


def test_a_missing_or_broken_choice_is_named_with_what_makes_one(tmp_path):
    with pytest.raises(UsageError, match=r"capvec\.studies\.calibration\.select"):
        Selection.load(tmp_path / "none.json")
    (tmp_path / "broken.json").write_text('{"model": 3}')
    with pytest.raises(UsageError, match=r"broken\.json is not what capvec\.studies\.calibration\.select writes"):
        Selection.load(tmp_path / "broken.json")
