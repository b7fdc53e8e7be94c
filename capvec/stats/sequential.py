"""Interim analyses (`--sequential`): when a config is analysed and when it stops. `sequential_test` is the rule.

**Schedule** (`schedule`). The plan goes through blocks. A block is one (task, attempt) with all configs, and every task
comes once before any comes a second time. With three attempts or more, an analysis follows each round of attempts from
the first third on; otherwise it follows the first half and three quarters of the blocks. The final analysis uses all
blocks. No analysis takes place before `FEWEST_TASKS` tasks are in, with fewer of which the test cannot reject at all.
An analysis is done when all trials of its blocks, the config's and the baseline's, are recorded. Errors count as
recorded and are excluded from the test, as everywhere. Earlier analyses would gain little: by a third of the trials the
spending rule has released 0.0007 of a level of 0.05, by a half 0.0056; nine tasks that all move alike have p = 0.0039.

**Efficacy.** A config stops when its difference crosses the boundary of `capvec.stats.spending`, up or down, at the
level divided by the number of comparisons (Bonferroni), so that Holm's rule rejects for every config stopped this way.
Its p-value is the stage-wise one and enters Holm's rule like any other.

**Futility.** A config stops when neither verdict can be expected any more (`futility`). It is then neither *improves*
nor *harms*: its p-value is 1, since the trials that could have rejected were not run. The boundaries do not rely on
futility stops (they are non-binding), so the level holds whether one obeys them or not.

**What stopping does to the estimate.** Differences, intervals and every other p-value of a config that stopped come
from its blocks up to that analysis, as if no more had been planned. A stop for efficacy selects moments at which the
difference is large, so the estimate is biased outward. `reports/statistics/SIMULATION.md` has the size of that bias.
Nothing corrects for it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from capvec.records import Outcome
from capvec.stats.assumed import EQUIVALENCE_MARGIN
from capvec.stats.futility import chances, is_futile
from capvec.stats.spending import course, is_whole_group, sign_patterns, spent
from capvec.stats.verdict import LEVEL

Block = tuple[str, int]
"""A (task, attempt)."""
Decision = Literal["go on", "efficacy", "futility", "end"]
FEWEST_TASKS = 6
"""2⁻⁵ is the first p-value below 0.05."""


@dataclass(frozen=True)
class InterimAnalysis:
    """One interim analysis of one config, on the blocks up to it."""

    number: int
    """From 1."""
    share: float
    """t: the share of the planned (task, attempt) blocks that this analysis uses."""
    spent: float
    """α*(t), the part of the config's level that may be spent by now."""
    used: float
    """The share of the flips that cross up to this analysis; below `spent`."""
    boundary: float | None
    """A difference farther from zero crosses; None where no flip of the data crosses."""
    tasks: int
    """Tasks that both arms have valid trials of."""
    difference: float
    """Difference in pass rate, the mean over these tasks."""
    pvalue: float
    """Ordered by stage, as if this analysis were the last."""
    predictive: float | None
    """The chance that the final analysis rejects; None at the final analysis, as is the next field."""
    excluding: float | None
    """The chance that the final analysis excludes effects beyond the equivalence margin; 1 where this one does."""
    decision: Decision


@dataclass(frozen=True)
class SequentialTest:
    """All analyses of one config."""

    config: str
    level: float
    """The level of all comparisons divided by their number."""
    analyses: tuple[InterimAnalysis, ...]
    """Those that were done. A config that stopped has none after the stop."""
    planned: int
    """The number of analyses without a stop."""
    exact: Literal["all flips", "a subgroup of the flips"]

    @property
    def decision(self) -> Decision:
        """The decision of the latest analysis; "go on" before the first."""
        return self.analyses[-1].decision if self.analyses else "go on"

    @property
    def stopped(self) -> bool:
        """Whether the config stopped before the final analysis, whose decision is always "end"."""
        return self.decision in ("efficacy", "futility")

    @property
    def pvalue(self) -> float:
        """The stage-wise p-value of the latest analysis; 1 after a stop for futility and before the end."""
        return self.analyses[-1].pvalue if self.decision in ("efficacy", "end") else 1.0

    @property
    def words(self) -> str:
        """What became of the config, to end a sentence with; empty for one that ran to its end."""
        place = f"interim analysis {len(self.analyses)} of {self.planned}"
        if self.decision == "go on":
            return f"not finished after {place}, so nothing can be rejected yet"
        if not self.stopped:
            return ""
        if self.decision == "efficacy":
            biased = "difference and interval are not corrected for that, and biased outward"
            return f"stopped for efficacy at {place}: {biased}"
        return f"stopped for futility at {place}, so it can be neither improves nor harms"


@dataclass(frozen=True)
class Sequential:
    """The interim analyses of a sweep, and the blocks that each config's numbers come from."""

    level: float
    """Of all comparisons together."""
    blocks: tuple[Block, ...]
    """In the plan's order, which the analyses follow."""
    schedule: tuple[int, ...]
    """The number of blocks that each analysis uses."""
    tests: tuple[SequentialTest, ...]
    """One for each comparison."""
    ends: Mapping[str, int]
    """Config → the number of blocks that its numbers come from, where that is fewer than all. A control stops when
    every config that it controls for has stopped, the baseline when every other config has."""
    overrun: Mapping[str, int]
    """Config → its recorded trials beyond these: they were under way when it stopped, and enter no number."""

    def test(self, config: str) -> SequentialTest | None:
        """The test of a config; None for one that is not among the comparisons."""
        return next((test for test in self.tests if test.config == config), None)

    def analysed(self, outcomes: Iterable[Outcome], scope_of: str | None = None) -> list[Outcome]:
        """The outcomes without the trials that ran after a stop.

        Args:
            outcomes: of any configs.
            scope_of: the config whose stop counts for all of them; each config's own where it is None.
        """
        order = {block: place for place, block in enumerate(self.blocks)}
        return [
            outcome
            for outcome in outcomes
            if order.get((outcome.task, outcome.attempt), 0)
            < self.ends.get(scope_of or outcome.config, len(self.blocks))
        ]


def schedule(tasks: int, attempts: int) -> tuple[int, ...]:
    """The number of blocks that each analysis uses; the final one uses all.

    Raises:
        ValueError: fewer than one task or attempt.
    """
    if tasks < 1 or attempts < 1:
        raise ValueError(f"{tasks} tasks, {attempts} attempts: expected at least one of each")
    total = tasks * attempts
    if attempts >= 3:
        wanted = [tasks * round_ for round_ in range(1, attempts) if 3 * round_ >= attempts]
    else:
        wanted = [math.ceil(total / 2), math.ceil(3 * total / 4)]
    kept = (seen for seen in wanted if seen < total and min(seen, tasks) >= FEWEST_TASKS)
    return (*dict.fromkeys(kept), total)


def sequential_test(
    config: str,
    ours: Mapping[Block, Outcome],
    base: Mapping[Block, Outcome],
    blocks: Sequence[Block],
    seen: Sequence[int],
    *,
    comparisons: int = 1,
    level: float = LEVEL,
    equivalence_margin: float = EQUIVALENCE_MARGIN,
) -> SequentialTest:
    """Do every analysis whose trials are recorded, up to the first that stops the config.

    An analysis depends on its own blocks alone, so the order in which trials came in makes no difference.

    Args:
        config: its name.
        ours: the config's recorded trials, errors included.
        base: those of the baseline.
        blocks: all that are planned, in the plan's order.
        seen: the schedule.
        comparisons: how many configs are corrected for each other.
        level: of all comparisons together.
        equivalence_margin: a difference in pass rate that would matter.
    """
    tasks = sorted({task for task, _ in blocks})
    ready = [count for count in seen if all(block in ours and block in base for block in blocks[:count])]
    own, exact = level / comparisons, is_whole_group(len(tasks))
    kind: Literal["all flips", "a subgroup of the flips"] = "all flips" if exact else "a subgroup of the flips"
    if not ready:
        return SequentialTest(config, own, (), len(seen), kind)
    shares = [count / len(blocks) for count in ready]
    spends = [spent(share, own) for share in shares]
    arms = [_Arms.of(tasks, ours, base, blocks[:count]) for count in ready]
    walked = course(np.stack([arm.differences[None] for arm in arms]), spends, sign_patterns(len(tasks)))
    done: list[InterimAnalysis] = []
    for index, arm in enumerate(arms):
        last = ready[index] == len(blocks)
        chance = (
            (None, None) if last else chances(arm.seen, arm.pairs, len(tasks), shares[index], level, equivalence_margin)
        )
        crossed = bool(walked.crossed[index, 0])
        analysis = InterimAnalysis(
            number=index + 1,
            share=shares[index],
            spent=spends[index],
            used=float(walked.used[index, 0]),
            boundary=float(walked.beyond[index, 0]) / max(1, arm.tasks) if walked.possible[index, 0] else None,
            tasks=arm.tasks,
            difference=arm.difference,
            pvalue=float(walked.pvalues[index, 0]),
            predictive=chance[0],
            excluding=chance[1],
            decision="end" if last else "efficacy" if crossed else "futility" if is_futile(*chance) else "go on",
        )
        done.append(analysis)
        if analysis.decision != "go on":
            break
    return SequentialTest(config, own, tuple(done), len(seen), kind)


@dataclass(frozen=True)
class _Arms:
    """The data of one analysis."""

    differences: NDArray[np.float64]
    """float [tasks], differences in pass rate; 0 where an arm has no valid trial."""
    shared: NDArray[np.bool_]
    """bool [tasks], whether both arms have a valid trial."""
    pairs: float
    """Pairs of trials for each task, on average, as in `effects.paired_effect`."""

    @classmethod
    def of(
        cls, tasks: Sequence[str], ours: Mapping[Block, Outcome], base: Mapping[Block, Outcome], blocks: Sequence[Block]
    ) -> _Arms:
        place = {task: index for index, task in enumerate(tasks)}
        solved, valid = np.zeros((2, len(tasks))), np.zeros((2, len(tasks)))
        for arm, outcomes in enumerate((ours, base)):
            for block in blocks:
                outcome = outcomes[block].outcome
                valid[arm, place[block[0]]] += outcome != "error"
                solved[arm, place[block[0]]] += outcome == "solved"
        shared = np.logical_and(*(valid > 0))
        rates = solved / np.maximum(valid, 1)
        pairs = 2 / (1 / valid[:, shared]).sum(axis=0)
        return cls((rates[0] - rates[1]) * shared, shared, float(pairs.mean()) if shared.any() else 0.0)

    @property
    def tasks(self) -> int:
        return int(self.shared.sum())

    @property
    def difference(self) -> float:
        return float(self.differences.sum()) / max(1, self.tasks)

    @property
    def seen(self) -> NDArray[np.float64]:
        """Differences, float [shared tasks]: of the tasks that both arms have a valid trial of."""
        return self.differences[self.shared]
