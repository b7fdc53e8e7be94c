"""`--sequential` while a sweep runs: looks are taken as their trials come in, and workers hear who has stopped.

What the looks are and when they stop is in `capvec.stats.sequential`. They depend on the outcomes alone, so a report, a
resumed run and a referee find them again from `trials.jsonl`; `stopped.json` only tells the workers.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence

from capvec.plan.plan import Plan, trial_seed
from capvec.records import Config, Outcome, Task, TrialSpec
from capvec.stats.sequential import FEWEST_TASKS, Block, Sequential, SequentialTest, schedule, sequential_test
from capvec.stats.verdict import EQUIVALENCE_MARGIN, LEVEL
from capvec.text import signed

STOPPED = "stopped.json"
"""In the run folder: trial → why it need not run any more."""


def drawn_order(tasks: Sequence[Task], seed: int) -> tuple[Task, ...]:
    """The tasks in an order that only the seed decides, so that those which an early look sees are a sample of all."""
    return tuple(sorted(tasks, key=lambda task: (trial_seed(seed, task.name, 0), task.name)))


def equivalence_margin_of(plan: Plan) -> float:
    """The difference in pass rate that would matter to whoever asked: `--effect`, or else the verdict's own."""
    return EQUIVALENCE_MARGIN if plan.effect is None else plan.effect


def interim_analyses(plan: Plan, outcomes: Iterable[Outcome]) -> Sequential:
    """Every look that the outcomes allow, at each steered config of a plan, and what that leaves of each config."""
    blocks = tuple(dict.fromkeys((trial.task, trial.attempt) for trial in plan.trials))
    seen = schedule(len({task for task, _ in blocks}), len({attempt for _, attempt in blocks}))
    recorded: dict[str, dict[Block, Outcome]] = {config.name: {} for config in plan.configs}
    for outcome in outcomes:
        recorded[outcome.config][outcome.task, outcome.attempt] = outcome
    family = [config.name for config in plan.configs if config.kind == "steered"]
    base = recorded[Config.BASELINE]
    tests = tuple(
        sequential_test(
            name,
            recorded[name],
            base,
            blocks,
            seen,
            comparisons=len(family),
            equivalence_margin=equivalence_margin_of(plan),
        )
        for name in family
    )
    ends = _ends(plan.configs, {test.config: seen[len(test.analyses) - 1] for test in tests if test.stopped})
    overrun = {name: sum(block in recorded[name] for block in blocks[end:]) for name, end in ends.items()}
    return Sequential(LEVEL, blocks, seen, tests, ends, overrun)


def _ends(configs: Sequence[Config], stopped: Mapping[str, int]) -> dict[str, int]:
    """With the controls of which nothing that they control for goes on, and the baseline when nothing else does."""
    ends = dict(stopped)
    for config in configs:
        of = config.control.configs if config.control is not None else ()
        if of and all(name in stopped for name in of):
            ends[config.name] = max(stopped[name] for name in of)
    others = [config.name for config in configs if config.kind != "baseline"]
    if others and all(name in ends for name in others):
        # More of it would be compared with nothing.
        ends[Config.BASELINE] = max(ends.values())
    return ends


def not_needed(plan: Plan, looks: Sequential) -> frozenset[str]:
    """The trials that a stop spares: they may be on record, as overrun, and are not missing where they are not."""
    place = {block: index for index, block in enumerate(looks.blocks)}
    end = len(looks.blocks)
    return frozenset(
        trial.id for trial in plan.trials if place[trial.task, trial.attempt] >= looks.ends.get(trial.config, end)
    )


def why_stopped(plan: Plan, spec: TrialSpec) -> str | None:
    """Why a trial need not run any more; None where it must. Asked by a worker before each trial."""
    path = plan.folder / STOPPED
    if not plan.sequential or not path.exists():
        return None
    reasons: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    return reasons.get(spec.id)


def when(looks: Sequential) -> str:
    """The schedule, for whoever waits; and where it has no look before the end, that."""
    seen = ", ".join(map(str, looks.schedule))
    words = f"--sequential: looks after {seen} of {len(looks.blocks)} (task, attempt) blocks"
    if len(looks.schedule) > 1:
        return words
    return f"{words}: nothing can stop early, since a look on the way takes {FEWEST_TASKS} tasks, and others after them"


class Monitor:
    """The controller's: takes outcomes in, and a look when the last of its trials has come."""

    def __init__(self, plan: Plan, say: Callable[[str], None]) -> None:
        self._plan = plan
        self._say = say
        self._recorded: dict[tuple[str, Block], Outcome] = {}
        self._looks = interim_analyses(plan, ())

    @property
    def words(self) -> str:
        """When the looks will be."""
        return when(self._looks)

    @property
    def spared(self) -> frozenset[str]:
        """The trials that need not run any more."""
        return not_needed(self._plan, self._looks)

    def resume(self, outcomes: Sequence[Outcome]) -> tuple[Outcome, ...]:
        """Go on from what an earlier session recorded.

        Returns:
            Errors that a look has counted. They stay: to run them again would change what was decided on.
        """
        self._looks = interim_analyses(self._plan, outcomes)
        blocks, base = self._looks.blocks, 0
        counted: set[tuple[str, Block]] = set()
        for test in self._looks.tests:
            seen = self._looks.schedule[len(test.analyses) - 1] if test.analyses else 0
            counted |= {(test.config, block) for block in blocks[:seen]}
            base = max(base, seen)
        counted |= {(Config.BASELINE, block) for block in blocks[:base]}
        kept = tuple(outcome for outcome in outcomes if outcome.outcome == "error" and _key(outcome) in counted)
        valid = [outcome for outcome in outcomes if outcome.outcome != "error"]
        self._recorded = {_key(outcome): outcome for outcome in (*valid, *kept)}
        self._tell(())
        return kept

    def note(self, outcome: Outcome) -> None:
        """Take in an outcome; where it completes a look, take it, and tell the workers and the user who stops."""
        self._recorded[_key(outcome)] = outcome
        if any(self._is_due(test) for test in self._looks.tests):
            before, self._looks = self._looks, interim_analyses(self._plan, self._recorded.values())
            self._tell(tuple(before.ends))

    def _is_due(self, test: SequentialTest) -> bool:
        if test.decision != "go on":
            return False
        seen = self._looks.blocks[: self._looks.schedule[len(test.analyses)]]
        return all((name, block) in self._recorded for name in (test.config, Config.BASELINE) for block in seen)

    def _tell(self, known: tuple[str, ...]) -> None:
        reasons = {name: self._reason(name) for name in self._looks.ends}
        path = self._plan.folder / STOPPED
        if not reasons:
            path.unlink(missing_ok=True)
            return
        new = path.with_suffix(".new")
        # Only what lies beyond the look: its last block may have trials of stopped controls still to run.
        spared = self.spared
        told = {
            trial.id: f"{trial.config} {reasons[trial.config]}" for trial in self._plan.trials if trial.id in spared
        }
        new.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
        os.replace(new, path)  # a worker reads the old one or the new one, never a half
        for name, reason in reasons.items():
            if name not in known:
                self._say(f"{name} {reason}")

    def _reason(self, name: str) -> str:
        test = self._looks.test(name)
        if test is None:
            compared = "is compared with it" if name == Config.BASELINE else "it controls for"
            return f"stops: whatever {compared} has stopped"
        look = test.analyses[-1]
        place = f"at look {look.number} of {test.planned}, with {look.share:.0%} of its trials in"
        if test.decision == "efficacy":
            return f"stops for efficacy {place}: {signed(look.difference)}, p = {look.pvalue:.2g}"
        return (
            f"stops for futility {place}: {signed(look.difference)}, chance of p < {LEVEL:g} at the end "
            f"{look.predictive or 0.0:.0%}"
        )


def _key(outcome: Outcome) -> tuple[str, Block]:
    return outcome.config, (outcome.task, outcome.attempt)
