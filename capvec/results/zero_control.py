"""The `zero` control: with the hook installed and α = 0, every reply must be the baseline's, token for token."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from capvec.errors import UsageError
from capvec.parsing import read_json
from capvec.plan.plan import Plan
from capvec.reading import shown
from capvec.records import Config, Outcome
from capvec.results.gates import GateResult


@dataclass(frozen=True)
class Turn:
    """One reply, and the observation that followed it."""

    reply: str
    """The thought and the answer."""
    tokens: tuple[int, int]
    """Their number in the prompt and in the reply."""
    observation: str
    """Empty after the last reply."""


@dataclass(frozen=True)
class Comparison:
    """One trial compared with the baseline's of the same (task, attempt)."""

    task: str
    attempt: int
    replies: int
    """Replies compared; each answers a conversation that was identical on both sides."""
    differing: int | None
    """Index, from 0, of the first reply that differs, where the comparison ends; None if there is none."""
    diverged: bool
    """Whether the conversations diverged for a reason outside the model: different observations (a clock in `ls -l`,
    say), or one episode that ended earlier. Later replies are not compared."""


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


def compare_with_baseline(plan: Plan, outcomes: Sequence[Outcome], config: str) -> tuple[Comparison, ...]:
    """Compare every (task, attempt) of which `config` and the baseline both have a valid trial.

    Raises:
        FileNotFoundError: a trajectory is missing.
    """
    valid = {outcome.id for outcome in outcomes if outcome.outcome != "error"}
    pairs = {trial: replace(trial, config=Config.BASELINE) for trial in valid if trial.config == config}
    return tuple(
        compare(one.task, one.attempt, *(_turns(plan.trajectory(trial)) for trial in (one, other)))
        for one, other in sorted(pairs.items(), key=lambda pair: (pair[0].task, pair[0].attempt))
        if other in valid
    )


def all_the_same(comparisons: Sequence[Comparison]) -> tuple[bool, str]:
    """Whether at least one reply was compared and none differs; and a sentence with the counts."""
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
    """A gate for each `zero` control that has an outcome: its replies are the baseline's.

    Raises:
        FileNotFoundError: a trajectory is missing.
    """
    return tuple(
        GateResult(f"{name}: the baseline's tokens", *all_the_same(compare_with_baseline(plan, outcomes, name)))
        for name in _zeros(plan, outcomes)
    )


def judge_zero(plan: Plan, outcomes: Sequence[Outcome]) -> tuple[GateResult, ...]:
    """As `check_zero`; where a trajectory is missing, the gates are not met, since nothing shows that they are."""
    try:
        return check_zero(plan, outcomes)
    except FileNotFoundError as error:
        reason = f"{error.filename} is missing, so nothing shows that its replies are the baseline's"
        return tuple(GateResult(f"{name}: the baseline's tokens", False, reason) for name in _zeros(plan, outcomes))


def _zeros(plan: Plan, outcomes: Sequence[Outcome]) -> list[str]:
    """The `zero` controls that have an outcome."""
    ran = {outcome.config for outcome in outcomes}
    return [c.name for c in plan.configs if c.control is not None and c.control.kind == "zero" and c.name in ran]


def _turns(path: Path) -> tuple[Turn, ...]:
    """The replies in a trajectory that capvec wrote."""
    if not path.exists():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    try:
        return tuple(
            Turn(
                step.get("reasoning_content", "") + step["message"],
                (step["metrics"]["prompt_tokens"], step["metrics"]["completion_tokens"]),
                step["extra"]["observation"],
            )
            for step in read_json(path)["steps"]
            if "llm_call_count" in step
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{shown(path)}: not a trajectory that capvec wrote ({error!r:.100})") from error
