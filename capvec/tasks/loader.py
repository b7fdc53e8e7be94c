"""Loads task folders as `Task` records.

A task is a folder in Harbor's format: `task.toml`, `instruction.md`, `environment/Dockerfile` (optional if
`docker_image` is set), `tests/test.sh` and, optionally, `solution/solve.sh`. The folder's name is the task's name.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path

from capvec.errors import UsageError
from capvec.records import Task
from capvec.tasks.checksum import folder_checksum
from capvec.tasks.config import Settings, parse_settings

BUNDLED = Path(__file__).parent / "bundled"
FULL = "full"
"""Name of the set of all bundled tasks."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_TASK_PARTS = ("task.toml", "instruction.md", "environment", "tests", "solution")
_COMPOSE = ("docker-compose.yaml", "docker-compose.yml", "compose.yaml", "compose.yml")


def load_task(folder: Path) -> Task:
    """Read and check one task folder.

    Raises:
        UsageError: a file is missing or broken; the message names it, and the key if one is wrong.
    """
    folder = _absolute(folder)
    _check_name(folder)
    settings = _settings(folder)
    instruction = _read_text(folder / "instruction.md", "the instruction for the agent")
    if not instruction.strip():
        raise UsageError(f"{folder / 'instruction.md'}: empty; expected the instruction for the agent")
    _check_files(folder, settings)
    return Task(
        name=folder.name,
        path=folder,
        instruction=instruction.strip(),
        checksum=folder_checksum(folder),
        limits=settings.limits,
        image=settings.image,
        build_timeout_s=settings.build_timeout_s,
        agent_timeout_s=settings.agent_timeout_s,
        verifier_timeout_s=settings.verifier_timeout_s,
        env=settings.env,
        verifier_env=settings.verifier_env,
        solution_env=settings.solution_env,
        metadata=settings.metadata,
    )


def load_tasks(name_or_path: str) -> tuple[Task, ...]:
    """Load the tasks that `--tasks` names, in the order given and each once.

    Args:
        name_or_path: `sprint`, `multi`, `full`, a bundled task, one task folder, or a folder of task folders; or
            several of these, separated by commas. A bundled name takes precedence over a folder of the same name,
            which `./multi` refers to.

    Raises:
        UsageError: the name is unknown, the folder holds no task, two tasks share a name, or tasks are broken; the
            message lists all that are broken.
    """
    parts = [name_or_path] if Path(name_or_path).exists() else [part.strip() for part in name_or_path.split(",")]
    folders = list(dict.fromkeys(folder for part in parts for folder in _folders(part)))
    _check_unique(folders)
    return _load_all(folders)


def notes_in_words(tasks: Iterable[Task]) -> tuple[str, ...]:
    """The `Settings.notes` of tasks as lines. A note that several tasks share is one line, which counts them.

    Raises:
        UsageError: a `task.toml` is missing or broken.
    """
    noted: dict[str, list[str]] = {}
    for task in tasks:
        for note in _settings(task.path).notes:
            noted.setdefault(note, []).append(task.name)
    return tuple(
        f"task {names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}: {note}"
        for note, names in noted.items()
    )


def bundled_sets() -> dict[str, tuple[str, ...]]:
    """Name of a bundled set → its tasks; `full` is every bundled task."""
    sets = tomllib.loads((BUNDLED / "sets.toml").read_text(encoding="utf-8"))
    return {**{name: tuple(tasks) for name, tasks in sets.items()}, FULL: bundled_tasks()}


def bundled_tasks() -> tuple[str, ...]:
    """Names of all bundled tasks, sorted."""
    return tuple(sorted(folder.name for folder in BUNDLED.iterdir() if (folder / "task.toml").is_file()))


def _folders(name_or_path: str) -> list[Path]:
    """The task folders that one name or path stands for."""
    sets = bundled_sets()
    if name_or_path in sets:
        return [BUNDLED / name for name in sets[name_or_path]]
    if name_or_path in sets[FULL]:
        return [BUNDLED / name_or_path]
    path = Path(name_or_path).expanduser()
    if not name_or_path or not path.exists():
        close = difflib.get_close_matches(name_or_path, [*sets, *sets[FULL]], n=3, cutoff=0.7)
        meant = f" (did you mean {' or '.join(close)}?)" if close else ""
        raise UsageError(
            f"--tasks: neither a bundled task nor a folder is named {name_or_path!r}{meant}; expected one of the sets "
            f"{', '.join(sets)}, a bundled task, or the path of a task folder or of a folder of task folders"
        )
    if not path.is_dir():
        raise UsageError(f"{path} is a file; expected a task folder or a folder of task folders")
    if (path / "task.toml").exists():
        return [_absolute(path)]
    inside = [_absolute(child) for child in sorted(path.iterdir()) if _looks_like_a_task(child)]
    if inside:
        return inside
    if _looks_like_a_task(path):
        return [_absolute(path)]
    raise UsageError(
        f"--tasks: no task in {path}; expected it to hold task.toml, or folders that do, each with instruction.md, "
        "environment/Dockerfile and tests/test.sh"
    )


def _looks_like_a_task(folder: Path) -> bool:
    """Whether a folder is meant to be a task. A task without its `task.toml` is broken, and not skipped."""
    if folder.name.startswith((".", "__")) or not folder.is_dir():
        return False
    return any((folder / part).exists() for part in _TASK_PARTS)


def _check_unique(folders: Iterable[Path]) -> None:
    first: dict[str, Path] = {}
    for folder in folders:
        other = first.setdefault(folder.name, folder)
        if other != folder:
            raise UsageError(
                f"two tasks are named {folder.name!r}: {other} and {folder}; expected unique names. Rename one folder."
            )


def _load_all(folders: list[Path]) -> tuple[Task, ...]:
    tasks, errors = [], []
    for folder in folders:
        try:
            tasks.append(load_task(folder))
        except UsageError as error:
            errors.append(f"{folder.name}: {error}")
    if errors:
        listed = "".join(f"\n  {error}" for error in errors)
        raise UsageError(f"{len(errors)} of {len(folders)} tasks cannot be used:{listed}")
    return tuple(tasks)


def _check_name(folder: Path) -> None:
    if not _NAME.fullmatch(folder.name):
        raise UsageError(
            f"{folder}: {folder.name!r} cannot be a task's name; expected letters, digits, '.', '_' and '-', "
            "beginning with a letter or digit. Rename the folder."
        )


def _settings(folder: Path) -> Settings:
    file = folder / "task.toml"
    return parse_settings(_read_text(file, "the task's settings in Harbor's format"), file=str(file))


def _check_files(folder: Path, settings: Settings) -> None:
    _require(folder / "tests" / "test.sh", "the verifier, which writes /logs/verifier/reward.txt or reward.json")
    if settings.image is None:
        _require(folder / "environment" / "Dockerfile", "this file, or environment.docker_image in task.toml")
    for name in _COMPOSE:
        if (folder / "environment" / name).exists():
            raise UsageError(
                f"{folder / 'environment' / name}: compose environments are not supported; "
                "expected one container, described by environment/Dockerfile"
            )


def _require(file: Path, expected: str) -> None:
    if not file.is_file():
        raise UsageError(f"{file}: no such file; expected {expected}")


def _read_text(file: Path, expected: str) -> str:
    _require(file, expected)
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{file}: byte {error.start} is not UTF-8; expected UTF-8 text") from error


def _absolute(path: Path) -> Path:
    """The absolute path, with links unresolved: the name that the user sees is the task's name."""
    return Path(os.path.abspath(path.expanduser()))
