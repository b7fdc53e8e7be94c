"""Merge runs of one plan that ran on different machines or at different times."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from capvec.errors import UsageError
from capvec.plan.dealing import Dealing
from capvec.reading import GIB
from capvec.records import Outcome, TrialId, TrialSpec
from capvec.results.battery import BATTERY
from capvec.results.departures import registered_of
from capvec.results.gates import split_gate
from capvec.results.ledger import TRIALS
from capvec.results.lock import locked_new
from capvec.results.preregistration import PREREGISTRATION
from capvec.results.provenance import PROVENANCE, differences, gaps, sessions
from capvec.results.run_folder import RunFolder, read_run_folder
from capvec.results.sessions import brief
from capvec.results.shards import check_shards, trials_in_order
from capvec.storage import copy_file, make_folder, whole_or_empty, write_text

_OF_A_SHARD = (
    *("run", "capvec", "commit", "written", "command_line", "options", "preregistration", "python", "platform"),
    "versions",
)
_SHOWN = 120
"""Characters of a value in a message."""
_NAMED = 5
"""Tasks that a message names."""


@contextmanager
def merged(folders: Sequence[Path], out: Path | None) -> Iterator[Path]:
    """Write a run folder that holds the trials of several runs; nothing is left of it if that or the context fails.

    They are the shards of one plan, each of them once, or runs of which none is a shard. They must have the same study,
    model, settings, direction, base seed and `--effect`. Tasks and configs that two runs share must be the same, and so
    must the outcomes of shared trials. Software may differ; the report lists the differences. `trials.jsonl` keeps the
    name of the run that each trial came from. The gates of all runs are judged on the merged run.

    Args:
        folders: run folders, finished or not.
        out: a new folder.

    Yields:
        `out`.

    Raises:
        UsageError: no run there, `out` is missing or in use, or the runs do not belong together; the message names the
            differences and the runs.
    """
    if out is None:
        raise UsageError(
            f"{len(folders)} runs and no --out; give a new folder for the merged run, as in --out reports/all"
        )
    with locked_new(out, "--out"), whole_or_empty(out):
        _merge(folders, out)
        yield out


def _merge(folders: Sequence[Path], out: Path) -> None:
    runs = [read_run_folder(folder) for folder in folders]
    first = runs[0]
    check_shards([run.plan for run in runs])
    for run in runs[1:]:
        _check_together(first, run)
    for run in runs:
        _check_sessions(run, first)
    outcomes = _pool(runs)
    _copy_files(runs, outcomes, out)
    ordered = [outcomes[trial.id][1] for trial in _dealt(runs)[1] if trial.id in outcomes]
    lines = [json.dumps(outcome.to_json(), allow_nan=False) + "\n" for outcome in ordered]
    write_text(out / TRIALS, "".join(lines))
    write_text(out / PROVENANCE, json.dumps(_provenance(runs, out), indent=2) + "\n")  # last: it makes the folder a run


def _check_together(first: RunFolder, other: RunFolder) -> None:
    """Compare what two runs were asked to do.

    Raises:
        UsageError: they differ; the message says in what.
    """
    if sequential := next((run for run in (first, other) if run.plan.sequential), None):
        raise UsageError(
            f"{sequential.folder} ran with --sequential: its interim analyses follow its own plan and are not those of "
            "a merged run; report it alone"
        )
    for run in (first, other):
        if missing := gaps(run.provenance):
            raise UsageError(
                f"{run.folder / PROVENANCE} lacks {', '.join(missing)}, so nothing shows that these runs belong "
                "together; put the file of that run back, merge with the capvec that ran them, or report each alone"
            )
    found = differences(first.provenance, other.provenance)
    for name in ("seed", "effect"):
        one, two = (run.provenance["options"].get(name) for run in (first, other))
        if one != two:
            found[f"--{name}"] = (one, two)
    claims = [(run.provenance.get("preregistration") or {}).get("hash") for run in (first, other)]
    if None not in claims and claims[0] != claims[1]:
        found["--preregistration"] = (claims[0], claims[1])
    if found:
        tasks = [name.removeprefix("task ") for name in found if name.startswith("task ")]
        if len(tasks) > 1:  # a list of checksums would not help
            found = {name: values for name, values in found.items() if not name.startswith("task ")}
            names = ", ".join(tasks[:_NAMED]) + (f" and {len(tasks) - _NAMED} more" if len(tasks) > _NAMED else "")
            found[f"what the files of {len(tasks)} tasks ({names}) hold"] = ("one thing", "another")
        words = "; ".join(
            f"{name} is {_brief(one)} in {first.folder} and {_brief(two)} in {other.folder}"
            for name, (one, two) in found.items()
        )
        raise UsageError(f"these runs do not belong together: {words}")


def _check_sessions(run: RunFolder, first: RunFolder) -> None:
    """Compare what each session was asked to do that ran trials of a run with the first run.

    Raises:
        UsageError: they differ.
    """
    for session in sessions(run.provenance, [one for one in run.outcomes if one.outcome != "error"]):
        if found := differences(session, first.provenance):
            words = "; ".join(
                f"{name} was {_brief(one)} in a session of {run.folder} and is {_brief(two)} in {first.folder}"
                for name, (one, two) in found.items()
            )
            raise UsageError(f"these runs do not belong together: {words}")


def _pool(runs: Sequence[RunFolder]) -> dict[TrialId, tuple[RunFolder, Outcome]]:
    """Each trial with its outcome and the run that it comes from.

    Raises:
        UsageError: two runs have different outcomes, or seeds, of the same trial.
    """
    pool: dict[TrialId, tuple[RunFolder, Outcome]] = {}
    for run in runs:
        for outcome in run.outcomes:
            if outcome.id not in pool:
                pool[outcome.id] = (run, outcome)
                continue
            before, known = pool[outcome.id]
            if replace(known, run=outcome.run) != outcome:
                changed = [
                    name for name, value in vars(outcome).items() if name != "run" and vars(known)[name] != value
                ]
                words = "; ".join(f"{name} {vars(known)[name]} and {vars(outcome)[name]}" for name in changed[:3])
                raise UsageError(
                    f"these runs do not belong together: both {before.folder} and {run.folder} ran {outcome.trial}, "
                    f"with different outcomes ({words}); a trial counts once, so leave one of the two runs out"
                )
    return pool


def _provenance(runs: Sequence[RunFolder], out: Path) -> dict[str, Any]:
    """The provenance of the first run, with the tasks, configs and seeds of all; `merged` describes each run.

    A task that one run left out and another ran is not left out. Earlier sessions are not kept: what they ran under is
    what the tasks and configs say (`_check_sessions`). Each run asked a battery of its own configs, so the battery of
    several is none.
    """
    records = [run.provenance for run in runs]
    asked = (record["options"].get("gate") for record in records)
    gates = dict.fromkeys(condition for expression in asked if expression for condition in split_gate(expression))
    options = records[0]["options"] | {"gate": ", ".join(gates) or None, "run": None}
    tasks = _of_all(records, "tasks")
    dealing, trials = _dealt(runs)
    order = [trial.task for trial in trials] if dealing is None else dealing.tasks
    tasks = {name: tasks[name] for name in order if name in tasks} | tasks
    return {
        **records[0],
        "run": out.resolve().name,
        "options": options,
        "preregistration": next((one for run in records if (one := run.get("preregistration")) is not None), None),
        "configs": _configs(runs),
        "tasks": tasks,
        "left_out": {name: why for name, why in _of_all(records, "left_out").items() if name not in tasks},
        "unproved": _of_all(records, "unproved"),
        "seeds": {str(trial.id): trial.seed for trial in trials},
        "dealing": None if dealing is None else dealing.to_json(),
        "battery": records[0].get("battery", {}) if len(runs) == 1 else {},
        "earlier_sessions": [],
        "merged": [shard for run in runs for shard in run.provenance.get("merged") or [_shard(run)]],
    }


def _dealt(runs: Sequence[RunFolder]) -> tuple[Dealing | None, tuple[TrialSpec, ...]]:
    """What was dealt to the shards, with the numbers of all; and the trials of all runs, in the plan's order."""
    plans = [run.plan for run in runs]
    if plans[0].dealing is None:
        return None, tuple({trial.id: trial for plan in plans for trial in plan.trials}.values())
    held = sorted(number for plan in plans if plan.dealing is not None for number in plan.dealing.shards)
    return replace(plans[0].dealing, shards=tuple(held)), trials_in_order(plans)


def _of_all(records: Sequence[Mapping[str, Any]], key: str) -> dict[str, Any]:
    """An entry of each task, of the first run that has one; a run of an earlier capvec may have none."""
    return {name: value for record in reversed(records) for name, value in record.get(key, {}).items()}


def _shard(run: RunFolder) -> dict[str, Any]:
    about = {name: run.plan.run if name == "run" else run.provenance.get(name) for name in _OF_A_SHARD}
    errors = sum(outcome.outcome == "error" for outcome in run.outcomes)
    counts = {"trials": len(run.outcomes), "errors": errors, "sessions": brief(run.provenance)}
    return about | counts | ({} if run.plan.dealing is None else {"shard": run.plan.dealing.shards[0]})


def _configs(runs: Sequence[RunFolder]) -> list[dict[str, Any]]:
    """The configs of all runs, each once; a control controls for the steered configs of every run."""
    configs = {config.name: config for config in runs[0].plan.configs}
    for config in (config for run in runs[1:] for config in run.plan.configs):
        known = configs.setdefault(config.name, config)
        if known.control is not None and config.control is not None:
            both = tuple(dict.fromkeys((*known.control.configs, *config.control.configs)))
            configs[config.name] = replace(known, control=replace(known.control, configs=both))
    return [config.to_json() for config in configs.values()]


def _copy_files(runs: Sequence[RunFolder], outcomes: Mapping[TrialId, tuple[RunFolder, Outcome]], out: Path) -> None:
    """Copy the trajectories that were kept, those of lost tries included, the direction, and the battery of one run."""
    for trial, (run, outcome) in outcomes.items():
        lost = (run.plan.lost_try(trial, number) for number in range(1, outcome.tries))
        for source in (run.plan.trajectory(trial), *lost):
            if source.is_file():
                make_folder(out / source.parent.name)
                copy_file(source, out / source.parent.name / source.name, GIB)
    for run in runs:
        if (registered := registered_of(run.folder, run.provenance)) is not None:
            write_text(out / PREREGISTRATION, registered.text)
    if len(runs) == 1 and (answers := runs[0].folder / BATTERY).is_file():
        copy_file(answers, out / BATTERY, GIB)
    vectors = next((run.folder / "vectors" for run in runs if (run.folder / "vectors").is_dir()), None)
    if vectors is not None:
        make_folder(out / vectors.name)
        for source in vectors.iterdir():
            copy_file(source, out / vectors.name / source.name, GIB)


def _brief(value: object) -> str:
    text = str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
