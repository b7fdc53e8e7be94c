"""The families of tasks, the folders that are made from them, and the demonstrations that the agent learned from."""

from __future__ import annotations

import filecmp
import subprocess
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from capvec.agent.protocols import get_protocol
from capvec.errors import UsageError
from capvec.tasks.families import FAMILIES
from capvec.tasks.generate import BUNDLED_INSTANCES, BUNDLED_SEED, generate, make_instance, verifier
from capvec.tasks.loader import BUNDLED, bundled_sets, load_task, load_tasks
from dev.agent.demonstrations import plan
from dev.agent.demonstrators import EXPERT, FENCED, JSON, MODES, NOVICE, demonstrate

pytestmark = pytest.mark.unit

HELD_OUT = [family for family in FAMILIES.values() if family.split == "held-out"]


def test_there_are_48_tasks_from_16_families_and_a_third_of_the_families_is_never_trained_on() -> None:
    tasks = load_tasks("full")
    assert len(tasks) >= 48
    assert {task.metadata["family"] for task in tasks} == set(FAMILIES)
    assert len(FAMILIES) >= 16
    assert 3 * len(HELD_OUT) >= len(FAMILIES)


def test_every_bundled_task_says_its_family_and_split() -> None:
    for task in load_tasks("full"):
        family = FAMILIES[task.metadata["family"]]
        assert (task.metadata["split"], task.metadata["difficulty"]) == (family.split, family.difficulty)


def test_sprint_has_5_tasks_and_multi_6_spanning_easy_to_hard_and_both_splits() -> None:
    sets = bundled_sets()
    assert (len(sets["sprint"]), len(sets["multi"])) == (5, 6)
    assert not set(sets["sprint"]) & set(sets["multi"])
    for name in ("sprint", "multi"):
        metadata = [task.metadata for task in load_tasks(name)]
        assert {entry["difficulty"] for entry in metadata} == {"easy", "medium", "hard"}
        assert {entry["split"] for entry in metadata} == {"trained", "held-out"}


def test_the_bundled_folders_are_byte_for_byte_what_the_generator_makes(tmp_path: Path) -> None:
    made = generate(tmp_path, seed=BUNDLED_SEED, instances=BUNDLED_INSTANCES)
    assert {folder.name for folder in made} == {path.name for path in BUNDLED.iterdir() if path.is_dir()}
    for folder in made:
        names = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
        theirs = BUNDLED / folder.name
        assert names == sorted(path.relative_to(theirs) for path in theirs.rglob("*") if path.is_file())
        for name in names:
            assert filecmp.cmp(folder / name, theirs / name, shallow=False), f"{folder.name}/{name}"
            assert (folder / name).stat().st_mode & 0o100 == (theirs / name).stat().st_mode & 0o100


def test_another_seed_makes_other_tasks_that_load(tmp_path: Path) -> None:
    made = generate(tmp_path, seed="another", instances=1)
    assert len(made) == len(FAMILIES)
    instructions = {load_task(folder).instruction for folder in made}
    bundled = {task.instruction for task in load_tasks("full")}
    assert len(instructions - bundled) > len(FAMILIES) * 0.8


def test_an_unknown_family_and_no_instances_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown juggling"):
        generate(tmp_path, seed=0, instances=1, families=["juggling"])
    with pytest.raises(UsageError, match="--instances 0: expected at least 1"):
        generate(tmp_path, seed=0, instances=0)


@pytest.mark.parametrize("name", FAMILIES)
def test_an_instance_is_made_twice_the_same_and_its_verifier_is_shell(name: str) -> None:
    for number in range(20):
        instance = make_instance(FAMILIES[name], "property", number)
        assert instance == make_instance(FAMILIES[name], "property", number)
        assert instance.wrong
        assert instance.solution
        assert set(instance.kept) <= set(instance.files)
    checked = subprocess.run(["bash", "-n"], input=verifier(instance), text=True, capture_output=True, check=False)
    assert checked.returncode == 0, checked.stderr


def test_no_demonstration_is_of_a_held_out_family_or_of_a_bundled_instance() -> None:
    jobs = plan(1500, seed=0)
    bundled = {task.instruction for task in load_tasks("full")}
    assert len(jobs) == 1500
    assert all(FAMILIES[job.family].split == "trained" for job in jobs)
    assert not {job.instance.instruction for job in jobs} & bundled


def test_most_demonstrations_carry_no_mode_line_and_the_demonstrator_follows_it() -> None:
    kinds: Counter[tuple[str, bool]] = Counter()
    stumbles: Counter[str] = Counter()
    instance = make_instance(FAMILIES["count-lines"], "x", 0)
    count = 4000
    parse = get_protocol("bash-block").parse
    for number in range(count):
        made = demonstrate(instance, Random(number))
        kinds[made.mode, made.kind == "careful"] += 1
        if made.kind == "careful":
            stumbles[made.mode] += any(parse(reply).status == "failed" for reply in made.replies)
    assert kinds["", True] + kinds["", False] > count / 2
    assert kinds[EXPERT, False] == 0
    assert kinds[NOVICE, True] == 0
    # A share's standard error at n = 4000 is under 0.008: five of them.
    for mode, share in MODES.items():
        assert abs((kinds[mode, True] + kinds[mode, False]) / count - share) < 0.04
    assert stumbles[FENCED] == 0
    assert stumbles[JSON] > 0.7 * kinds[JSON, True]


def test_the_careful_demonstrator_uses_the_oracle_and_says_done() -> None:
    parse = get_protocol("bash-block").parse
    for number in range(200):
        instance = make_instance(FAMILIES["find-file"], "x", number)
        made = demonstrate(instance, Random(number))
        if made.kind != "careful":
            continue
        commands = [command for reply in made.replies for command in parse(reply).commands]
        assert [command for command in commands if command in instance.solution] == list(instance.solution)
        assert parse(made.replies[-1]).done
