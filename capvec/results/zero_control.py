"""Whether two trials of one seed said the same, reply by reply, for as long as they were told the same."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from capvec.plan.plan import Plan
from capvec.records import Config, Outcome
from capvec.results.gates import GateResult


@dataclass(frozen=True)
class Turn:
    """One reply, and what the model was told about it."""

    reply: str
    tokens: tuple[int, int]
    """Of the prompt, of the reply."""
    observation: str
    """Empty after the last reply."""


@dataclass(frozen=True)
class Comparison:
    """One trial against the baseline's of the same (task, attempt)."""

    task: str
    attempt: int
    replies: int
    """Compared: each answers a conversation that was identical on both sides."""
    differing: int | None
    """Index of the first reply that differs, from 0; the comparison ends there."""
    diverged: bool
    """The conversations parted for a reason outside the model: another observation (a clock in `ls -l`, say), or one
    episode ended earlier. What was said after that is not compared."""


def compare(task: str, attempt: int, ours: Sequence[Turn], theirs: Sequence[Turn]) -> Comparison:
    """Compare two episodes that began with the same messages and the same seed."""
    shared = min(len(ours), len(theirs))
    for index in range(shared):
        one, other = ours[index], theirs[index]
        if (one.reply, one.tokens) != (other.reply, other.tokens):
            return Comparison(task, attempt, index + 1, index, False)
        if index < shared - 1 and one.observation != other.observation:
            return Comparison(task, attempt, index + 1, None, True)
    return Comparison(task, attempt, shared, None, len(ours) != len(theirs))


def compare_with_baseline(folder: Path, outcomes: Sequence[Outcome], config: str) -> tuple[Comparison, ...]:
    """Every (task, attempt) of which `config` and the baseline both have a valid trial.

    Args:
        folder: the run folder, with `trajectories/`.
        outcomes: what is on record.
        config: the one to compare.
    """
    valid = {(outcome.task, outcome.attempt, outcome.config) for outcome in outcomes if outcome.outcome != "error"}
    return tuple(
        compare(task, attempt, *(_turns(folder, task, name, attempt) for name in (config, Config.BASELINE)))
        for task, attempt, name in sorted(valid)
        if name == config and (task, attempt, Config.BASELINE) in valid
    )


def all_the_same(comparisons: Sequence[Comparison]) -> tuple[bool, str]:
    """Whether replies were compared and none differs in an identical conversation; and the numbers, in words."""
    replies = sum(comparison.replies for comparison in comparisons)
    diverged = sum(comparison.diverged for comparison in comparisons)
    differing = [comparison for comparison in comparisons if comparison.differing is not None]
    reason = (
        f"{replies} replies to identical conversations compared in {len(comparisons)} trials, {len(differing)} differ; "
        f"{diverged} trials diverged by an observation"
    )
    if differing:
        first = differing[0]
        reason += f"; the first: {first.task}, attempt {first.attempt}, reply {first.differing}"
    return bool(replies) and not differing, reason


def check_zero(plan: Plan, outcomes: Sequence[Outcome]) -> tuple[GateResult, ...]:
    """One verdict for each `zero` control of which a trial was run: does it say what the baseline says?"""
    ran = {outcome.config for outcome in outcomes}
    zeros = [c.name for c in plan.configs if c.control is not None and c.control.kind == "zero" and c.name in ran]
    return tuple(
        GateResult(f"{name}: the baseline's tokens", *all_the_same(compare_with_baseline(plan.folder, outcomes, name)))
        for name in zeros
    )


def _turns(folder: Path, task: str, config: str, attempt: int) -> tuple[Turn, ...]:
    """The replies of a trajectory of capvec's own."""
    path = folder / "trajectories" / f"{task}-{config}-t{attempt}.json"
    steps = json.loads(path.read_text(encoding="utf-8"))["steps"]
    return tuple(
        Turn(
            step["message"],
            (step["metrics"]["prompt_tokens"], step["metrics"]["completion_tokens"]),
            step["extra"]["observation"],
        )
        for step in steps
        if "llm_call_count" in step
    )
