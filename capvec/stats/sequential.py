"""`--sequential`: when a config is looked at and when it stops. This text is the reference; `sequential_test` the rule.

**Looks** (`schedule`). The plan goes through blocks, one (task, attempt) after the other, with all configs in each,
every task once before any a second time. With three attempts or more a look follows each round of attempts from the
first third on; else it follows the first half and three quarters of the blocks. The last look sees everything. No look
comes before it has seen `FEWEST_TASKS` tasks, with fewer of which the test cannot reject at all. A look is taken when
all trials of its blocks, the config's and the baseline's, are on record; errors of the instrument are on record, and
are excluded from the test as everywhere. Why not sooner: by a third of the trials the spending rule has released
0.0007 of a level of 0.05, and by a half 0.0056; nine tasks that all move the same way have a p of 0.0039.

**Efficacy.** A config stops when its difference crosses the boundary of `capvec.stats.spending`, up or down, at the
level of the family over the number of its configs (Bonferroni), so that Holm's rule rejects whatever has stopped so.
Its p-value is the stage-wise one, and goes into Holm's rule like any other.

**Futility.** A config stops when neither verdict is to be expected any more:

* its predictive power is below `FUTILE`: the chance of p < level at the end, by the normal approximation, where what is
  known of the effect is what the looks so far say (conditional power as in Lan, Simon and Halperin, Sequential Analysis
  1982, 1:207, averaged over the effects that the data leave: Spiegelhalter, Freedman and Blackburn, Controlled Clinical
  Trials 1986, 7:8); at the family's whole level, the most that Holm's rule may grant; and
* effects beyond the margin are excluded already, or the chance that the end excludes them is below `FUTILE` too, as it
  is where the planned tasks are too few for that (`intervals.reach`).

Such a config is neither *improves* nor *harms*: its p-value is 1, since the trials that could have rejected were not
run. The boundaries do not count on futility stops (they are non-binding), so the level holds whether one obeys or not.

**What stopping does to the estimate.** Differences, intervals and every other p-value of a config that stopped come
from its blocks up to that look, as if no more had been planned. A stop for efficacy picks out moments at which the
difference is large, so it leans outward; `reports/statistics/SIMULATION.md` says by how much. Nothing corrects for it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special

from capvec.records import Interval, Outcome
from capvec.stats.assumed import EQUIVALENCE_MARGIN
from capvec.stats.intervals import clustered, reach, unseen_share
from capvec.stats.spending import course, is_whole_group, sign_patterns, spent
from capvec.stats.verdict import LEVEL

Block = tuple[str, int]
"""A (task, attempt)."""
Decision = Literal["go on", "efficacy", "futility", "end"]
FEWEST_TASKS = 6
"""2⁻⁵ is the first p-value below 0.05."""
FUTILE = 0.1
"""A verdict that comes with a chance below this is not waited for."""


@dataclass(frozen=True)
class InterimAnalysis:
    """One look at one config, at the blocks up to it."""

    number: int
    """From 1."""
    share: float
    """t: of the planned (task, attempt) blocks, those that this look sees."""
    spent: float
    """α*(t), of the config's level."""
    used: float
    """Share of the flips that cross up to this look: below `spent`."""
    boundary: float | None
    """A difference farther from zero crosses; None where no flip of the data does."""
    tasks: int
    """That both arms have valid trials of."""
    difference: float
    """In pass rate, the mean over these tasks."""
    pvalue: float
    """Ordered by stage, as if this were the last look."""
    predictive: float | None
    """Chance that the end rejects; None at the last look, as is the next."""
    excluding: float | None
    """Chance that the end excludes effects beyond the margin; 1 where this look does."""
    decision: Decision


@dataclass(frozen=True)
class SequentialTest:
    """All looks at one config."""

    config: str
    level: float
    """The family's over the number of its configs."""
    analyses: tuple[InterimAnalysis, ...]
    """As many as were taken: a stop is the last of them."""
    planned: int
    """Looks that there would be without a stop."""
    exact: Literal["all flips", "a subgroup of the flips"]

    @property
    def decision(self) -> Decision:
        """Of the last look; "go on" before the first."""
        return self.analyses[-1].decision if self.analyses else "go on"

    @property
    def stopped(self) -> bool:
        """Before the last look, whose decision is always "end"."""
        return self.decision in ("efficacy", "futility")

    @property
    def pvalue(self) -> float:
        """The stage-wise p-value of the last look; 1 after a stop for futility, and for a config that has not ended."""
        return self.analyses[-1].pvalue if self.decision in ("efficacy", "end") else 1.0

    @property
    def words(self) -> str:
        """What became of it, for the end of a sentence; empty for one that ran to its end."""
        place = f"look {len(self.analyses)} of {self.planned}"
        if self.decision == "go on":
            return f"not at its end after {place}, so nothing can be rejected yet"
        if not self.stopped:
            return ""
        if self.decision == "efficacy":
            return f"stopped for efficacy at {place}: difference and interval, not corrected for that, lean outward"
        return f"stopped for futility at {place}, so it can be neither improves nor harms"


@dataclass(frozen=True)
class Sequential:
    """The looks at a sweep's family, and what they leave of each config."""

    level: float
    """Of the family."""
    blocks: tuple[Block, ...]
    """In the plan's order, which the looks follow."""
    schedule: tuple[int, ...]
    """Blocks that each look sees."""
    tests: tuple[SequentialTest, ...]
    """Of each config of the family."""
    ends: Mapping[str, int]
    """Config → the blocks that its numbers come from, where that is fewer than all. A control stops when all that it
    controls for has, the baseline when everything else has."""
    overrun: Mapping[str, int]
    """Config → its trials on record beyond these: they were under way when it stopped, and enter no number."""

    def test(self, config: str) -> SequentialTest | None:
        """Of a config of the family."""
        return next((test for test in self.tests if test.config == config), None)

    def analysed(self, outcomes: Iterable[Outcome], scope_of: str | None = None) -> list[Outcome]:
        """Without what ran after a stop: that of each config, or of `scope_of` for all that it is compared with."""
        order = {block: place for place, block in enumerate(self.blocks)}
        return [
            outcome
            for outcome in outcomes
            if order.get((outcome.task, outcome.attempt), 0)
            < self.ends.get(scope_of or outcome.config, len(self.blocks))
        ]


def schedule(tasks: int, attempts: int) -> tuple[int, ...]:
    """The number of blocks that each look sees; the last sees all.

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
    """Take every look whose trials are on record, up to the first that stops.

    A look depends on its own blocks alone, so it makes no difference in which order trials came in.

    Args:
        config: its name.
        ours: the config's trials on record, errors included.
        base: the baseline's.
        blocks: all that are planned, in the plan's order.
        seen: the schedule.
        comparisons: configs that are corrected for each other.
        level: of the family.
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
    looks: list[InterimAnalysis] = []
    for index, arm in enumerate(arms):
        last = ready[index] == len(blocks)
        chance = (
            (None, None) if last else chances(arm.seen, arm.pairs, len(tasks), shares[index], level, equivalence_margin)
        )
        crossed = bool(walked.crossed[index, 0])
        look = InterimAnalysis(
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
        looks.append(look)
        if look.decision != "go on":
            break
    return SequentialTest(config, own, tuple(looks), len(seen), kind)


@dataclass(frozen=True)
class _Arms:
    """What one look sees."""

    differences: NDArray[np.float64]
    """[tasks], 0 where an arm has no valid trial."""
    shared: NDArray[np.bool_]
    """[tasks], whether both arms have one."""
    pairs: float
    """Of trials for each task, on average: as in `effects.paired_effect`."""

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
        """Differences of the tasks that both arms have a valid trial of."""
        return self.differences[self.shared]


def chances(
    differences: NDArray[np.floating], pairs: float, planned: int, share: float, level: float, equivalence_margin: float
) -> tuple[float, float]:
    """Of a rejection at the end, and of effects beyond the margin being excluded there.

    Args:
        differences: in pass rate, [tasks seen so far].
        pairs: of trials for each of these tasks, on average.
        planned: tasks at the end.
        share: t.
        level: of the family.
        equivalence_margin: a difference in pass rate that would matter.
    """
    if not len(differences):
        return 1.0, 1.0  # nothing is known, so nothing is futile
    values = differences.astype(np.float64)
    size = math.sqrt(float(values @ values))
    predictive = predictive_power(float(values.sum()) / size if size else 0.0, share, level)
    interval = clustered(values.tolist(), pairs)
    if reach(interval, len(values)) <= equivalence_margin:
        return predictive, 1.0
    if unseen_share(planned) > equivalence_margin:
        return predictive, 0.0
    return predictive, exclusion_chance(float(values.mean()), interval, share, equivalence_margin)


def predictive_power(z: float, share: float, level: float) -> float:
    """The chance of a two-sided rejection at the end, given z at a share t of the information, with a flat prior.

    The Brownian motion B(t) = z√t ends at a normal value with mean z/√t and variance (1 − t)/t. Looks between now and
    the end are left out of account.
    """
    spread, centre, end = math.sqrt((1 - share) / share), z / math.sqrt(share), special.ndtri(level / 2)
    return float(special.ndtr((end + centre) / spread) + special.ndtr((end - centre) / spread))


def exclusion_chance(difference: float, interval: Interval, share: float, equivalence_margin: float) -> float:
    """The chance that the 95 % interval lies within ± the margin at the end, where it does not yet.

    Ours, from the same flat prior as `predictive_power`: the half-width shrinks by √t until then, and the centre moves
    by a normal step with variance σ²(1 − t), σ being the standard error of now.
    """
    half = (interval.high - interval.low) / 2
    room = equivalence_margin - half * math.sqrt(share)
    if room <= 0:
        return 0.0
    step = half / float(special.ndtri(0.975)) * math.sqrt(1 - share)
    return float(special.ndtr((room - difference) / step) - special.ndtr((-room - difference) / step))


def is_futile(predictive: float | None, excluding: float | None) -> bool:
    """Whether neither verdict is worth waiting for; one that is there already (a chance of 1) is not waited for.

    None, at the last look, is never futile.
    """
    if predictive is None or excluding is None:
        return False
    return predictive < FUTILE and (excluding < FUTILE or excluding == 1.0)
