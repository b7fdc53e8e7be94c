"""The task families that the bundled tasks are instances of."""

from __future__ import annotations

import pytest

from capvec.tasks.loader import bundled_sets, load_tasks
from dev.tasks.families import FAMILIES

pytestmark = pytest.mark.unit

HELD_OUT = [family for family in FAMILIES.values() if family.split == "held-out"]


def test_there_are_48_tasks_from_16_families_and_a_third_of_the_families_is_never_trained_on() -> None:
    tasks = load_tasks("full").tasks
    assert len(tasks) >= 48
    assert {task.metadata["family"] for task in tasks} == set(FAMILIES)
    assert len(FAMILIES) >= 16
    assert 3 * len(HELD_OUT) >= len(FAMILIES)


def test_every_bundled_task_says_its_family_and_split() -> None:
    for task in load_tasks("full").tasks:
        family = FAMILIES[task.metadata["family"]]
        assert (task.metadata["split"], task.metadata["difficulty"]) == (family.split, family.difficulty)


def test_sprint_has_5_tasks_and_multi_6_spanning_easy_to_hard_and_both_splits() -> None:
    sets = bundled_sets()
    assert (len(sets["sprint"]), len(sets["multi"])) == (5, 6)
    assert not set(sets["sprint"]) & set(sets["multi"])
    for name in ("sprint", "multi"):
        metadata = [task.metadata for task in load_tasks(name).tasks]
        assert {entry["difficulty"] for entry in metadata} == {"easy", "medium", "hard"}
        assert {entry["split"] for entry in metadata} == {"trained", "held-out"}
