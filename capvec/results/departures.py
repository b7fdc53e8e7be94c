"""What a run, or results that were made elsewhere, have in common with a preregistration, and where they depart."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from capvec.errors import UsageError
from capvec.plan.options import SweepOptions
from capvec.plan.plan import Plan
from capvec.records import Config, Outcome
from capvec.results.gates import split_gate
from capvec.results.interim import equivalence_margin_of, not_needed
from capvec.results.preregistration import (
    PREREGISTRATION,
    SHOWN,
    Preregistration,
    moment,
    settings_of,
    stopping_of,
)
from capvec.results.provenance import engine_in_words
from capvec.results.sessions import brief, place_of, sessions_of
from capvec.results.shards import planned_trials
from capvec.serial import Record
from capvec.stats.sequential import Sequential
from capvec.stats.verdict import TEST
from capvec.text import counted

Kind = Literal[
    "time",
    "configs",
    "tasks",
    "attempts",
    "margin",
    "test",
    "stopping rule",
    "gates",
    "model",
    "engine",
    "direction",
    "settings",
]
_LAYERS = re.compile(r"(?<=L)\d+(?:\+\d+)*")
NAMED = 6
"""Names of a departure in a line of progress."""
_ROLES = {"baseline": "the baseline", "steered": "compared", "control": "a control"}
_UNSEEN = (
    "whether it was written before the first trial",
    "the files of the tasks",
    "the model, the direction and the other settings",
    "when the trials ended",
)
"""What results that were made elsewhere do not show."""


@dataclass(frozen=True)
class Departure(Record):
    """One point in which a run is not what was preregistered."""

    kind: Kind
    words: str
    """What is different."""
    names: tuple[str, ...] = ()
    """Of what: tasks, configs, gates or runs."""

    def in_words(self, most: int | None = None) -> str:
        """`tasks missing: a, b`, with so many names at most; with all of them if None."""
        shown = [*self.names[:most], *([f"{more} more"] if most and (more := len(self.names) - most) > 0 else [])]
        return f"{self.words}: {', '.join(shown)}" if shown else self.words


@dataclass(frozen=True)
class Comparison:
    """A preregistration, and what came of it."""

    preregistration: Preregistration
    departures: tuple[Departure, ...]
    not_compared: tuple[str, ...] = ()
    """What the results do not show."""

    def to_json(self) -> dict[str, Any]:
        """For `summary.json`."""
        registered = self.preregistration
        return {
            **{name: getattr(registered, name) for name in ("hash", "written", "hypothesis")},
            "departures": [one.to_json() for one in self.departures],
            "not_compared": list(self.not_compared),
        }


def compare_plan(registered: Preregistration, plan: Plan, record: Mapping[str, Any]) -> tuple[Departure, ...]:
    """The departures that show before the first trial.

    Args:
        registered: what was claimed.
        plan: of the run.
        record: `provenance.json` of the run, or what it will hold.
    """
    return (*_of_plan(registered, plan, record["options"].get("gate")), *_of_conditions(registered, record))


def compared(
    plan: Plan, record: Mapping[str, Any], outcomes: Sequence[Outcome], sequential: Sequential | None
) -> Comparison | None:
    """Compare a run, finished or not, with its preregistration. None for a run that has none.

    Args:
        plan: of the run.
        record: its `provenance.json`.
        outcomes: on record.
        sequential: its interim analyses; None for a run that has none.

    Raises:
        UsageError: as `registered_of`.
    """
    if (registered := registered_of(plan.folder, record)) is None:
        return None
    late, early = _of_time(registered, outcomes), _of_end(plan, record, outcomes, sequential)
    return Comparison(registered, (*late, *compare_plan(registered, plan, record), *early))


def compare_results(
    registered: Preregistration, plan: Plan, gate: str | None, judged: datetime, *, reading: Mapping[str, Any]
) -> Comparison:
    """Compare results that were made elsewhere, of which less is known.

    Args:
        registered: what was claimed.
        plan: of the results.
        gate: that was asked for.
        judged: when.
        reading: the options that say which trials are solved.
    """
    departures = (
        *dated_ahead(registered, judged),
        *_of_plan(registered, plan, gate, elsewhere=True),
        *_differing("settings", {name: registered.settings.get(name) for name in reading}, reading),
    )
    return Comparison(registered, departures, _UNSEEN)


def dated_ahead(registered: Preregistration, now: datetime) -> tuple[Departure, ...]:
    """The departure of a claim with a date that had not come when it was used: a clock is wrong, or the date."""
    if registered.time <= now:
        return ()
    return (Departure("time", f"it is dated {moment(registered.time)}, and it was used at {moment(now)}"),)


def registered_of(folder: Path, record: Mapping[str, Any]) -> Preregistration | None:
    """The preregistration of a run; None for a run that has none.

    Args:
        folder: of the run.
        record: its `provenance.json`.

    Raises:
        UsageError: the copy in the folder is missing, was changed, or is another one than the run began with.
    """
    known = record.get("preregistration")
    if known is None:
        return None
    read = Preregistration.read(folder / PREREGISTRATION)
    if read.hash != known["hash"]:
        raise UsageError(
            f"{folder / PREREGISTRATION}: its hash is {read.hash[:SHOWN]}, and the run began with "
            f"{known['hash'][:SHOWN]}; put the file of that run back"
        )
    return read


# ------------------------------------------------------------------------------------------------ of the plan


def _of_plan(
    registered: Preregistration, plan: Plan, gate: str | None, *, elsewhere: bool = False
) -> Iterator[Departure]:
    """Configs, tasks, attempts, margin, test, rule of stopping and gates."""
    yield from _of_configs(registered, plan.configs, elsewhere=elsewhere)
    yield from _of_tasks(registered, plan, elsewhere=elsewhere)
    fewest, most = _attempts(plan)
    if {fewest, most} != {registered.attempts}:
        found = counted(most, "attempt") if fewest == most else f"{fewest} to {most} attempts"
        yield Departure("attempts", f"{found} in place of {registered.attempts}")
    if (margin := equivalence_margin_of(plan)) != registered.margin:
        yield Departure("margin", f"an equivalence margin of {margin:g} in place of {registered.margin:g}")
    if registered.test != TEST:
        yield Departure("test", f"a {TEST} in place of a {registered.test}")
    if not elsewhere:
        yield from _of_rule(registered, plan)
    yield from _of_gates(registered, gate)


def _of_configs(registered: Preregistration, configs: Sequence[Config], *, elsewhere: bool) -> Iterator[Departure]:
    """Configs that are missing, that were added, and that are of another kind."""
    found: dict[str, Config] = {}
    added = []
    for config in configs:
        # The baseline of another harness has a name of its own.
        own = Config.BASELINE if elsewhere and config.kind == "baseline" else _open(registered, config.name)
        if own in registered.configs and own not in found:
            found[own] = config
        else:
            added.append(config.name)
    yield from _listed("configs", "configs missing", [name for name in registered.configs if name not in found])
    yield from _listed("configs", "configs added", added)
    for name, config in found.items():
        if (kind := registered.configs[name]) != config.kind:
            yield Departure("configs", f"{config.name} is {_ROLES[config.kind]} and was to be {_ROLES[kind]}")


def _open(registered: Preregistration, text: str) -> str:
    """The text with `auto` for the layers, where these were left to the ranking."""
    return _LAYERS.sub("auto", text) if registered.layer_is_open else text


def _listed(kind: Kind, words: str, names: Sequence[str]) -> Iterator[Departure]:
    if names:
        yield Departure(kind, words, tuple(names))


def _of_tasks(registered: Preregistration, plan: Plan, *, elsewhere: bool) -> Iterator[Departure]:
    """Tasks that are missing, that were added, and whose files are others."""
    names = plan.dealing.tasks if plan.dealing is not None else [task.name for task in plan.tasks]
    present = dict.fromkeys(name for name in names if name not in plan.left_out)
    yield from _listed("tasks", "tasks missing", [name for name in registered.tasks if name not in present])
    yield from _listed("tasks", "tasks added", [name for name in present if name not in registered.tasks])
    changed = [task.name for task in plan.tasks if registered.tasks.get(task.name, task.checksum) != task.checksum]
    if not elsewhere:
        yield from _listed("tasks", "tasks with other files", changed)


def _attempts(plan: Plan) -> tuple[int, int]:
    """The fewest and the most at one (task, config)."""
    if plan.dealing is not None:
        return plan.dealing.attempts, plan.dealing.attempts
    counts = Counter((trial.task, trial.config) for trial in plan.trials).values()
    return min(counts), max(counts)


def _of_rule(registered: Preregistration, plan: Plan) -> Iterator[Departure]:
    """Another rule; a fixed number that differs shows as tasks or attempts."""
    found = stopping_of(plan.tasks_in_all, plan.attempts, sequential=plan.sequential)
    if found.rule != registered.stopping.rule or (plan.sequential and found != registered.stopping):
        yield Departure("stopping rule", f"{found.in_words} in place of {registered.stopping.in_words}")


def _of_gates(registered: Preregistration, gate: str | None) -> Iterator[Departure]:
    found = [_open(registered, condition) for condition in (split_gate(gate) if gate is not None else ())]
    gates = [_open(registered, condition) for condition in registered.gates]
    yield from _listed("gates", "gates dropped", [one for one in gates if one not in found])
    yield from _listed("gates", "gates added", [one for one in found if one not in gates])


# ------------------------------------------------------------------------------------------------ of its conditions


def _of_conditions(registered: Preregistration, record: Mapping[str, Any]) -> Iterator[Departure]:
    """Model, direction and settings."""
    model, options = record["model"], record["options"]
    if model["model"] != registered.model.name:
        yield Departure("model", f"the model {model['model']} in place of {registered.model.name}")
    elif registered.model.revision not in {None, model["revision"]}:
        yield Departure("model", f"revision {model['revision']} of the model in place of {registered.model.revision}")
    claimed, engine = registered.model.engine, engine_in_words(model)
    if claimed is not None and claimed not in (engine, engine.partition(" ")[0]):
        yield Departure("engine", f"the engine {engine} in place of {claimed}")
    yield from _of_direction(registered, record["direction"], options)
    yield from _of_settings(registered.settings, options, model.get("defaults", {}))


def _of_direction(
    registered: Preregistration, direction: Mapping[str, Any], options: Mapping[str, Any]
) -> Iterator[Departure]:
    claimed, contrast = registered.direction, (direction.get("contrast") or {}).get("hash")
    if registered.layer_is_open and options.get("layers") is not None:
        yield Departure("direction", "layers that were named in place of the best one of the ranking")
    if claimed.hash is not None:
        if claimed.hash not in (direction["hash"], direction.get("trimmed_hash")):
            yield Departure("direction", f"the direction {direction['hash']} in place of {claimed.hash}")
    elif claimed.contrast != contrast:
        found = f"the direction {direction['hash']} of a file" if contrast is None else f"the contrast {contrast}"
        yield Departure("direction", f"{found} in place of the contrast {claimed.contrast}")
    elif claimed.recipe is not None:
        now = options.get("recipe") or {}
        yield from _differing("direction", claimed.recipe.to_json(), now)


def _of_settings(
    registered: Mapping[str, Any], options: Mapping[str, Any], defaults: Mapping[str, Any]
) -> Iterator[Departure]:
    """What else trials depend on. An option that one of the two did not know is taken to have had its default."""
    usual = settings_of(SweepOptions().recorded("preregister"))
    own = {**defaults, "thinking": "off"}

    def effective(values: Mapping[str, Any]) -> dict[str, Any]:
        found = {name: values.get(name, usual.get(name)) for name in dict.fromkeys((*registered, *usual))}
        return {name: own.get(name) if value is None else value for name, value in found.items()}

    yield from _differing("settings", effective(registered), effective(options))


def _differing(kind: Kind, before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Departure]:
    """The options whose values are others; one that is not known now is left out."""
    for name, value in before.items():
        if name in now and (found := json.dumps(now[name])) != (claimed := json.dumps(value)):
            yield Departure(kind, f"--{name.replace('_', '-')} {found} in place of {claimed}")


# ------------------------------------------------------------------------------------------------ of the trials


def _of_time(registered: Preregistration, outcomes: Iterable[Outcome]) -> Iterator[Departure]:
    begun = [tried for one in outcomes for tried in (one.started, *(lost.started for lost in one.lost)) if tried]
    first = min(map(datetime.fromisoformat, begun), default=None)
    if first is not None and registered.time >= first:
        yield Departure(
            "time", f"it was written at {moment(registered.time)}, after the first trial began at {moment(first)}"
        )


def _of_end(
    plan: Plan, record: Mapping[str, Any], outcomes: Sequence[Outcome], sequential: Sequential | None
) -> Iterator[Departure]:
    """Trials that did not run, and reports that were there before the last trial."""
    planned = {trial.id for trial in plan.trials} if plan.shard is not None else set(planned_trials(plan))
    done = planned & {outcome.id for outcome in outcomes}
    needed = planned - (not_needed(plan, sequential) if sequential is not None else frozenset())
    if needed - done:
        yield Departure("stopping rule", f"{len(done)} of {len(planned)} planned trials are on record")
    parts = record.get("merged", ())
    if sequential is None and plan.dealing is None:  # a shard has no verdict to look at
        yield from _looks(record, outcomes, len(planned))
        if len(parts) > 1:
            yield Departure("stopping rule", f"{len(parts)} runs, each with a report of its own, in place of one")
    yield from _listed(
        "time", "parts that began without it", [part["run"] for part in parts if part.get("preregistration") is None]
    )


def _looks(record: Mapping[str, Any], outcomes: Iterable[Outcome], planned: int) -> Iterator[Departure]:
    """The sessions that ended with a report of a part of the trials, before others ran."""
    sessions = brief(record) if len(record.get("merged", ())) == 1 else sessions_of(record)
    ran = [place_of(sessions, one) for one in outcomes if one.session or one.started]
    for later in range(1, len(sessions)):
        seen = sum(place < later for place in ran)
        if 0 < seen < len(ran):
            part = f"{seen} of {counted(planned, 'trial')}"
            yield Departure("stopping rule", f"it went on after a session that could report {part}")
