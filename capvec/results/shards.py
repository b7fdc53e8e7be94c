"""Shards of one plan: which belong together, what all of them would hold, and what a report says of a merged run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from capvec.errors import UsageError
from capvec.plan.dealing import Dealing, shards_in_words
from capvec.plan.plan import Plan, interleave
from capvec.records import TrialId, TrialSpec
from capvec.text import counted

_HASH = 8
"""Characters of a commit that a report shows."""


def check_shards(plans: Sequence[Plan]) -> None:
    """Make sure that runs are shards of one plan, each of them once, or that none is a shard.

    Raises:
        UsageError: they are not; the message names the runs and the shards.
    """
    first = plans[0]
    owners: dict[int, Plan] = {}
    for plan in plans:
        _check_dealing(first, plan)
        if (dealing := plan.dealing) is None:
            continue
        if twice := [number for number in dealing.shards if number in owners]:
            raise UsageError(
                f"{owners[twice[0]].folder} and {plan.folder} both hold {shards_in_words(twice, dealing.of)}; a shard "
                "counts once, so leave one of them out"
            )
        owners |= dict.fromkeys(dealing.shards, plan)


def _check_dealing(first: Plan, other: Plan) -> None:
    if first.dealing is None or other.dealing is None:
        if first.dealing != other.dealing:
            words = (
                f"{plan.folder} is {'no shard' if plan.dealing is None else plan.dealing.in_words}"
                for plan in (first, other)
            )
            raise UsageError(
                f"{' and '.join(words)}; merge the shards of one plan, or runs of which none was started with --shard"
            )
        return
    found = first.dealing.differences(other.dealing)
    names = [[config.name for config in plan.configs] for plan in (first, other)]
    if set(names[0]) != set(names[1]):
        found["the list of configs"] = (", ".join(names[0]), ", ".join(names[1]))
    if found:
        words = (f"{name} is {one} in {first.folder} and {two} in {other.folder}" for name, (one, two) in found.items())
        raise UsageError(f"these are shards of different plans: {'; '.join(words)}")


def trials_in_order(plans: Sequence[Plan]) -> tuple[TrialSpec, ...]:
    """The trials of merged shards, in the order that the whole plan would have them."""
    dealing, configs = plans[0].dealing, plans[0].configs
    assert dealing is not None, "the runs are no shards"
    here = {trial.id for plan in plans for trial in plan.trials}
    tasks = {task.name: task for plan in plans for task in plan.tasks}
    in_order = [tasks[name] for name in dealing.tasks if name in tasks]
    return tuple(trial for trial in interleave(in_order, configs, dealing.attempts, dealing.seed) if trial.id in here)


def planned_trials(plan: Plan) -> tuple[TrialId, ...]:
    """The trials of the whole plan of merged shards.

    A task that was found unfit wherever it was dealt to is not among them. One that a shard left out and another ran
    is, and so is every task of a shard that is missing.
    """
    if plan.dealing is None:
        return tuple(trial.id for trial in plan.trials)
    tasks = {task.name for task in plan.tasks} | {task for task, _ in plan.dealing.elsewhere}
    return tuple(
        TrialId(task, config.name, attempt)
        for task, attempt in plan.dealing.blocks
        if task in tasks
        for config in plan.configs
    )


# ------------------------------------------------------------------------------------------------ in words


def merged_lines(provenance: Mapping[str, Any]) -> tuple[str, ...]:
    """Sentences for `RESULTS.md`; none for a run that was not merged.

    Args:
        provenance: its `merged` has the `run`, `options`, `capvec`, `commit`, `python`, `platform` and `versions` of
            each run.
    """
    shards = provenance.get("merged", ())
    return tuple(_lines(shards, dealt=provenance.get("dealing") is not None)) if shards else ()


def _lines(shards: Sequence[Mapping[str, Any]], *, dealt: bool) -> Iterator[str]:
    things = counted(len(shards), "shard" if dealt else "run")
    yield f"Merged by `capvec report` from {things} of one plan: {', '.join(map(_name, shards))}."
    if any(shard.get("errors") for shard in shards):
        counts = [f"{shard.get('errors', 0)} of {counted(shard.get('trials', 0), 'trial')}" for shard in shards]
        yield f"Ended in an error: {_by_run(shards, counts)}."
    software = [_software(shard) for shard in shards]
    differing = [name for name in dict.fromkeys(name for one in software for name in one) if _differs(software, name)]
    if differing:
        words = "; ".join(f"{name} {_by_run(shards, [_code(one.get(name)) for one in software])}" for name in differing)
        apart = "" if dealt else ", which can pass for an effect if configs are split between runs"
        yield f"Their software differs{apart}: {words}."
    gates = [shard["options"].get("gate") for shard in shards]
    if len(set(gates)) > 1:
        words = _by_run(shards, [_code(gate) for gate in gates])
        yield f"Their gates differ ({words}); every condition is judged on all trials together."


def absent_shards(dealing: Dealing | None) -> Iterator[str]:
    """The sentence that shards of a merged run are missing, with the share of the plan that was dealt to them."""
    if dealing is not None and (absent := dealing.absent):
        verb = "are" if len(absent) > 1 else "is"
        pairs = f"{len(dealing.elsewhere)} of the plan's {len(dealing.blocks)} (task, attempt) pairs"
        words = shards_in_words(absent, dealing.of)
        yield f"{words[0].upper()}{words[1:]} {verb} missing, with {pairs}."


def _name(shard: Mapping[str, Any]) -> str:
    number = shard.get("shard")
    return f"`{shard['run']}`" + ("" if number is None else f" (shard {number})")


def _software(shard: Mapping[str, Any]) -> dict[str, str | None]:
    commit = shard["commit"]
    return {
        "capvec": shard["capvec"],
        "commit": commit and commit[:_HASH] + ("+changes" if commit.endswith("+changes") else ""),
        "Python": shard["python"],
        "platform": shard["platform"],
        **{name: version for name, version in shard["versions"].items() if name != "capvec"},
    }


def _differs(software: Sequence[Mapping[str, str | None]], name: str) -> bool:
    return len({one.get(name) for one in software}) > 1


def _code(value: str | None) -> str:
    return "none" if value is None else f"`{value}`"


def _by_run(shards: Sequence[Mapping[str, Any]], values: Sequence[str]) -> str:
    """`` `5.23` in `a` and `b`, none in `c` ``."""
    runs: dict[str, list[str]] = {}
    for shard, value in zip(shards, values, strict=True):
        runs.setdefault(value, []).append(_name(shard))
    return ", ".join(f"{value} in {' and '.join(names)}" for value, names in runs.items())
