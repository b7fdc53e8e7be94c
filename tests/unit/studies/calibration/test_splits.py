"""Splits: no task of a dev family is tested on."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.recorded_calibration import task

from capvec.errors import UsageError
from capvec.studies.calibration.splits import dev_families, family, split_tasks, spread
from capvec.task_records import Task

pytestmark = pytest.mark.unit

TASKS = [
    task(f"{name}-{number}", name, "held-out" if name in "xy" else "trained") for name in "dbacxy" for number in (1, 2)
]


def test_every_other_trained_family_by_name_is_dev_and_the_rest_are_test():
    dev = dev_families(TASKS)
    assert dev == ("a", "c")
    splits = split_tasks(TASKS, dev)
    assert [task.name for task in splits.dev] == ["a-1", "a-2", "c-1", "c-2"]
    assert [task.name for task in splits.test] == ["d-1", "d-2", "b-1", "b-2"]
    assert {family(task) for task in splits.held_out} == {"x", "y"}


@given(st.lists(st.sampled_from(TASKS), unique_by=lambda task: task.name))
def test_whatever_tasks_are_run_none_of_a_dev_family_is_tested_on(tasks):
    # The families are those of the selection, and not computed again from a subset of the tasks.
    splits = split_tasks(tasks, ("a", "c"))
    assert not {family(task) for task in (*splits.test, *splits.held_out)} & {"a", "c"}
    assert len(splits.dev) + len(splits.test) + len(splits.held_out) == len(tasks)


def test_a_dev_family_cannot_be_held_out():
    with pytest.raises(UsageError, match="families x are held out"):
        split_tasks(TASKS, ("a", "x"))


def test_a_task_of_no_known_split_is_in_no_half():
    splits = split_tasks([task("t", "a", "bundled"), Task("u", Path("u"), "Do.", "0")], ())
    assert splits.dev == splits.test == splits.held_out == ()


def test_a_spread_takes_the_families_in_turn():
    assert [t.name for t in spread(TASKS[:6], 4)] == ["a-1", "b-1", "d-1", "a-2"]
