"""All numbers of a sweep from its outcomes. Errors of the instrument are counted and enter nothing else."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, get_args

from capvec.errors import UsageError
from capvec.records import Config, Outcome
from capvec.stats.assumed import EQUIVALENCE_MARGIN, UNKNOWN_SPREAD
from capvec.stats.config_summary import ConfigSummary, counts_by_task, summarise_config, valid_trials
from capvec.stats.drift import Drift, drift
from capvec.stats.effects import SECONDARY, AnyMetric, Effect, Metric, by_task
from capvec.stats.format_change import format_change
from capvec.stats.multiplicity import holm
from capvec.stats.pass_at_k import ConfigPassAtK, summarise_pass_at_k
from capvec.stats.power import SweepDesign, minimum_detectable_effect, observed_rate, observed_spread
from capvec.stats.rewards import RewardSummary, summarise_rewards
from capvec.stats.sensitivity import Reading
from capvec.stats.sequential import Sequential
from capvec.stats.verdict import LEVEL, Detectable, decide


@dataclass(frozen=True)
class Summary:
    """All configs, in the plan's order."""

    configs: tuple[ConfigSummary, ...]
    baseline: str
    comparisons: tuple[str, ...]
    """Configs whose p-values on the pass rate are corrected together, after Holm: those that were planned, with a valid
    trial or without. Controls are not among them."""
    secondary_comparisons: tuple[str, ...]
    """The same for the other outcomes: `config: metric`."""
    drift: Drift
    """Of the baseline over the sweep."""
    spread: float | None
    """Logit SD between tasks behind the baseline's counts; None where every task has one valid trial."""
    sequential: Sequential | None = None
    """The interim analyses, with `--sequential`. A config that stopped early is summarised and compared on the blocks
    up to its stop; the baseline's own row has all blocks that were wanted of it."""
    bases: Mapping[str, ConfigSummary] = field(default_factory=dict)
    """Config that stopped early → the baseline on its blocks."""
    rewards: RewardSummary | None = None
    """The mean rewards; None where every trial has one reward of 0 or 1, and the pass rate is all there is to say."""
    pass_at_k: tuple[ConfigPassAtK, ...] = ()
    """Empty where no task has two valid trials under one config: pass@1 is the mean of the tasks' pass rates."""
    unrecorded: tuple[str, ...] = ()
    """Fields of `Outcome` that are not on record for every valid trial, and enter nothing: of results that were made
    elsewhere."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON: an infinite odds ratio is the text "inf", one that does not exist is null.

        Without interim analyses there are no keys `sequential` and `bases`, where every trial has one reward of 0 or 1
        there is no key `rewards`, with one attempt there is no key `pass_at_k`, and where every count is on record
        there is no key `unrecorded`.
        """
        data: dict[str, Any] = _plain(asdict(self))
        if self.sequential is None:
            del data["sequential"], data["bases"]
        if self.rewards is None:
            del data["rewards"]
        for name in ("pass_at_k", "unrecorded"):
            if not data[name]:
                del data[name]
        return data

    @property
    def uncompared(self) -> tuple[str, ...]:
        """Compared configs without a known effect: no valid trial on a task that the baseline has one on."""
        return tuple(row.config for row in self.configs if row.config in self.comparisons and row.effect is None)

    def base_of(self, config: str) -> ConfigSummary:
        """The baseline, on the blocks that the numbers of a config come from."""
        return self.bases.get(config) or next(row for row in self.configs if row.config == self.baseline)

    def analysed(self, outcomes: Sequence[Outcome]) -> list[Outcome]:
        """What the numbers come from: all but the trials that ended after their config had stopped."""
        return list(outcomes) if self.sequential is None else self.sequential.analysed(outcomes)


def summarise(
    outcomes: Sequence[Outcome],
    config_names: Sequence[str],
    baseline: str = Config.BASELINE,
    *,
    comparisons: Sequence[str] | None = None,
    equivalence_margin: float = EQUIVALENCE_MARGIN,
    sequential: Sequential | None = None,
    unrecorded: Collection[str] = (),
) -> Summary:
    """Count, estimate, test and name the effect of each config against the baseline.

    Args:
        outcomes: of all configs, errors included.
        config_names: in the order of the report.
        baseline: which of them the others are compared with.
        comparisons: the configs that are corrected for each other: the steered ones, without controls. None: all
            configs but the baseline.
        equivalence_margin: a difference in pass rate that would matter (see `verdict`).
        sequential: the interim analyses that were done.
        unrecorded: as in `Summary`.

    Raises:
        UsageError: an outcome or a comparison of a config that is not among `config_names`.
    """
    wanted = [name for name in config_names if name != baseline] if comparisons is None else list(comparisons)
    if unknown := ({outcome.config for outcome in outcomes} | set(wanted)) - set(config_names):
        raise UsageError(f"outcomes of unknown configs {sorted(unknown)}; expected {', '.join(config_names)}")
    groups: dict[str, list[Outcome]] = {name: [] for name in config_names}
    for outcome in outcomes:
        groups[outcome.config].append(outcome)
    base = groups.get(baseline, [])
    if sequential is not None:
        groups = {name: sequential.analysed(group) for name, group in groups.items()}
    bases = {name: base if sequential is None else sequential.analysed(base, name) for name in groups}
    rows = [
        _with_sequential_pvalue(
            summarise_config(name, group, [] if name == baseline else bases[name], unrecorded), sequential
        )
        for name, group in groups.items()
    ]
    rows, tested, secondary = _adjust(rows, wanted, [metric for metric in SECONDARY if metric not in unrecorded])
    ended = sequential.ends if sequential is not None else ()
    own = {name: summarise_config(baseline, bases[name], [], unrecorded) for name in ended}
    observed = drift(outcomes, baseline), spread_between_tasks(base)
    rewards = summarise_rewards(groups, bases, baseline, tested)
    attempts = summarise_pass_at_k(groups, bases, baseline)
    unnamed = Summary(
        tuple(rows), baseline, tested, secondary, *observed, sequential, own, rewards, attempts, tuple(unrecorded)
    )
    return replace(unnamed, configs=tuple(_decided(row, unnamed, equivalence_margin) for row in rows))


def _with_sequential_pvalue(row: ConfigSummary, sequential: Sequential | None) -> ConfigSummary:
    """The row with the p-value that allows for interim analyses, where the config has some."""
    test = sequential.test(row.config) if sequential is not None else None
    if test is None or row.effect is None or row.sign_flip is None:
        return row
    effect, headline = replace(row.effect, pvalue=test.pvalue), replace(row.sign_flip, pvalue=test.pvalue)
    return replace(row, effect=effect, sign_flip=headline)


def _adjust(
    rows: Sequence[ConfigSummary], wanted: Sequence[str], metrics: Sequence[Metric]
) -> tuple[list[ConfigSummary], tuple[str, ...], tuple[str, ...]]:
    """Holm over all comparisons, on the pass rate under each reading and on the secondary outcomes.

    A config that cannot be compared counts with p = 1: how many comparisons were planned does not depend on the data.
    """
    members = [row for row in rows if row.config in wanted]
    main = _holm_by_config({row.config: row.effect for row in members})
    read = {
        reading: _holm_by_config({row.config: _read(row, reading) for row in members}) for reading in get_args(Reading)
    }
    planned: list[tuple[str, AnyMetric]] = [(row.config, metric) for row in members for metric in metrics]
    found = {(effect.config, effect.metric): effect.pvalue for row in members for effect in row.secondary}
    other = dict(zip(planned, holm([found.get(key, 1.0) for key in planned]), strict=True))
    adjusted = [
        replace(
            row,
            effect=replace(row.effect, holm=main.get(row.config)) if row.effect else None,
            secondary=tuple(replace(effect, holm=other.get((row.config, effect.metric))) for effect in row.secondary),
            sensitivity=tuple(
                replace(one, effect=replace(one.effect, holm=read[one.reading].get(row.config)))
                for one in row.sensitivity
            ),
        )
        for row in rows
    ]
    return adjusted, tuple(main), tuple(f"{config}: {metric}" for config, metric in planned)


def _holm_by_config(effects: Mapping[str, Effect | None]) -> dict[str, float]:
    pvalues = holm([1.0 if effect is None else effect.pvalue for effect in effects.values()])
    return dict(zip(effects, pvalues, strict=True))


def _read(row: ConfigSummary, reading: Reading) -> Effect | None:
    return next((one.effect for one in row.sensitivity if one.reading == reading), None)


def spread_between_tasks(base: Sequence[Outcome]) -> float | None:
    """The logit SD between tasks behind a baseline's outcomes (`power.observed_spread`); errors are left out."""
    counts = counts_by_task(by_task(valid_trials(base))).values()
    return observed_spread([solved for solved, _ in counts], [n for _, n in counts])


def _decided(row: ConfigSummary, summary: Summary, equivalence_margin: float) -> ConfigSummary:
    effect = row.effect
    if effect is None:
        return row
    moved = {one.metric: one for one in row.secondary}
    known = "parse_fail" in moved and "no_cmd" in moved
    change = format_change(effect, moved["parse_fail"], moved["no_cmd"]) if known else None
    design = observed_design(summary, effect)
    detectable = Detectable(
        minimum_detectable_effect(design), minimum_detectable_effect(design, falls=True), design.level
    )
    verdict = decide(
        effect, change, detectable, mediation=row.mediation, stratified=row.cmh, equivalence_margin=equivalence_margin
    )
    test = summary.sequential.test(row.config) if summary.sequential is not None else None
    if test is not None and test.words:
        verdict = replace(verdict, words=f"{verdict.words}; {test.words}")
    return replace(row, format_change=change, verdict=verdict)


def observed_design(summary: Summary, effect: Effect) -> SweepDesign:
    """The design that decided whether the sweep could detect an effect of this config: the tasks that were compared,
    what was observed of the baseline, and the level of Holm's first step.

    The attempts are those of the arm that has fewer, rounded down, so that no more is promised than the sweep could
    detect. (A tenth of an attempt is forgiven: a few errors do not halve two attempts.) The rest is rounded so that
    configs of one sweep share the computation.
    """
    base = summary.base_of(effect.config)
    return SweepDesign(
        tasks=effect.tasks,
        attempts=math.floor(effect.attempts + 0.1),
        base_rate=observed_rate(base.solved, base.n),
        spread=UNKNOWN_SPREAD if summary.spread is None else round(summary.spread, 1),
        level=LEVEL if effect.holm is None else LEVEL / len(summary.comparisons),
    )


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value
