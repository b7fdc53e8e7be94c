"""The results of outcomes that were made elsewhere: their plan, their summary, and what is known of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from pathlib import Path

from capvec.errors import UsageError
from capvec.harnesses import Source
from capvec.harnesses.source import Trial
from capvec.plan.plan import Plan, Settings
from capvec.records import Config, Outcome, TrialSpec
from capvec.results.departures import compare_results
from capvec.results.direction import DirectionSummary
from capvec.results.gates import check_gate, check_names
from capvec.results.judged_trials import Trials, combined, configs_of, outcomes_of
from capvec.results.ledger import reconcile
from capvec.results.origin import Errors, Judged, Origin, Seeds, SourceLine
from capvec.results.provenance import RESULTS
from capvec.results.results import Judgement, Results
from capvec.stats.assumed import EQUIVALENCE_MARGIN
from capvec.stats.summary import summarise
from capvec.task_records import Task


def judge_sources(judged: Judged, folder: Path) -> Results:
    """The results of outcomes that were made elsewhere, for the report, the gates and the exit code.

    Args:
        judged: what was read, and what the user says about it.
        folder: of the report.

    Raises:
        UsageError: no baseline can be told, a config or a column is missing, one trial is there twice, or a gate names
            what is not known.
    """
    asked, named = judged.asked, combined(judged.sources)
    trials = outcomes_of(named)
    configs, guessed = configs_of(trials.outcomes, asked)
    plan = _plan(folder, judged, configs, named, trials.outcomes)
    if asked.gate is not None:
        check_names(asked.gate, configs)
        _check_known(asked.gate, trials.unrecorded)
    summary = summarise(
        trials.outcomes,
        [config.name for config in configs],
        configs[0].name,
        comparisons=plan.steered,
        equivalence_margin=EQUIVALENCE_MARGIN if asked.effect is None else asked.effect,
        unrecorded=trials.unrecorded,
    )
    ids = [outcome.id for outcome in trials.outcomes]
    return Results(
        plan=plan,
        outcomes=trials.outcomes,
        summary=summary,
        direction=DirectionSummary(hash="", description="", caveats=(), ranking=None, contrast=None, audit=None),
        judgement=Judgement(),
        gates=check_gate(asked.gate, summary, len(plan.tasks)),
        completeness=reconcile(ids, trials.outcomes, ids),
        origin=_origin(judged, [source for _, source in named], trials, guessed),
        comparison=None
        if judged.registered is None
        else compare_results(
            judged.registered,
            plan,
            asked.gate,
            datetime.fromisoformat(judged.written),
            reading={"reward": asked.reading.reward, "solved_at": asked.reading.threshold},
        ),
    )


def _plan(
    folder: Path,
    judged: Judged,
    configs: Sequence[Config],
    found: Sequence[tuple[Sequence[Trial], Source]],
    outcomes: Sequence[Outcome],
) -> Plan:
    """The trials as a plan. How the agent acted is not known, and no section of the report says it."""
    asked = judged.asked
    known: dict[str, dict[str, str]] = {}
    for trial in (trial for trials, _ in found for trial in trials):
        about = known.setdefault(trial.task, {})
        about.update({name: value for name in ("family", "split") if (value := getattr(trial, name))})
    return Plan(
        run=judged.run,
        folder=folder,
        tasks=tuple(Task(name, Path(name), "", "", metadata=about) for name, about in known.items()),
        configs=tuple(configs),
        trials=tuple(TrialSpec(one.task, one.config, one.attempt, one.seed) for one in outcomes),
        settings=Settings("", "", "", 0, 0, 0.0, reward=asked.reading.reward, solved_at=asked.reading.threshold),
        study=RESULTS,
        effect=asked.effect,
    )


# ------------------------------------------------------------------------------------------------ what is known


def _origin(judged: Judged, sources: Sequence[Source], trials: Trials, guessed: tuple[str, ...]) -> Origin:
    asked = judged.asked
    seeds, errors = _seeds(trials, asked.seeds), _errors(sources, asked.errors)
    shown = {"seeds": _seeds(trials, None), "errors": _errors(sources, None)}
    stated = tuple(name for name, value in (("seeds", seeds), ("errors", errors)) if value != shown[name])
    lines = tuple(
        SourceLine(source.name, source.tool, source.configs, len(source.trials), source.notes) for source in sources
    )
    return Origin(lines, seeds, errors, stated, judged.served, guessed)


def _seeds(trials: Trials, stated: Seeds | None) -> Seeds | None:
    """As the seeds on record show it, and else as the user says.

    Raises:
        UsageError: the user says what the record contradicts.
    """
    if "seed" in trials.unrecorded:
        return stated
    seeds: dict[tuple[str, int], set[int]] = {}
    for outcome in trials.outcomes:
        if outcome.outcome != "error":
            seeds.setdefault((outcome.task, outcome.attempt), set()).add(outcome.seed)
    differing = next((key for key, found in seeds.items() if len(found) > 1), None)
    if differing is not None and stated == "shared":
        raise UsageError(f"--seeds shared: the seeds on record differ at attempt {differing[1]} of {differing[0]}")
    return "shared" if differing is None else "separate"


def _errors(sources: Sequence[Source], stated: Errors | None) -> Errors | None:
    return "apart" if all(source.errors_apart for source in sources) else stated


def _check_known(gate: str, unrecorded: Collection[str]) -> None:
    """Refuse a gate on a count that is not on record."""
    for name in ("parse_fail", "no_cmd", "steps"):
        if name in unrecorded and name in gate:
            raise UsageError(
                f"--gate {gate!r}: {name} is not on record for every valid trial; leave the condition out, or name its "
                f"column, as in --columns {name}=NAME"
            )
