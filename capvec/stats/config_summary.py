"""The numbers of one config: counts, rates with intervals, and every test against the baseline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from capvec.records import Interval, Outcome
from capvec.stats.effects import SECONDARY, Arm, Effect, by_task, effect_of_arms
from capvec.stats.format_change import FormatChange
from capvec.stats.intervals import clopper_pearson, wilson
from capvec.stats.mediation import Mediation, decompose
from capvec.stats.pairing import McNemarResult, SignFlipResult, mcnemar_exact, sign_flip
from capvec.stats.pooled import FisherResult, fisher_exact
from capvec.stats.sensitivity import Sensitivity, sensitivity
from capvec.stats.stratified import CmhResult, Stratum, cmh
from capvec.stats.verdict import Verdict

_COUNTS = ("steps", "parse_fail", "no_cmd", "repaired")
"""Fields of `Outcome` that count replies."""


@dataclass(frozen=True)
class ConfigSummary:
    """One config's row. Rates and means are None where there is no valid trial, or where nobody recorded the count.

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
    """Over tasks. Decides the verdict. Its p-value allows for interim analyses, if any (`Summary.sequential`)."""
    mcnemar: McNemarResult | None
    """Over (task, attempt) pairs of which both sides are valid."""
    cmh: CmhResult | None
    """Stratified by task: about these tasks only."""
    effect: Effect | None
    """On the pass rate, with its interval and its p-value after Holm over `Summary.comparisons`."""
    secondary: tuple[Effect, ...]
    """On parse_fail, no_cmd and steps, with p-values after Holm over `Summary.secondary_comparisons`."""
    mediation: Mediation | None
    """None as well where parse_fail or no_cmd is not on record; so is the next."""
    format_change: FormatChange | None
    sensitivity: tuple[Sensitivity, ...]
    verdict: Verdict | None


def summarise_config(
    name: str, group: Sequence[Outcome], base: Sequence[Outcome], unrecorded: Collection[str] = ()
) -> ConfigSummary:
    """Everything that does not depend on the other configs; `format_change` and `verdict` are left None.

    `base` holds the baseline's outcomes, and is empty for the baseline itself. `unrecorded` is as in `Summary`.
    """
    valid, other = valid_trials(group), valid_trials(base)
    ours, theirs = by_task(valid), by_task(other)
    strata = _strata(ours, theirs)
    n, solved = len(valid), _solved(valid)
    totals = {count: sum(getattr(outcome, count) for outcome in valid) for count in _COUNTS if count not in unrecorded}
    replies = totals.get("steps", 0)
    effect = effect_of_arms(name, "pass_rate", ours, theirs)
    return ConfigSummary(
        config=name,
        n=n,
        solved=solved,
        errors=len(group) - n,
        pass_rate=solved / n if n else None,
        wilson=wilson(solved, n) if n else None,
        clopper_pearson=clopper_pearson(solved, n) if n else None,
        mean_steps=_share(totals.get("steps"), n),
        parse_fail_per_run=_share(totals.get("parse_fail"), n),
        repaired_per_run=_share(totals.get("repaired"), n),
        no_cmd_per_run=_share(totals.get("no_cmd"), n),
        replies=replies,
        parse_fail_per_reply=_share(totals.get("parse_fail"), replies),
        repaired_per_reply=_share(totals.get("repaired"), replies),
        no_cmd_per_reply=_share(totals.get("no_cmd"), replies),
        end_reasons={}
        if "end_reason" in unrecorded
        else dict(Counter(outcome.end_reason for outcome in valid).most_common()),
        fisher=fisher_exact(*_pooled(strata)) if strata else None,
        sign_flip=_sign_flip(strata) if strata else None,
        mcnemar=_mcnemar(valid, other) if valid and other else None,
        cmh=cmh(strata) if strata else None,
        effect=effect,
        secondary=_secondary(name, ours, theirs, unrecorded) if effect is not None else (),
        mediation=None if {"parse_fail", "no_cmd"} & set(unrecorded) else decompose(ours, theirs),
        format_change=None,
        sensitivity=sensitivity(name, group, base, strict="repaired" not in unrecorded) if base else (),
        verdict=None,
    )


def valid_trials(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """The outcomes that are not errors."""
    return [outcome for outcome in outcomes if outcome.outcome != "error"]


def _solved(outcomes: Sequence[Outcome]) -> int:
    return sum(outcome.outcome == "solved" for outcome in outcomes)


def _share(count: float | None, of: int) -> float | None:
    return None if count is None or not of else count / of


def counts_by_task(arm: Arm) -> dict[str, tuple[int, int]]:
    """Task → (solved trials, valid trials); errors must have been left out."""
    return {task: (_solved(its), len(its)) for task, its in arm.items()}


def _strata(ours: Arm, theirs: Arm) -> list[Stratum]:
    """The tasks that both sides have valid trials of."""
    return [
        Stratum(_solved(its), len(its), _solved(base), len(base))
        for task, its in ours.items()
        if (base := theirs.get(task))
    ]


def _pooled(strata: Sequence[Stratum]) -> tuple[int, int, int, int]:
    """Solved and valid trials, then the baseline's, over the tasks that both have valid trials of."""
    solved, n, base_solved, base_n = zip(*((s.solved, s.n, s.base_solved, s.base_n) for s in strata), strict=True)
    return sum(solved), sum(n), sum(base_solved), sum(base_n)


def _sign_flip(strata: Sequence[Stratum]) -> SignFlipResult:
    return sign_flip([Fraction(s.solved, s.n) - Fraction(s.base_solved, s.base_n) for s in strata])


def _mcnemar(valid: Sequence[Outcome], base: Sequence[Outcome]) -> McNemarResult | None:
    """Over the (task, attempt) pairs of which both sides are valid."""
    theirs = {(outcome.task, outcome.attempt): outcome.outcome for outcome in base}
    pairs = Counter(
        (outcome.outcome == "solved") - (theirs[outcome.task, outcome.attempt] == "solved")
        for outcome in valid
        if (outcome.task, outcome.attempt) in theirs
    )
    return mcnemar_exact(pairs[1], pairs[-1], pairs[0]) if pairs else None


def _secondary(name: str, ours: Arm, theirs: Arm, unrecorded: Collection[str]) -> tuple[Effect, ...]:
    metrics = (metric for metric in SECONDARY if metric not in unrecorded)
    effects = (effect_of_arms(name, metric, ours, theirs) for metric in metrics)
    return tuple(effect for effect in effects if effect is not None)
