"""The results of a run: one value, from which reports, gates and the exit code are made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from capvec.plan.plan import Plan
from capvec.records import Outcome
from capvec.results.battery import BatteryResult
from capvec.results.departures import Comparison
from capvec.results.direction import DirectionSummary
from capvec.results.gates import GateResult
from capvec.results.interim import equivalence_margin_of, interim_analyses
from capvec.results.ledger import Completeness
from capvec.results.origin import Origin
from capvec.stats.config_summary import ConfigSummary
from capvec.stats.matched_controls import MatchedComparison, compare_with_matched_controls
from capvec.stats.summary import Summary, summarise


@dataclass(frozen=True)
class Judgement:
    """What a study concludes from its outcomes, in addition to the summary. Studies extend it."""

    gates: tuple[GateResult, ...] = ()
    """The study's own gates. The exit code is 0 only if each is met."""


@dataclass(frozen=True)
class Results:
    """Everything that is known about a run, finished or interrupted."""

    plan: Plan
    outcomes: tuple[Outcome, ...]
    """All on record, errors included, in the plan's order."""
    summary: Summary
    """The statistics of every config, interim analyses among them."""
    direction: DirectionSummary
    """Of results that were made elsewhere nothing is known of it: no hash, no description."""
    judgement: Judgement
    gates: tuple[GateResult, ...]
    """The study's own, then those of `--gate`, judged on the trials on record; a shard has the study's own alone."""
    completeness: Completeness
    battery: BatteryResult | None = None
    """What its questions found; None without `--battery`."""
    origin: Origin | None = None
    """What is known of results that were made elsewhere; None for those of a run."""
    comparison: Comparison | None = None
    """With the preregistration; None where there is none."""

    @cached_property
    def controls(self) -> tuple[MatchedComparison, ...]:
        """The rank of each steered config among its matched controls."""
        analysed = self.summary.analysed(self.outcomes)
        return compare_with_matched_controls(analysed, self.plan.configs, self.summary.unrecorded)

    @property
    def valid(self) -> bool:
        """Whether the session was not interrupted, and every collected trial and battery item has a valid outcome."""
        faults = any(outcome.outcome == "error" for outcome in self.summary.analysed(self.outcomes))
        unanswered = self.battery is not None and not self.battery.is_whole
        return not (self.completeness.interrupted or self.completeness.missing or faults or unanswered)

    @property
    def good(self) -> bool:
        """Whether the exit code is 0."""
        return self.valid and all(gate.met for gate in self.gates)


def summarise_run(plan: Plan, outcomes: Sequence[Outcome]) -> Summary:
    """The statistics of every config of the plan; p-values of the steered configs are corrected for each other.

    In a shard no config has a verdict.
    """
    interim = interim_analyses(plan, outcomes) if plan.sequential else None
    names = [config.name for config in plan.configs]
    summary = summarise(
        outcomes, names, comparisons=plan.steered, equivalence_margin=equivalence_margin_of(plan), sequential=interim
    )
    # Of many shards some would be significant by chance, so that none has a verdict of its own.
    return summary if plan.shard is None else replace(summary, configs=tuple(map(_without_verdict, summary.configs)))


def _without_verdict(row: ConfigSummary) -> ConfigSummary:
    return replace(row, verdict=None)
