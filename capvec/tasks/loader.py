"""Loads task folders as `Task` records.

A task is a folder in Harbor's format: `task.toml`, `instruction.md`, `environment/` with a Dockerfile or a
`docker-compose.yaml` (optional if `docker_image` is set), `tests/test.sh` and, optionally, `solution/solve.sh`; with
`[[steps]]` each step has its own of these in `steps/NAME/`. The folder's name is the task's name.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from capvec.errors import UsageError
from capvec.reading import MOST_ENTRIES, SETTINGS, shown
from capvec.task_records import Environment, Task, Verifier
from capvec.tasks.checksum import folder_checksum
from capvec.tasks.config import Settings, parse_settings
from capvec.tasks.files import check_task_tree, read_text
from capvec.tasks.steps import COMPOSE, agent_environment, steps_of
from capvec.text import counted

BUNDLED = Path(__file__).parent / "bundled"
FULL = "full"
"""Name of the set of all bundled tasks."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_TASK_PARTS = ("task.toml", "instruction.md", "environment", "tests", "solution", "steps")


@dataclass(frozen=True)
class LoadedTasks:
    """The tasks that `--tasks` names."""

    tasks: tuple[Task, ...]
    left_out: Mapping[str, str]
    """Task that cannot run here → why; empty unless such tasks may be left out."""


def load_task(folder: Path, *, allow_network: bool = False) -> Task:
    """Read and check one task folder.

    Args:
        folder: in Harbor's format.
        allow_network: whether a task may reach the public network.

    Raises:
        UsageError: a file is missing or broken, or the task needs what capvec lacks or may not give; the message names
            the file, and the key if one is wrong.
    """
    folder = _absolute(folder)
    _check_name(folder)
    check_task_tree(folder)
    settings = _settings(folder)
    environment, steps = agent_environment(folder, settings), steps_of(folder, settings)
    task = Task(
        name=folder.name,
        path=folder,
        instruction=steps[0].instruction,
        checksum=folder_checksum(folder),
        environment=environment,
        agent=steps[0].agent,
        verifier=steps[0].verifier,
        artifacts=settings.artifacts,
        skills_dir=settings.skills_dir,
        solution_env=settings.solution_env,
        several=steps if settings.steps else (),
        step_reward=settings.step_reward,
        metadata=settings.metadata,
    )
    if not allow_network and (phase := _networked(task)):
        raise UsageError(
            f"{folder / 'task.toml'}: {phase} reaches the public network, as it does in Harbor where network_mode "
            'is not set; expected --allow-network, which permits it, or network_mode = "no-network"'
        )
    _refuse_missing_services(folder, task)
    return task


def load_tasks(
    name_or_path: str,
    *,
    skip: bool = False,
    allow_network: bool = False,
    force_build: bool = False,
    check: Callable[[Task], None] = lambda _task: None,
) -> LoadedTasks:
    """Load the tasks that `--tasks` names, in the order given and each once.

    Args:
        name_or_path: `sprint`, `multi`, `full`, a bundled task, one task folder, or a folder of task folders; or
            several of these, separated by commas. A bundled name takes precedence over a folder of the same name,
            which `./multi` refers to.
        skip: leave out tasks that cannot run here.
        allow_network: whether tasks may reach the public network.
        force_build: whether a Dockerfile is built although the task names a ready image.
        check: raises `UsageError` for a task that cannot run here for another reason than its `task.toml`.

    Raises:
        UsageError: the name is unknown, the folder holds no task, two tasks share a name, or tasks cannot be used (with
            `skip`, all of them); the message lists these.
    """
    folders = _all_folders(name_or_path)
    tasks, errors = _load_each(folders, allow_network, check)
    if errors and (not tasks or not skip):
        listed = "".join(f"\n  {name}: {error}" for name, error in errors.items())
        others = "; --skip-unsupported leaves them out" if tasks else ""
        raise UsageError(f"{len(errors)} of {len(folders)} tasks cannot be used{others}:{listed}")
    return LoadedTasks(tuple(map(_from_dockerfile, tasks)) if force_build else tasks, errors)


def left_out_in_words(left_out: Mapping[str, str]) -> tuple[str, ...]:
    """A line that counts the tasks that were left out, and one for each with the reason."""
    if not left_out:
        return ()
    reasons = (f"{name}: {why}" for name, why in left_out.items())
    return (f"{counted(len(left_out), 'task')} left out:", *reasons)


def _all_folders(name_or_path: str) -> list[Path]:
    parts = [name_or_path] if Path(name_or_path).exists() else [part.strip() for part in name_or_path.split(",")]
    folders = list(dict.fromkeys(folder for part in parts for folder in _folders(part)))
    _check_unique(folders)
    return folders


def _load_each(
    folders: list[Path], allow_network: bool, check: Callable[[Task], None]
) -> tuple[tuple[Task, ...], dict[str, str]]:
    """The tasks that can be used, and why others cannot."""
    tasks, errors = [], {}
    for folder in folders:
        try:
            task = load_task(folder, allow_network=allow_network)
            check(task)
            tasks.append(task)
        except UsageError as error:
            errors[folder.name] = str(error).removeprefix(f"task {folder.name}: ")
    return tuple(tasks), errors


def _from_dockerfile(task: Task) -> Task:
    """The task with no ready image where it has a Dockerfile."""

    def built(environment: Environment) -> Environment:
        there = (task.path / environment.folder / "Dockerfile").is_file()
        return replace(environment, image=None) if there else environment

    def judged(verifier: Verifier) -> Verifier:
        return replace(verifier, environment=built(verifier.environment)) if verifier.environment else verifier

    several = tuple(replace(step, verifier=judged(step.verifier)) for step in task.several)
    return replace(task, environment=built(task.environment), verifier=judged(task.verifier), several=several)


def _refuse_missing_services(folder: Path, task: Task) -> None:
    """Refuse services of commands and artifacts where no file describes any."""
    for step in task.steps if not task.environment.compose else ():
        named = [("verifier.collect", one.service) for one in step.verifier.collect]
        named += [("artifacts", one.service) for one in step.artifacts]
        for key, service in named:
            if service != "main":
                raise UsageError(
                    f"{folder / 'task.toml'}: {key}: there is no service {service!r}, since environment/ has no "
                    f'{COMPOSE}; expected service = "main", or that file'
                )


def _networked(task: Task) -> str:
    """What of the task reaches the public network; empty if nothing does."""
    if task.environment.limits.network:
        return "environment"
    for step in task.steps:
        own = step.verifier.environment
        if step.agent.network:
            return "agent"
        if step.verifier.network or (step.verifier.network is None and own is not None and own.limits.network):
            return "verifier"
    return ""


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
        raise UsageError(f"{shown(path)} is a file; expected a task folder or a folder of task folders")
    if (path / "task.toml").exists():
        return [_absolute(path)]
    inside = [_absolute(child) for child in sorted(_children(path)) if _looks_like_a_task(child)]
    if inside:
        return inside
    if _looks_like_a_task(path):
        return [_absolute(path)]
    raise UsageError(
        f"--tasks: no task in {shown(path)}; expected it to hold task.toml, or folders that do, each with "
        "instruction.md, environment/Dockerfile and tests/test.sh"
    )


def _children(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            found = [Path(entry.path) for entry in islice(entries, MOST_ENTRIES + 1)]
    except OSError as error:
        raise UsageError(f"--tasks {shown(folder)}: cannot be read ({error.strerror})") from error
    if len(found) > MOST_ENTRIES:
        raise UsageError(f"--tasks {shown(folder)}: holds more than {MOST_ENTRIES:,} files; name a smaller folder")
    return found


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


def _check_name(folder: Path) -> None:
    if not _NAME.fullmatch(folder.name):
        raise UsageError(
            f"{shown(folder)}: {folder.name!r} cannot be a task's name; expected letters, digits, '.', '_' and '-', "
            "beginning with a letter or digit. Rename the folder."
        )


def _settings(folder: Path) -> Settings:
    file = folder / "task.toml"
    return parse_settings(read_text(file, "the task's settings in Harbor's format", SETTINGS), file=shown(file))


def _absolute(path: Path) -> Path:
    """The absolute path, with links unresolved: the name that the user sees is the task's name."""
    return Path(os.path.abspath(path.expanduser()))
