"""From outcomes to the numbers of the report. Errors of the instrument are counted, and enter nothing else."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, get_args

from capvec.errors import UsageError
from capvec.records import Config, Interval, Outcome
from capvec.stats.assumed import EQUIVALENCE_MARGIN, UNKNOWN_SPREAD
from capvec.stats.drift import Drift, drift
from capvec.stats.effects import SECONDARY, Effect, paired_effect
from capvec.stats.format_change import FormatChange, format_change
from capvec.stats.intervals import clopper_pearson, wilson
from capvec.stats.mediation import Mediation, decompose
from capvec.stats.multiplicity import holm
from capvec.stats.pairing import McNemarResult, SignFlipResult, mcnemar_exact, sign_flip
from capvec.stats.pooled import FisherResult, fisher_exact
from capvec.stats.power import SweepDesign, minimum_detectable_effect, observed_rate, observed_spread
from capvec.stats.sensitivity import Reading, Sensitivity, sensitivity
from capvec.stats.sequential import Sequential
from capvec.stats.stratified import CmhResult, Stratum, cmh
from capvec.stats.verdict import LEVEL, Detectable, Verdict, decide


@dataclass(frozen=True)
class ConfigSummary:
    """One config's row. Rates and means are None where there is no valid trial.

    From `fisher` on everything is against the baseline: None (or empty) for the baseline itself, and where the two
    share nothing to compare (but `sensitivity` has the readings that count errors, where nothing else is known).
    """

    config: str
    n: int
    """Valid trials: solved and unsolved."""
    solved: int
    errors: int
    pass_rate: float | None
    wilson: Interval | None
    clopper_pearson: Interval | None
    mean_steps: float | None
    parse_fail_per_run: float | None
    repaired_per_run: float | None
    no_cmd_per_run: float | None
    replies: int
    """Of all valid trials together: what the next three are shares of."""
    parse_fail_per_reply: float | None
    repaired_per_reply: float | None
    no_cmd_per_reply: float | None
    end_reasons: Mapping[str, int]
    """Why valid trials ended, the most frequent first."""
    fisher: FisherResult | None
    """On counts pooled over the tasks that both have valid trials of: a config must not be compared
    with the baseline's trials on tasks that it never saw. Where both have some of each, these are the rows' counts.
    """
    sign_flip: SignFlipResult | None
    """Over tasks: the headline. The p-value allows for the looks where there were any (`Summary.sequential`)."""
    mcnemar: McNemarResult | None
    """Over (task, attempt) pairs of which both sides are valid."""
    cmh: CmhResult | None
    """Stratified by task: about these tasks only."""
    effect: Effect | None
    """On the pass rate, with its interval and its p-value after Holm over `Summary.family`."""
    secondary: tuple[Effect, ...]
    """On parse_fail, no_cmd and steps, with p-values after Holm over `Summary.secondary_comparisons`."""
    mediation: Mediation | None
    format_change: FormatChange | None
    sensitivity: tuple[Sensitivity, ...]
    verdict: Verdict | None


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
    """The looks, with `--sequential`. A config that stopped early is summarised, and compared, on the blocks up to
    there; the baseline's own row has all that were wanted of it."""
    bases: Mapping[str, ConfigSummary] = field(default_factory=dict)
    """Config that stopped early → the baseline on its blocks."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON: an infinite odds ratio is the text "inf", one that does not exist is null.

        Without looks there are no keys `sequential` and `bases`.
        """
        data: dict[str, Any] = _plain(asdict(self))
        if self.sequential is None:
            del data["sequential"], data["bases"]
        return data

    @property
    def uncompared(self) -> tuple[str, ...]:
        """Configs of the family that no effect is known of: no valid trial on a task that the baseline has one on."""
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
) -> Summary:
    """Count, estimate, test and name, each config against the baseline.

    Args:
        outcomes: of all configs, errors included.
        config_names: in the order of the report.
        baseline: which of them the others are compared with.
        comparisons: the configs that are corrected for each other: the steered ones, controls left out. All but the
            baseline where it is None.
        equivalence_margin: a difference in pass rate that would matter (see `verdict`).
        sequential: the looks that were taken at the family.

    Raises:
        UsageError: an outcome of a config, or a member of the family, that is not among `config_names`.
    """
    wanted = [name for name in config_names if name != baseline] if comparisons is None else list(comparisons)
    if unknown := ({outcome.config for outcome in outcomes} | set(wanted)) - set(config_names):
        raise UsageError(f"outcomes of unknown configs {sorted(unknown)}; expected {', '.join(config_names)}")
    groups = {name: [outcome for outcome in outcomes if outcome.config == name] for name in config_names}
    base = groups.get(baseline, [])
    if sequential is not None:
        groups = {name: sequential.analysed(group) for name, group in groups.items()}
    bases = {name: base if sequential is None else sequential.analysed(base, name) for name in groups}
    rows = [
        _looked_at(_summarise(name, group, [] if name == baseline else bases[name], baseline), sequential)
        for name, group in groups.items()
    ]
    rows, tested, secondary = _adjust(rows, wanted)
    ended = sequential.ends if sequential is not None else ()
    own = {name: _summarise(baseline, bases[name], [], baseline) for name in ended}
    observed = drift(outcomes, baseline), spread_between_tasks(base)
    unnamed = Summary(tuple(rows), baseline, tested, secondary, *observed, sequential, own)
    return replace(unnamed, configs=tuple(_decided(row, unnamed, equivalence_margin) for row in rows))


# ------------------------------------------------------------------------------------------------ one config


def _summarise(name: str, group: Sequence[Outcome], base: Sequence[Outcome], baseline: str) -> ConfigSummary:
    """Everything but what the other configs have a say in; `base` is empty for the baseline itself."""
    valid, other = _valid(group), _valid(base)
    n, solved, replies = len(valid), _solved(valid), sum(outcome.steps for outcome in valid)
    comparable = bool(valid and other)
    pooled = _pooled(_strata(valid, other))
    both = [*group, *base]
    effect = paired_effect(both, name, "pass_rate", baseline) if comparable else None
    return ConfigSummary(
        config=name,
        n=n,
        solved=solved,
        errors=len(group) - n,
        pass_rate=solved / n if n else None,
        wilson=wilson(solved, n) if n else None,
        clopper_pearson=clopper_pearson(solved, n) if n else None,
        mean_steps=_share(replies, n),
        parse_fail_per_run=_share(sum(outcome.parse_fail for outcome in valid), n),
        repaired_per_run=_share(sum(outcome.repaired for outcome in valid), n),
        no_cmd_per_run=_share(sum(outcome.no_cmd for outcome in valid), n),
        replies=replies,
        parse_fail_per_reply=_share(sum(outcome.parse_fail for outcome in valid), replies),
        repaired_per_reply=_share(sum(outcome.repaired for outcome in valid), replies),
        no_cmd_per_reply=_share(sum(outcome.no_cmd for outcome in valid), replies),
        end_reasons=dict(Counter(outcome.end_reason for outcome in valid).most_common()),
        fisher=fisher_exact(*pooled) if pooled else None,
        sign_flip=_sign_flip(valid, other),
        mcnemar=_mcnemar(valid, other) if comparable else None,
        cmh=_cmh(valid, other),
        effect=effect,
        secondary=_secondary(both, name, baseline) if effect is not None else (),
        mediation=decompose(valid, other),
        format_change=None,
        sensitivity=sensitivity(both, name, baseline) if base else (),
        verdict=None,
    )


def _valid(outcomes: Sequence[Outcome]) -> list[Outcome]:
    return [outcome for outcome in outcomes if outcome.outcome != "error"]


def _solved(outcomes: Sequence[Outcome]) -> int:
    return sum(outcome.outcome == "solved" for outcome in outcomes)


def _share(count: float, of: int) -> float | None:
    return count / of if of else None


def _counts_by_task(outcomes: Sequence[Outcome]) -> dict[str, tuple[int, int]]:
    """Task → (solved, valid)."""
    tasks: dict[str, tuple[int, int]] = {}
    for outcome in outcomes:
        solved, n = tasks.get(outcome.task, (0, 0))
        tasks[outcome.task] = (solved + (outcome.outcome == "solved"), n + 1)
    return tasks


def _strata(valid: Sequence[Outcome], base: Sequence[Outcome]) -> list[Stratum]:
    """The tasks that both sides have valid trials of."""
    ours, theirs = _counts_by_task(valid), _counts_by_task(base)
    return [Stratum(*ours[task], *theirs[task]) for task in ours if task in theirs]


def _pooled(strata: Sequence[Stratum]) -> tuple[int, int, int, int] | None:
    """Solved and valid trials, then the baseline's, over the tasks that both have valid trials of; None without any."""
    if not strata:
        return None
    solved, n, base_solved, base_n = zip(*((s.solved, s.n, s.base_solved, s.base_n) for s in strata), strict=True)
    return sum(solved), sum(n), sum(base_solved), sum(base_n)


def _sign_flip(valid: Sequence[Outcome], base: Sequence[Outcome]) -> SignFlipResult | None:
    strata = _strata(valid, base)
    return sign_flip([s.solved / s.n - s.base_solved / s.base_n for s in strata]) if strata else None


def _cmh(valid: Sequence[Outcome], base: Sequence[Outcome]) -> CmhResult | None:
    strata = _strata(valid, base)
    return cmh(strata) if strata else None


def _mcnemar(valid: Sequence[Outcome], base: Sequence[Outcome]) -> McNemarResult | None:
    """Over the (task, attempt) pairs of which both sides are valid."""
    theirs = {(outcome.task, outcome.attempt): outcome.outcome for outcome in base}
    pairs = Counter(
        (outcome.outcome == "solved") - (theirs[outcome.task, outcome.attempt] == "solved")
        for outcome in valid
        if (outcome.task, outcome.attempt) in theirs
    )
    return mcnemar_exact(pairs[1], pairs[-1], pairs[0]) if pairs else None


def _secondary(outcomes: Sequence[Outcome], name: str, baseline: str) -> tuple[Effect, ...]:
    effects = (paired_effect(outcomes, name, metric, baseline) for metric in SECONDARY)
    return tuple(effect for effect in effects if effect is not None)


def _looked_at(row: ConfigSummary, sequential: Sequential | None) -> ConfigSummary:
    """With the p-value that allows for the looks, where the config was looked at."""
    test = sequential.test(row.config) if sequential is not None else None
    if test is None or row.effect is None or row.sign_flip is None:
        return row
    effect, headline = replace(row.effect, pvalue=test.pvalue), replace(row.sign_flip, pvalue=test.pvalue)
    return replace(row, effect=effect, sign_flip=headline)


# ------------------------------------------------------------------------------------------------ all together


def _adjust(
    rows: Sequence[ConfigSummary], wanted: Sequence[str]
) -> tuple[list[ConfigSummary], tuple[str, ...], tuple[str, ...]]:
    """Holm over the family, on the pass rate under each reading and on the other outcomes; both families as planned.

    A config that cannot be compared stays in its family with p = 1: how many were planned does not depend on the data.
    """
    members = [row for row in rows if row.config in wanted]
    main = _holm_by_config({row.config: row.effect for row in members})
    read = {
        reading: _holm_by_config({row.config: _read(row, reading) for row in members}) for reading in get_args(Reading)
    }
    planned = [(row.config, metric) for row in members for metric in SECONDARY]
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
    counts = _counts_by_task(_valid(base)).values()
    return observed_spread([solved for solved, _ in counts], [n for _, n in counts])


def _decided(row: ConfigSummary, summary: Summary, equivalence_margin: float) -> ConfigSummary:
    effect = row.effect
    if effect is None:
        return row
    parse_fail, no_cmd = (next(e for e in row.secondary if e.metric == metric) for metric in ("parse_fail", "no_cmd"))
    change = format_change(effect, parse_fail, no_cmd)
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
    """What decided whether the sweep could see an effect of this config: the tasks that were compared, what was
    observed of the baseline, and the level of Holm's first step.

    The attempts are those of the arm that has fewer, and rounded down, so that no more is promised than the sweep could
    see. (A tenth of one is forgiven: a few errors of the instrument do not halve two attempts.) The rest is rounded so
    that configs of one sweep share the computation.

    Args:
        summary: whose baseline has a valid trial.
        effect: of one of its configs.
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
