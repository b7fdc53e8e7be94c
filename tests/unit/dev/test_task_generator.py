"""Task folders that are made from the families: the bundled ones to the byte, and others under another seed."""

from __future__ import annotations

import filecmp
import subprocess
from pathlib import Path

import pytest

from capvec.errors import UsageError
from capvec.tasks.loader import BUNDLED, load_task, load_tasks
from dev.tasks.families import FAMILIES
from dev.tasks.generate import BUNDLED_INSTANCES, BUNDLED_SEED, generate, main, make_instance, verifier

pytestmark = pytest.mark.unit


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
    bundled = {task.instruction for task in load_tasks("full").tasks}
    assert len(instructions - bundled) > len(FAMILIES) * 0.8


def test_an_unknown_family_and_no_instances_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="juggling"):
        generate(tmp_path, seed=0, instances=1, families=["juggling"])
    with pytest.raises(UsageError, match="--instances 0"):
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


def test_the_command_writes_tasks_and_refuses_an_unknown_family(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["--out", str(tmp_path), "--seed", "mine", "--instances", "1", "--families", "csv-sum"]) == 0
    assert [folder.name for folder in tmp_path.iterdir()] == ["csv-sum-1"]
    assert main(["--out", str(tmp_path), "--families", "juggling"]) == 2
    assert "juggling" in capsys.readouterr().err
