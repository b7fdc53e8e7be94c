"""`--sequential` while a sweep runs: interim analyses as outcomes arrive.

`capvec.stats.sequential` defines the analyses and the stopping rules. They depend on the outcomes alone, so a report or
a resumed run derives them again from `trials.jsonl`; `capvec.results.stopped` only informs the workers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from capvec.plan.plan import Plan
from capvec.records import Config, Outcome, TrialId
from capvec.results.stopped import publish_stopped
from capvec.stats.assumed import EQUIVALENCE_MARGIN
from capvec.stats.sequential import FEWEST_TASKS, Block, Sequential, SequentialTest, schedule, sequential_test
from capvec.stats.verdict import LEVEL
from capvec.text import signed


def equivalence_margin_of(plan: Plan) -> float:
    """The equivalence margin, a difference in pass rate: `--effect`, or the verdict's default."""
    return EQUIVALENCE_MARGIN if plan.effect is None else plan.effect


def interim_analyses(plan: Plan, outcomes: Iterable[Outcome]) -> Sequential:
    """Every analysis of the steered configs that the outcomes allow, and where each config of the plan ends."""
    blocks = tuple(dict.fromkeys((trial.task, trial.attempt) for trial in plan.trials))
    sizes = schedule(len({task for task, _ in blocks}), len({attempt for _, attempt in blocks}))
    recorded: dict[str, dict[Block, Outcome]] = {config.name: {} for config in plan.configs}
    for outcome in outcomes:
        recorded[outcome.config][outcome.task, outcome.attempt] = outcome
    names, base, margin = plan.steered, recorded[Config.BASELINE], equivalence_margin_of(plan)
    tests = tuple(
        sequential_test(name, recorded[name], base, blocks, sizes, comparisons=len(names), equivalence_margin=margin)
        for name in names
    )
    ends = _ends(plan.configs, {test.config: sizes[len(test.analyses) - 1] for test in tests if test.stopped})
    overrun = {name: sum(block in recorded[name] for block in blocks[end:]) for name, end in ends.items()}
    return Sequential(LEVEL, blocks, sizes, tests, ends, overrun)


def _ends(configs: Sequence[Config], stopped: Mapping[str, int]) -> dict[str, int]:
    """The blocks after which each config ends, where that is before the last.

    A control ends with the last of the configs that it controls for, and the baseline when all others have ended.
    """
    ends = dict(stopped)
    for config in configs:
        controlled = config.control.configs if config.control is not None else ()
        if controlled and all(name in stopped for name in controlled):
            ends[config.name] = max(stopped[name] for name in controlled)
    others = [config.name for config in configs if config.kind != "baseline"]
    if others and all(name in ends for name in others):
        ends[Config.BASELINE] = max(ends.values())
    return ends


def not_needed(plan: Plan, analyses: Sequential) -> frozenset[TrialId]:
    """The trials after their config's end. They may be on record (overrun); they are not missing if they are not."""
    place = {block: index for index, block in enumerate(analyses.blocks)}
    last = len(analyses.blocks)
    return frozenset(
        trial.id for trial in plan.trials if place[trial.task, trial.attempt] >= analyses.ends.get(trial.config, last)
    )


def schedule_in_words(analyses: Sequential) -> str:
    """When the interim analyses take place, or why none can take place before the end."""
    sizes = ", ".join(map(str, analyses.schedule))
    words = f"--sequential: interim analyses after {sizes} of {len(analyses.blocks)} (task, attempt) blocks"
    if len(analyses.schedule) > 1:
        return words
    return f"{words}: no config can stop early, since an interim analysis needs {FEWEST_TASKS} tasks and more after it"


class Monitor:
    """Receives outcomes in the controller, and makes each interim analysis when its last outcome arrives."""

    def __init__(self, plan: Plan, say: Callable[[str], None]) -> None:
        self._plan = plan
        self._say = say
        self._recorded: dict[TrialId, Outcome] = {}
        self._analyses = interim_analyses(plan, ())

    @property
    def words(self) -> str:
        """When the interim analyses take place."""
        return schedule_in_words(self._analyses)

    @property
    def skipped(self) -> frozenset[TrialId]:
        """The trials that need not run any more."""
        return not_needed(self._plan, self._analyses)

    def resume(self, outcomes: Sequence[Outcome]) -> tuple[Outcome, ...]:
        """Continue from the outcomes of earlier sessions.

        Returns:
            The errors that an analysis has counted. They stay on record: running those trials again would change the
            data that a decision was based on.
        """
        self._analyses = interim_analyses(self._plan, outcomes)
        counted = self._counted()
        kept = tuple(outcome for outcome in outcomes if outcome.outcome == "error" and outcome.id in counted)
        valid = [outcome for outcome in outcomes if outcome.outcome != "error"]
        self._recorded = {outcome.id: outcome for outcome in (*valid, *kept)}
        self._publish(())
        return kept

    def note(self, outcome: Outcome) -> None:
        """Record an outcome; if it completes an analysis, make it, and tell workers and user which configs stop."""
        self._recorded[outcome.id] = outcome
        if any(self._is_due(test) for test in self._analyses.tests):
            before, self._analyses = self._analyses, interim_analyses(self._plan, self._recorded.values())
            self._publish(before.ends.keys())

    def _counted(self) -> set[TrialId]:
        """The trials of the steered configs and the baseline that an analysis has used."""
        sizes = {
            test.config: self._analyses.schedule[len(test.analyses) - 1]
            for test in self._analyses.tests
            if test.analyses
        }
        sizes[Config.BASELINE] = max(sizes.values(), default=0)
        return {
            TrialId(task, name, attempt)
            for name, size in sizes.items()
            for task, attempt in self._analyses.blocks[:size]
        }

    def _is_due(self, test: SequentialTest) -> bool:
        if test.decision != "go on":
            return False
        blocks = self._analyses.blocks[: self._analyses.schedule[len(test.analyses)]]
        return all(
            TrialId(task, name, attempt) in self._recorded
            for name in (test.config, Config.BASELINE)
            for task, attempt in blocks
        )

    def _publish(self, known: Collection[str]) -> None:
        """Write `stopped.json` for the workers, and tell the user which configs stopped, but for those `known`."""
        reasons = {name: self._reason(name) for name in self._analyses.ends}
        # Only trials after the analysis: stopped controls may still have trials to run in its last block.
        skipped = self.skipped if reasons else frozenset()
        trials = [trial for trial in self._plan.trials if trial.id in skipped]
        publish_stopped(self._plan, {trial.id: f"{trial.config} {reasons[trial.config]}" for trial in trials})
        for name, reason in reasons.items():
            if name not in known:
                self._say(f"{name} {reason}")

    def _reason(self, name: str) -> str:
        test = self._analyses.test(name)
        if test is None:
            others = "every other config" if name == Config.BASELINE else "every config that it controls for"
            return f"stops: {others} has stopped"
        last = test.analyses[-1]
        place = f"at interim analysis {last.number} of {test.planned}, with {last.share:.0%} of its trials recorded"
        if test.decision == "efficacy":
            return f"stops for efficacy {place}: {signed(last.difference)}, p = {last.pvalue:.2g}"
        return (
            f"stops for futility {place}: {signed(last.difference)}, chance of p < {LEVEL:g} at the end "
            f"{last.predictive or 0.0:.0%}"
        )
