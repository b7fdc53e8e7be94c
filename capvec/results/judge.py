"""A verdict on each config from outcomes that were made elsewhere, or in a notebook."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from capvec.errors import UsageError
from capvec.harnesses import Reading, Source, read_source, source_of_frame
from capvec.harnesses.source import Trial, with_attempts
from capvec.plan.configs import control_of
from capvec.plan.plan import Plan, Settings
from capvec.records import Config, Outcome, TrialSpec
from capvec.results.departures import compare_results
from capvec.results.direction import DirectionSummary
from capvec.results.gates import check_gate, check_names
from capvec.results.ledger import reconcile
from capvec.results.origin import Asked, Errors, Judged, Origin, Seeds, SourceLine
from capvec.results.provenance import RESULTS
from capvec.results.results import Judgement, Results
from capvec.stats.assumed import EQUIVALENCE_MARGIN
from capvec.stats.summary import summarise
from capvec.stats.verdict import Verdict
from capvec.task_records import Task
from capvec.text import enumerated

if TYPE_CHECKING:
    import pandas as pd

_NEVER = ("layer", "alpha", "end_reason", "prompt_tokens", "completion_tokens", "model_s", "sandbox_s", "wall_s")
"""Fields of an outcome that no importer reads."""
_COUNTED = ("steps", "parse_fail", "no_cmd", "repaired", "seed")
"""Those that some results have."""


def judge(
    outcomes: Iterable[Outcome] | pd.DataFrame | str | PathLike[str],
    baseline: str | None = None,
    *,
    controls: Collection[str] | None = None,
    columns: Mapping[str, str] | None = None,
    equivalence_margin: float = EQUIVALENCE_MARGIN,
) -> dict[str, Verdict | None]:
    """Compare every config with the baseline and name the effect on its pass rate.

    The task is the unit: the p-value is of the sign-flip test over tasks, the interval is clustered by task. p-values
    are corrected after Holm over all configs that are neither the baseline nor controls. `capvec.stats.verdict` states
    the rule, with references. The order of the outcomes does not matter. `capvec judge` does the same with files and
    writes a report.

    Args:
        outcomes: one for each trial, of the baseline and of every config. Either outcomes as `trial_outcome` makes
            them, or a DataFrame with a row for each trial: `task`, `config`, `outcome` or `reward`, and where they are
            known `attempt`, `steps`, `parse_fail`, `no_cmd`, `repaired`, `seed` and `error`; or the path of a file or
            folder that `capvec judge` reads. Trials with the outcome "error" are excluded.
        baseline: the name of the config that the others are compared with; None for `baseline`.
        controls: names of configs that get a verdict by the same rule, with their p-value uncorrected. None: the
            configs with the names that capvec gives to controls, such as `random1-L22-a4` beside `steered-L22-a4`.
        columns: field → the name of its column, for a table whose columns have other names.
        equivalence_margin: the smallest difference in pass rate that would matter, between 0 and 1.

    Returns:
        Config → its verdict, in the order in which the configs first appear; None for a config that has no valid trial
        on a task that the baseline has one on.

    Raises:
        UsageError: no outcome of the baseline, or a control without outcomes; a table without a column that is
            needed, or with a cell that is not what its column should hold; a path with nothing that is known;
            something else than outcomes; or a margin out of its range.

    Examples:
        A config that solves 17 of 24 tasks, where the baseline solves 5 of them:

        >>> from capvec import judge, trial_outcome
        >>> outcomes = [trial_outcome(f"task{i}", "baseline", i < 5) for i in range(24)]
        >>> outcomes += [trial_outcome(f"task{i}", "steered", i < 17) for i in range(24)]
        >>> verdict = judge(outcomes)["steered"]
        >>> verdict.name
        'improves'
        >>> print(f"p = {verdict.pvalue:.5f}")
        p = 0.00049
    """
    if not 0 < equivalence_margin < 1:
        raise UsageError(f"an equivalence margin of {equivalence_margin}; expected a number between 0 and 1")
    asked = Asked(baseline, None if controls is None else tuple(controls), reading=Reading(columns or {}))
    trials = _given(outcomes, asked.reading)
    configs = _configs(trials.outcomes, asked)[0]
    summary = summarise(
        trials.outcomes,
        [config.name for config in configs],
        configs[0].name,
        comparisons=[config.name for config in configs if config.kind == "steered"],
        equivalence_margin=equivalence_margin,
        unrecorded=trials.unrecorded,
    )
    rows = {row.config: row.verdict for row in summary.configs}
    return {
        name: rows[name] for name in dict.fromkeys(one.config for one in trials.outcomes) if name != configs[0].name
    }


def judge_sources(judged: Judged, folder: Path) -> Results:
    """The results of outcomes that were made elsewhere, for the report, the gates and the exit code.

    Args:
        judged: what was read, and what the user says about it.
        folder: of the report.

    Raises:
        UsageError: no baseline can be told, a config or a column is missing, one trial is there twice, or a gate names
            what is not known.
    """
    asked, named = judged.asked, _combined(judged.sources)
    trials = _outcomes(named)
    configs, guessed = _configs(trials.outcomes, asked)
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
            reading={"reward": asked.reading.reward, "solved_at": asked.reading.solved_at},
        ),
    )


# ------------------------------------------------------------------------------------------------ trials


def _given(outcomes: Iterable[Outcome] | pd.DataFrame | str | PathLike[str], reading: Reading) -> _Trials:
    """The trials of whatever `judge` was given."""
    if isinstance(outcomes, str | PathLike):
        return _outcomes(_combined([(None, read_source(Path(outcomes), reading))]))
    if "pandas" in sys.modules and isinstance(outcomes, sys.modules["pandas"].DataFrame):
        return _outcomes(_combined([(None, source_of_frame(outcomes, reading))]))
    listed = tuple(outcomes) if isinstance(outcomes, Iterable) else (outcomes,)
    if other := [one for one in listed if not isinstance(one, Outcome)]:
        raise UsageError(
            f"an outcome of type {type(other[0]).__name__}; expected what capvec.trial_outcome makes, a DataFrame with "
            "a row for each trial, or a path"
        )
    return _Trials(listed, ())


@dataclass(frozen=True)
class _Trials:
    """The outcomes, and the fields of them that are not on record."""

    outcomes: tuple[Outcome, ...]
    unrecorded: tuple[str, ...]


def _combined(sources: Sequence[tuple[str | None, Source]]) -> list[tuple[tuple[Trial, ...], Source]]:
    """The trials of every source under the names of their configs, with attempts that count on over the sources."""
    called = [source if name is None else source.called(name) for name, source in sources]
    for source in called:
        if "" in source.configs:
            raise UsageError(
                f"{source.name}: its trials do not say of which config they are; name it, as in "
                f"baseline={source.name}, or name the column, as in --columns config=NAME"
            )
    together = with_attempts((trial for source in called for trial in source.trials), _names(called))
    found, start = [], 0
    for source in called:
        found.append((together[start : start + len(source.trials)], source))
        start += len(source.trials)
    return found


def _names(sources: Sequence[Source]) -> str:
    return ", ".join(source.name for source in sources)


def _outcomes(found: Sequence[tuple[Sequence[Trial], Source]]) -> _Trials:
    trials = [(trial, source) for own, source in found for trial in own]
    valid = [trial for trial, _ in trials if trial.outcome != "error"] or [trial for trial, _ in trials]
    unrecorded = tuple(name for name in _COUNTED if any(getattr(trial, name) is None for trial in valid))
    return _Trials(tuple(_outcome(trial, source.name) for trial, source in trials), (*unrecorded, *_NEVER))


def _outcome(trial: Trial, run: str) -> Outcome:
    return Outcome(
        run=run,
        task=trial.task,
        config=trial.config,
        layer=None,
        alpha=None,
        attempt=trial.attempt or 1,
        seed=trial.seed or 0,
        outcome=trial.outcome,
        reward=trial.reward,
        steps=trial.steps or 0,
        parse_fail=trial.parse_fail or 0,
        repaired=trial.repaired or 0,
        no_cmd=trial.no_cmd or 0,
        end_reason="error" if trial.outcome == "error" else "done",
        error=trial.error,
    )


# ------------------------------------------------------------------------------------------------ configs


def _configs(outcomes: Sequence[Outcome], asked: Asked) -> tuple[tuple[Config, ...], tuple[str, ...]]:
    """The baseline, then the others in their order; and those that were taken for controls by their names."""
    names = list(dict.fromkeys(outcome.config for outcome in outcomes))
    baseline = baseline_among(names, asked.baseline)
    others = [name for name in names if name != baseline]
    guessed = {name for name in others if control_of(name, others) is not None} if asked.controls is None else set()
    controls = guessed if asked.controls is None else set(asked.controls)
    if missing := controls - set(others):
        raise UsageError(f"no outcome of {', '.join(sorted(missing))}; the outcomes are of {enumerated(names)}")
    compared = [name for name in others if name not in controls]
    return (
        Config(baseline, "baseline"),
        *(
            Config(name, "control", control=control_of(name, compared)) if name in controls else Config(name, "steered")
            for name in others
        ),
    ), tuple(name for name in others if name in guessed)


def baseline_among(names: Sequence[str], asked: str | None) -> str:
    """The name of the config that the others are compared with: the one that was asked for, or `baseline`.

    Raises:
        UsageError: there is no such config.
    """
    if not names:
        raise UsageError(f"no outcome of {asked or Config.BASELINE}; no outcomes were given")
    if asked is not None:
        if asked not in names:
            raise UsageError(f"no outcome of {asked}; the outcomes are of {enumerated(names)}")
        return asked
    if Config.BASELINE in names:
        return Config.BASELINE
    raise UsageError(
        f"no outcome of {Config.BASELINE}; the outcomes are of {enumerated(names)}: say with which of them the others "
        "are compared, as in --baseline NAME"
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
        settings=Settings("", "", "", 0, 0, 0.0, reward=asked.reading.reward, solved_at=asked.reading.solved_at),
        study=RESULTS,
        effect=asked.effect,
    )


# ------------------------------------------------------------------------------------------------ what is known


def _origin(judged: Judged, sources: Sequence[Source], trials: _Trials, guessed: tuple[str, ...]) -> Origin:
    asked = judged.asked
    seeds, errors = _seeds(trials, asked.seeds), _errors(sources, asked.errors)
    shown = {"seeds": _seeds(trials, None), "errors": _errors(sources, None)}
    stated = tuple(name for name, value in (("seeds", seeds), ("errors", errors)) if value != shown[name])
    lines = tuple(
        SourceLine(source.name, source.tool, source.configs, len(source.trials), source.notes) for source in sources
    )
    return Origin(lines, seeds, errors, stated, judged.served, guessed)


def _seeds(trials: _Trials, stated: Seeds | None) -> Seeds | None:
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


def trial_outcome(
    task: str,
    config: str,
    solved: bool | None,
    attempt: int = 1,
    *,
    steps: int = 0,
    parse_fail: int = 0,
    no_cmd: int = 0,
) -> Outcome:
    """The outcome of one trial, without what only capvec's own runs record.

    Args:
        task: the name of the task.
        config: the name of the config, such as "baseline".
        solved: whether the trial solved the task; None where the trial failed for reasons that are not the model's.
        attempt: counts the trials of one task under one config, from 1.
        steps: replies of the model.
        parse_fail: replies that could not be parsed.
        no_cmd: replies that parse, are not "done" and carry no command.
    """
    status = "error" if solved is None else "solved" if solved else "unsolved"
    return Outcome(
        run="",
        task=task,
        config=config,
        layer=None,
        alpha=None,
        attempt=attempt,
        seed=0,
        outcome=status,  # type: ignore[arg-type]
        steps=steps,
        parse_fail=parse_fail,
        no_cmd=no_cmd,
        end_reason="error" if solved is None else "done",
    )
