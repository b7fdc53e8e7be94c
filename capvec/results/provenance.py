"""`provenance.json`: what is needed to run the same trials again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from capvec.directions.recipe import RECIPE_PARSERS, Recipe
from capvec.directions.study_direction import StudyDirection
from capvec.errors import UsageError
from capvec.parsing import read_json
from capvec.plan.dealing import Dealing
from capvec.plan.option_help import options_of
from capvec.plan.plan import SHAPING, Plan, Settings
from capvec.reading import shown
from capvec.records import Outcome
from capvec.results.ledger import TRIALS, Ledger
from capvec.results.preregistration import Preregistration
from capvec.results.provenance_form import check_form, lacking
from capvec.results.sessions import place_of, sessions_of
from capvec.results.software import versions_of, written_by
from capvec.serial import Record
from capvec.steering import Steer
from capvec.storage import write_text
from capvec.task_records import Task
from capvec.tasks.checksum import folder_modes

PROVENANCE = "provenance.json"
RESULTS = "results"
"""The study of results that were made elsewhere."""
_COMPARED = ("direction", "sequential", "effect", "seed")
"""Options that two runs are compared by, beside the recipe."""
_CONDITIONS = {"image": "the image", "modes": "the file modes", "variables": "the variables"}
"""What a task is compared by beside its checksum → in words."""
_HASH = 16
"""Hex digits of a hash of modes or variables."""
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
    hosts: Sequence[Mapping[str, Any]] = (),
    registered: Preregistration | None = None,
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
        hosts: the Docker hosts that were named, as `capvec.sandbox.hosts.describe` gives them.
        registered: the preregistration that the run is compared with; None where there is none.
    """
    path = folder / PROVENANCE
    earlier = read(folder) if path.exists() else None
    record = {
        **written_by(),
        "study": plan.study,
        "run": plan.run,
        "session": plan.session,
        "command_line": list(command_line),
        "options": dict(options),
        "preregistration": None if registered is None else registered.reference,
        "settings": plan.settings.to_json(),
        "model": dict(health),
        "direction": direction.provenance() if direction else None,
        "configs": [config.to_json() for config in plan.configs],
        "tasks": {
            task.name: {
                **_conditions(task, images[task.name]),
                "family": task.metadata.get("family"),
                "split": task.metadata.get("split"),
            }
            for task in plan.tasks
        },
        "docker_hosts": [dict(host) for host in hosts],
        "battery": dict(plan.battery),
        "left_out": dict(plan.left_out),
        "unproved": dict(plan.unproved),
        "seeds": {str(trial.id): trial.seed for trial in plan.trials},
        "dealing": None if plan.dealing is None else plan.dealing.to_json(),
        **versions_of(_PACKAGES),
        "earlier_sessions": [*earlier.pop("earlier_sessions", ()), earlier] if earlier else [],
    }
    write_text(path, json.dumps(record, indent=2) + "\n")


def read(folder: Path) -> dict[str, Any]:
    """The content of a run's `provenance.json`.

    Raises:
        UsageError: it is missing, cut off or lacks a key without which two runs cannot be compared; a value has
            another type than capvec writes; or it is of results that were made elsewhere.
    """
    path = folder / PROVENANCE
    if not path.exists():
        raise UsageError(f"{folder}: no {PROVENANCE}")
    record = read_json(path, finite=True)
    if is_of_results(record):
        raise UsageError(
            f"{shown(folder)}: holds results that `capvec judge` read, and no run of capvec; `capvec report` makes its "
            "report again, alone and in its place, and nothing else reads it"
        )
    try:
        missing = list(lacking(record))
    except (TypeError, AttributeError) as error:
        raise UsageError(f"{shown(path)}: not what capvec writes ({error!r:.100})") from error
    if missing:
        raise UsageError(f"{shown(path)} lacks {shown(', '.join(missing))}")
    try:
        check_form(record)
    except UsageError as error:
        raise UsageError(f"{shown(path)}: not what capvec writes ({error})") from error
    return dict(record)


def is_of_results(record: Any) -> bool:
    """Whether a `provenance.json` is of results that were made elsewhere."""
    return isinstance(record, dict) and record.get("study") == RESULTS


def check_comparable(folder: Path, trials: Path) -> None:
    """Make sure that a run with trials on record says what they were, before anything is started for its sake.

    Args:
        folder: the run folder.
        trials: its ledger, which is there from the start of a run.

    Raises:
        UsageError: `provenance.json` is missing, damaged, or lacks what a resumed run is compared by; or it is there,
            and the ledger is not.
    """
    described = (folder / PROVENANCE).exists()
    if not described and not (trials.exists() and trials.stat().st_size):
        return  # nothing was recorded
    remedy = "put the file of that run back, or choose another --run"
    if described and not trials.exists():
        read(folder)  # whoever named the folder of other results learns that first
        raise UsageError(
            f"--resume: {folder} has {PROVENANCE} and no {trials.name}, so nothing shows which trials of that run have "
            f"ended; {remedy}"
        )
    try:
        record = read(folder)
        if missing := gaps(record):
            raise UsageError(f"{shown(folder / PROVENANCE)} lacks {', '.join(missing)}")
    except UsageError as error:
        raise UsageError(
            f"--resume: {error}, so nothing shows that the trials in {trials.name} are of this study; {remedy}"
        ) from error


def gaps(record: Mapping[str, Any]) -> list[str]:
    """What a `provenance.json` does not say and two runs are compared by: an earlier capvec wrote it, or it was lost.

    A report is made without it. A comparison would take what is missing for a default, and find no difference.
    """
    options = record["options"]
    asked = _options_of(record.get("study", "sweep")) if record["direction"] is not None else ()
    found = ["study"] if "study" not in record else []
    given = set(record["settings"])
    given |= set() if given & set(SHAPING) else set(SHAPING)  # an earlier capvec could shape nothing
    found += [f"settings.{name}" for name in _names(Settings) if name not in given]
    found += [f"options.{name}" for name in _COMPARED if name in asked and name not in options]
    if "recipe" in asked and not options.get("direction"):
        recipe = options.get("recipe") or {}
        found += [f"options.recipe.{name}" for name in _names(Recipe) if name not in recipe]
    for key, words in _CONDITIONS.items():
        found += [f"{words} of {name}" for name, task in record["tasks"].items() if not task.get(key)]
    for config in record["configs"]:
        known = [name for name in _names(Steer) if any(name not in steer for steer in config["steers"])]
        found += [f"{name} of the steers of {config['name']}" for name in known]
    return found


def _options_of(study: str) -> set[str]:
    """The options that a study records."""
    return {"recipe" if option.name in RECIPE_PARSERS else option.key for option in options_of(study)}


def _names(record: type[Record]) -> list[str]:
    return [field.name for field in fields(record)]  # type: ignore[arg-type]


def check_same_study(
    folder: Path,
    *,
    options: Mapping[str, Any],
    plan: Plan,
    health: Mapping[str, Any],
    direction: StudyDirection,
    images: Mapping[str, str],
    hosts: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Make sure that a resumed run continues as it began, so that outcomes of two different runs are never pooled.

    Raises:
        UsageError: `provenance.json` is damaged; or the study, model, settings, direction, a threshold of its contrast,
            a task or what its images came from, a config's steers, or the plan of `--sequential` differ from those of
            the last session, or of one that ran a trial which is kept; the message names all differences.
    """
    if not (folder / PROVENANCE).exists():
        return  # `check_comparable` saw that nothing is on record
    earlier = {"study": plan.study, **read(folder)}
    planned = {trial.id for trial in plan.trials}
    kept = [one for one in Ledger(folder / TRIALS).read() if one.outcome != "error" and one.id in planned]
    now = {
        "study": plan.study,
        "options": options,
        "model": health,
        "settings": plan.settings.to_json(),
        "direction": {"hash": direction.direction.hash},
        "tasks": {task.name: _conditions(task, images[task.name]) for task in plan.tasks},
        "docker_hosts": hosts,
        "configs": [config.to_json() for config in plan.configs],
        "seeds": [str(trial.id) for trial in plan.trials],
    }
    changed = _dealt_otherwise(dealing_of(earlier), plan.dealing)
    for session in (earlier, *sessions(earlier, kept)):
        changed |= differences(session, now)
    if changed:
        details = "; ".join(f"{name} was {before} and is {after}" for name, (before, after) in changed.items())
        raise UsageError(f"--resume: {folder} holds another run ({details}); choose another --run")


def dealing_of(record: Mapping[str, Any]) -> Dealing | None:
    """How the plan of a `provenance.json` was dealt to shards; None where it was not.

    Raises:
        UsageError: it is not what capvec writes.
    """
    dealing = record.get("dealing")
    return None if dealing is None else Dealing.from_json(dealing)


def _dealt_otherwise(before: Dealing | None, now: Dealing | None) -> dict[str, tuple[Any, Any]]:
    """Whether a resumed run is of another shard, or of the same shard of another plan."""
    if before is None or now is None or before.shards != now.shards:
        words = tuple("the whole plan" if one is None else one.in_words for one in (before, now))
        return {} if before == now else {"--shard": (words[0], words[1])}
    return before.differences(now)


def sessions(record: Mapping[str, Any], kept: Iterable[Outcome]) -> list[dict[str, Any]]:
    """What each session of a run asked for, with the tasks and configs alone of which it ran a trial that is kept.

    Args:
        record: `provenance.json`.
        kept: outcomes on record.

    Raises:
        UsageError: nothing shows which of several sessions ran a trial; or one of them lacks what it is compared by.
    """
    every = sessions_of(record)
    ran: list[list[Outcome]] = [[] for _ in every]
    for outcome in kept:
        ran[place_of(every, outcome)].append(outcome)
    return [_part(session, outcomes) for session, outcomes in zip(every, ran, strict=True) if outcomes]


def _part(session: Mapping[str, Any], ran: Sequence[Outcome]) -> dict[str, Any]:
    """What a session asked for, with the tasks and configs alone of which it ran these trials."""
    tasks, configs = {one.task for one in ran}, {one.config for one in ran}
    earlier = "earlier_sessions" not in session  # the last one was looked at when it was read
    missing = ([*lacking(session)] or gaps(session)) if earlier else []
    if not missing:
        known = {*session["tasks"], *(config["name"] for config in session["configs"])}
        missing = sorted((tasks | configs) - known)
    if missing:
        raise UsageError(
            f"{PROVENANCE}: the session that ran {ran[0].trial} lacks {', '.join(missing)}, so nothing shows what its "
            "trials were; choose another --run"
        )
    return {
        **session,
        "tasks": {name: task for name, task in session["tasks"].items() if name in tasks},
        "configs": [config for config in session["configs"] if config["name"] in configs],
    }


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The differences that forbid pooling the outcomes of two runs: name → both values.

    A task or config that only one of them has is no difference, since each run may hold a part of the plan.

    Args:
        one: study, options, model, settings, direction, tasks and configs, as in `provenance.json`.
        other: the same of the other run.
    """
    first, second = _identity(one), _identity(other)
    for name in one["tasks"].keys() & other["tasks"].keys():
        tasks = one["tasks"][name], other["tasks"][name]
        first[f"images of {name}"], second[f"images of {name}"] = _images(*tasks)
        for key in ("modes", "variables"):
            words = f"{_CONDITIONS[key].removeprefix('the ')} of {name}"
            first[words], second[words] = (task.get(key) for task in tasks)
    architectures = [sorted({host["architecture"] for host in run.get("docker_hosts", ())}) for run in (one, other)]
    if all(architectures):
        first["architecture of the Docker hosts"], second["architecture of the Docker hosts"] = architectures
    return {name: (value, second[name]) for name, value in first.items() if name in second and second[name] != value}


def _identity(record: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "study": record.get("study", "sweep"),
        "model": tuple(record["model"][key] for key in ("model", "revision", "dtype")),
        "engine": engine_in_words(record["model"]),
        **{f"settings.{name}": value for name, value in Settings.from_json(record["settings"]).to_json().items()},
        "direction": record["direction"]["hash"] if record["direction"] else None,
        **{f"--{name}": value for name, value in _thresholds(record.get("options", {})).items()},
        **_looks(record),
        **{f"task {name}": task["checksum"] for name, task in record["tasks"].items()},
        **{
            f"config {config['name']}": [Steer.from_json(steer).to_json() for steer in config["steers"]]
            for config in record["configs"]
        },
        **{f"grammar of {config['name']}": config.get("grammar", "") for config in record["configs"]},
    }


def engine_in_words(model: Mapping[str, Any]) -> str:
    """What computes, as in `vllm 0.26.0 tensor_parallel_size=2`; an earlier capvec had one engine."""
    arguments = (f"{key}={json.dumps(value)}" for key, value in sorted(model.get("backend_args", {}).items()))
    return " ".join([model.get("backend", "transformers"), *arguments])


def _thresholds(options: Mapping[str, Any]) -> dict[str, float]:
    """Of a direction that was built from traces."""
    return {} if options.get("direction") else Recipe.from_json(options.get("recipe") or {}).thresholds


def _conditions(task: Task, image: str) -> dict[str, str]:
    """What a trial of a task runs under, as far as the task decides it."""
    variables = [one.env for one in task.environments] + [step.verifier.env for step in task.steps]
    return {
        "checksum": task.checksum,
        "image": image,
        "modes": folder_modes(task.path)[:_HASH],
        "variables": hashlib.sha256(json.dumps(variables, sort_keys=True).encode()).hexdigest()[:_HASH],
    }


def _images(one: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """What the images of a task of two runs are: the ids of named ones, and what others were built from, since each
    build of the same files has another id; the ids, if an earlier capvec recorded nothing else of one of them.
    """
    both = [task.get("image", "").split(", ") for task in (one, other)]
    if not all(" from " in image for images in both for image in images):
        first, second = ([image.partition(" from ")[0] for image in images] for images in both)
    else:
        first, second = ([_built_from(image) or image for image in images] for images in both)
    return first, second


def _built_from(image: str) -> str:
    """What an image was built from; empty for one that was named, since no name has such characters."""
    source = image.partition(" from ")[2]
    return source if source.endswith(("/Dockerfile", ")")) else ""


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
