"""A run's `Results`, made from its plan and outcomes."""

from __future__ import annotations

from capvec.results.direction import DirectionSummary
from capvec.results.ledger import reconcile
from capvec.results.results import Judgement, Results, summarise_run


def results_of(plan, outcomes, *, direction=None, gates=(), completeness=None, summary=None, judgement=None):
    """What is not given: no direction, no gate, every planned trial collected, and the summary of the outcomes."""
    outcomes = tuple(outcomes)
    trials = [trial.id for trial in plan.trials]
    return Results(
        plan=plan,
        outcomes=outcomes,
        summary=summarise_run(plan, outcomes) if summary is None else summary,
        direction=direction or DirectionSummary("", ""),
        judgement=judgement or Judgement(),
        gates=tuple(gates),
        completeness=completeness or reconcile(trials, outcomes, trials),
    )
