"""The probe of `--plan`: a few real trials, run to measure how long trials take. Their outcomes are discarded."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain, repeat
from typing import Any, Literal

from capvec.agent.model import ChatModel
from capvec.errors import InfrastructureError
from capvec.plan.plan import Plan
from capvec.records import Outcome, Reply, TrialId, TrialSpec
from capvec.run.trial import TrialRunner

START_S, END_S = 30.0, 60.0
"""Seconds after which no trial starts, and after which running trials end at their next reply."""
FEWEST, ENOUGH = 4, 16
"""Trials of a probe, at least and at most (at most `jobs`, if that is more)."""
_SAY_EVERY_S = 5.0


@dataclass(frozen=True)
class Probed:
    """One trial of a probe."""

    trial: TrialId
    seconds: float
    ended: Literal["whole", "cut", "error"]
    """`whole`: at its own end. `cut`: by the probe's time limit. `error`: the infrastructure failed."""
    error: str = ""
    outcome: Outcome | None = None
    """Of a trial that came to its own end."""


@dataclass(frozen=True)
class Probe:
    """The durations that a probe measured."""

    trials: tuple[Probed, ...]
    jobs: int
    """Trials at a time."""
    seconds: float
    """From the first trial's start to the last one's end."""

    def that(self, ended: str) -> tuple[Probed, ...]:
        """The trials whose `ended` is this."""
        return tuple(trial for trial in self.trials if trial.ended == ended)


def choose_trials(plan: Plan, jobs: int) -> tuple[TrialSpec, ...]:
    """The trials of a probe: two per job within the limits, over all configs in turn and tasks from the whole plan."""
    wanted = min(len(plan.trials), max(FEWEST, jobs, min(2 * jobs, ENOUGH)))
    left = list(plan.trials)
    selected = []
    for number in range(wanted):
        task, config = (
            plan.tasks[number * len(plan.tasks) // wanted].name,
            plan.configs[number % len(plan.configs)].name,
        )
        # A shard may have fewer attempts at a task than are asked for here; then the nearest trial is taken.
        selected.append(min(left, key=lambda trial: (trial.task != task) + (trial.config != config)))
        left.remove(selected[-1])
    return tuple(selected)


def run_probe(runner: TrialRunner, jobs: int, say: Callable[[str], None]) -> Probe:
    """Run a few trials, `jobs` at a time, for about a minute at most.

    Args:
        runner: its plan's folder receives trajectories, so it should be a temporary one.
        jobs: trials at a time.
        say: prints one line of progress.
    """
    trials = choose_trials(runner.plan, jobs)
    say(
        f"probe: up to {len(trials)} trials, {jobs} at a time, for about a minute at most; their outcomes are discarded"
    )
    began = said = time.monotonic()
    model = _Limited(runner.model, began + END_S)
    limited = replace(runner, model=model, ahead=jobs)
    probed: list[Probed] = []
    with closing(limited), ThreadPoolExecutor(jobs) as pool:
        try:
            following = chain(trials[jobs:], repeat(None))
            both = zip(trials, following, strict=False)
            running = [pool.submit(_probe_one, limited, trial, next_one, began) for trial, next_one in both]
            for done in as_completed(running):
                probed += [result] if (result := done.result()) is not None else []
                if time.monotonic() - said >= _SAY_EVERY_S:
                    said = time.monotonic()
                    say(f"probe: {len(probed)} of {len(trials)} trials after {said - began:.0f} s")
        except BaseException:
            model.until = 0.0  # running trials end at their next reply and remove their containers
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return Probe(tuple(probed), jobs, time.monotonic() - began)


def _probe_one(runner: TrialRunner, spec: TrialSpec, following: TrialSpec | None, began: float) -> Probed | None:
    """Run one trial; None if the probe's time to start trials is over."""
    start = time.monotonic()
    if start - began > START_S:
        return None
    outcome = runner.run(spec, following)
    seconds = time.monotonic() - start
    if outcome.outcome != "error":
        return Probed(spec.id, seconds, "whole", outcome=outcome)
    cut = outcome.error.startswith(_TimeIsUp.__name__)
    return Probed(spec.id, seconds, "cut" if cut else "error", "" if cut else outcome.error)


class _TimeIsUp(InfrastructureError):
    """Ends a trial at the probe's time limit."""


class _Limited:
    """A model that answers until a deadline."""

    def __init__(self, model: ChatModel, until: float) -> None:
        self._model = model
        self.until = until
        """On the monotonic clock."""

    def complete(self, messages: Sequence[Any], **asked: Any) -> Reply:
        """Complete as the model does.

        Raises:
            _TimeIsUp: the deadline is over.
        """
        if time.monotonic() > self.until:
            raise _TimeIsUp("the probe is over")
        return self._model.complete(messages, **asked)
