"""The identity of a trial, and an outcome's way to JSON and back."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capvec.errors import UsageError
from capvec.records import Outcome, TrialId, TrialSpec
from capvec.steering import Steer

pytestmark = pytest.mark.unit

NAMES = st.from_regex(r"[a-z0-9]{1,3}(-t?[a-z0-9]{1,3}){0,3}", fullmatch=True)


def test_an_id_is_written_as_task_config_and_attempt():
    assert str(TrialSpec("sort-lines", "steered-L22-a4", 3, 7).id) == "sort-lines-steered-L22-a4-t3"


@given(NAMES, NAMES, st.integers(1, 99))
def test_an_id_is_read_back_whatever_hyphens_its_names_hold(task, config, attempt):
    trial = TrialId(task, config, attempt)
    assert TrialId.parse(str(trial), [task], [config]) == trial


def test_the_names_of_the_plan_decide_where_a_task_ends():
    assert TrialId.parse("a-b-c-t1", ["a"], ["c", "b-c"]) == TrialId("a", "b-c", 1)
    assert TrialId.parse("a-b-c-t1", ["a-b"], ["c", "b-c"]) == TrialId("a-b", "c", 1)


@pytest.mark.parametrize("text", ["a-b", "a-b-t", "a-b-tx", "a-c-t1", "b-t1", "-b-t1", ""])
def test_what_is_no_trial_of_the_plan_is_refused(text):
    with pytest.raises(UsageError, match="TASK-CONFIG-tN"):
        TrialId.parse(text, ["a"], ["b"])


def test_an_outcomes_id_follows_its_task_config_and_attempt_and_is_written_beside_them():
    outcome = Outcome("r", "a", "b", None, None, 1, 0, "solved")
    moved = replace(outcome, attempt=2)
    assert (moved.trial, moved.id) == ("a-b-t2", TrialId("a", "b", 2))
    assert list(moved.to_json())[:3] == ["run", "trial", "task"]
    assert Outcome.from_json(moved.to_json()) == moved


def test_a_whole_number_may_be_written_with_a_point_and_any_number_without():
    steer = Steer.from_json({"layer": 3.0, "direction": "d", "alpha": 2})
    assert (steer, type(steer.layer), type(steer.alpha)) == (Steer(3, "d", 2.0), int, float)


@pytest.mark.parametrize(
    ("field", "value"),
    [("layer", 1.5), ("layer", True), ("layer", "1"), ("layer", float("inf")), ("layer", None), ("alpha", "2"),
     ("alpha", False), ("alpha", 10**400), ("direction", 5), ("keep_norm", 1), ("keep_norm", "no"), ("op", ["add"])],
)  # fmt: skip
def test_a_value_of_another_type_is_no_record_and_is_not_converted(field, value):
    with pytest.raises(UsageError, match=rf"not a Steer record: .*Steer\.{field}"):
        Steer.from_json({"layer": 1, "direction": "d", "alpha": 1.0, field: value})
