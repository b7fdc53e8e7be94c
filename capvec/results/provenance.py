"""`provenance.json`: what is needed to run the same trials again."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from capvec import __version__
from capvec.directions.recipe import Recipe
from capvec.directions.study_direction import StudyDirection
from capvec.errors import UsageError
from capvec.plan.plan import Plan, Settings
from capvec.steering import Steer

_PACKAGES = ("capvec", "torch", "transformers", "pytest", "pytest-xdist", "docker", "numpy", "scipy", "pandas")


def write(
    folder: Path,
    *,
    command_line: Sequence[str],
    options: Mapping[str, Any],
    plan: Plan,
    health: Mapping[str, Any],
    direction: StudyDirection | None,
    images: Mapping[str, str],
) -> None:
    """Write `provenance.json` into the run folder; that of earlier sessions is kept in `earlier_sessions`.

    Args:
        folder: the run folder.
        command_line: as the user typed it.
        options: those that the study uses.
        plan: tasks, configs and seeds.
        health: the engine's description of itself and its model.
        direction: of the steered configs, with its source; None if no config is steered.
        images: the images of each task, as `SandboxProvider.prepare` returns them.
    """
    path = folder / "provenance.json"
    earlier = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    record = {
        "capvec": __version__,
        "commit": _commit(),
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "study": plan.study,
        "run": plan.run,
        "command_line": list(command_line),
        "options": dict(options),
        "settings": plan.settings.to_json(),
        "model": dict(health),
        "direction": direction.provenance() if direction else None,
        "configs": [config.to_json() for config in plan.configs],
        "tasks": {
            task.name: {
                "checksum": task.checksum,
                "image": images[task.name],
                "family": task.metadata.get("family"),
                "split": task.metadata.get("split"),
            }
            for task in plan.tasks
        },
        "left_out": dict(plan.left_out),
        "unproved": dict(plan.unproved),
        "seeds": {str(trial.id): trial.seed for trial in plan.trials},
        "python": sys.version.split()[0],
        "platform": f"{platform.system()} {platform.machine()}",
        "versions": {name: _version(name) for name in _PACKAGES},
        "earlier_sessions": [*earlier.pop("earlier_sessions"), earlier] if earlier else [],
    }
    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def check_same_study(
    folder: Path,
    *,
    options: Mapping[str, Any],
    plan: Plan,
    health: Mapping[str, Any],
    direction: StudyDirection,
    images: Mapping[str, str] | None = None,
) -> None:
    """Make sure that a resumed run continues as it began, so that outcomes of two different runs are never pooled.

    Raises:
        UsageError: the study, model, settings, direction, a threshold of its contrast, a task or what its images
            came from, a config's steers, or
            the plan of `--sequential` differ from the run's `provenance.json`; the message names all differences.
    """
    path = folder / "provenance.json"
    if not path.exists():
        return
    earlier = json.loads(path.read_text(encoding="utf-8"))
    now = {
        "study": plan.study,
        "options": options,
        "model": health,
        "settings": plan.settings.to_json(),
        "direction": {"hash": direction.direction.hash},
        "tasks": {
            task.name: {"checksum": task.checksum, "image": (images or {}).get(task.name, "")} for task in plan.tasks
        },
        "configs": [config.to_json() for config in plan.configs],
        "seeds": [str(trial.id) for trial in plan.trials],
    }
    if changed := differences({"study": plan.study, **earlier}, now):
        details = "; ".join(f"{name} was {before} and is {after}" for name, (before, after) in changed.items())
        raise UsageError(f"--resume: {folder} holds another run ({details}); choose another --run")


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The differences that forbid pooling the outcomes of two runs: name → both values.

    A task or config that only one of them has is no difference, since each run may hold a part of the plan.

    Args:
        one: study, options, model, settings, direction, tasks and configs, as in `provenance.json`.
        other: the same of the other run.
    """
    first, second = _identity(one), _identity(other)
    return {name: (value, second[name]) for name, value in first.items() if name in second and second[name] != value}


def _identity(record: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "study": record.get("study", "sweep"),
        "model": tuple(record["model"][key] for key in ("model", "revision", "dtype")),
        # Through the record, so that what an earlier capvec did not record is what it did.
        **{f"settings.{name}": value for name, value in Settings.from_json(record["settings"]).to_json().items()},
        "direction": record["direction"]["hash"] if record["direction"] else None,
        **{f"--{name}": value for name, value in _thresholds(record.get("options", {})).items()},
        **_looks(record),
        **{f"task {name}": task["checksum"] for name, task in record["tasks"].items()},
        **{f"images of {name}": sources for name, task in record["tasks"].items() if (sources := _sources(task))},
        # Through the record, so that a run from before steers had a field goes on where its default is what was done.
        **{
            f"config {config['name']}": [Steer.from_json(steer).to_json() for steer in config["steers"]]
            for config in record["configs"]
        },
    }


def _thresholds(options: Mapping[str, Any]) -> dict[str, float]:
    """Of a direction that was built from traces; what a run of an earlier capvec did not ask for was the default."""
    recipe = options.get("recipe")
    return Recipe.from_json(recipe).thresholds if recipe is not None and not options.get("direction") else {}


def _sources(task: Mapping[str, Any]) -> list[str]:
    """What the images of a task are; ids are left out, since each build of the same files has another."""
    return [image.partition(" from ")[2] for image in task.get("image", "").split(", ") if " from " in image]


def _looks(record: Mapping[str, Any]) -> dict[str, Any]:
    """Whether configs may stop early; if so what that goes by: the share of the planned trials, and the margin."""
    if not record.get("options", {}).get("sequential", False):
        return {"--sequential": False}
    trials = list(record["seeds"])
    digest = hashlib.sha256(json.dumps(trials).encode()).hexdigest()
    return {
        "--sequential": f"over {len(trials)} trials, hash {digest[:8]}",
        "--effect": record["options"].get("effect"),  # what a stop for futility goes by
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of the working directory's repository, with `+changes` when it is not clean; None outside of one."""

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(("git", *arguments), capture_output=True, text=True, check=False, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "HEAD")
    return f"{commit}+changes" if commit and git("status", "--porcelain") else commit
