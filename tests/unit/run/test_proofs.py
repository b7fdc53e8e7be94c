"""What a proof is kept for: a change of anything that decides how a task is judged has it checked again."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from support.tasks import make_task

from capvec.run.checked import Attempt, TaskCheck
from capvec.run.control import Scale
from capvec.run.proofs import PACKAGE, Proofs, code_digest
from capvec.task_records import Environment, Limits, Task
from capvec.tasks.loader import load_task

pytestmark = pytest.mark.unit

FIT = TaskCheck("greet", Attempt(0.0), Attempt(1.0, solved=True), 1.0, networked=False)


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Task:
    monkeypatch.setenv("CAPVEC_CACHE", str(tmp_path / "cache"))
    return load_task(make_task(tmp_path))


def test_a_proof_is_read_back_and_holds_for_the_same_files_elsewhere(task: Task, tmp_path: Path) -> None:
    Proofs(Scale(), "none").keep(task, "sha256:1", FIT)
    assert Proofs(Scale(), "none").read(task, "sha256:1") == FIT
    assert Proofs(Scale(), "none").read(load_task(make_task(tmp_path / "elsewhere")), "sha256:1") == FIT


@pytest.mark.parametrize(
    "changed",
    [
        {"checksum": "other"},
        {"environment": Environment(limits=Limits(network=True))},
        {"environment": Environment(limits=Limits(cap_add=("CHOWN",)))},
        {"environment": Environment(env={"A": "1"})},
        {"solution_env": {"KEY": "1"}},
    ],
)
def test_another_task_or_another_permission_is_checked_again(task: Task, changed: dict[str, object]) -> None:
    assert Proofs(Scale(), "none").key(replace(task, **changed), "sha256:1") != Proofs(Scale(), "none").key(
        task, "sha256:1"
    )


def test_another_image_scale_set_of_capabilities_and_capvec_are_checked_again(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    Proofs(Scale(), "none").keep(task, "sha256:1", FIT)
    assert Proofs(Scale(), "none").read(task, "sha256:2") is None
    assert Proofs(Scale("accuracy"), "none").read(task, "sha256:1") is None
    assert Proofs(Scale(solved_at=0.5), "none").read(task, "sha256:1") is None
    assert Proofs(Scale(), "default").read(task, "sha256:1") is None
    assert Proofs(Scale(), "none", keep_processes=True).read(task, "sha256:1") is None
    monkeypatch.setattr("capvec.run.proofs.code_digest", lambda: "other")
    assert Proofs(Scale(), "none").read(task, "sha256:1") is None


@pytest.mark.parametrize(
    ("file", "decides"),
    [
        ("records.py", True),
        ("tasks/loader.py", True),
        ("sandbox/verifier.py", True),
        ("sandbox/new.py", True),
        ("run/check.py", True),
        ("run/control.py", True),
        ("report/table.py", False),
        ("sandbox/__pycache__/verifier.cpython-311.pyc", False),
    ],
)
def test_a_check_is_other_code_when_a_file_that_decides_it_changes(tmp_path: Path, file: str, decides: bool) -> None:
    copies = []
    for name in ("before", "after"):
        copies.append(tmp_path / name)
        for folder in (".", "tasks", "sandbox", "run"):
            shutil.copytree(PACKAGE / folder, copies[-1] / folder, ignore=only_modules, dirs_exist_ok=True)
    assert code_digest(copies[0]) == code_digest(PACKAGE)
    (copies[1] / file).parent.mkdir(exist_ok=True)
    with (copies[1] / file).open("a") as changed:
        changed.write("# a remark\n")
    assert (code_digest(copies[1]) != code_digest(PACKAGE)) == decides


def only_modules(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if not name.endswith(".py") or Path(folder, name).is_dir()]


def test_a_failed_check_is_not_kept_and_a_broken_file_counts_for_nothing(task: Task, tmp_path: Path) -> None:
    Proofs(Scale(), "none").keep(task, "sha256:1", replace(FIT, solution=Attempt(0.0)))
    assert not (tmp_path / "cache").exists()
    Proofs(Scale(), "none").keep(task, "sha256:1", FIT)
    (file,) = (tmp_path / "cache").rglob("*.json")
    file.write_text('{"task": "gr')
    assert Proofs(Scale(), "none").read(task, "sha256:1") is None
