"""A verdict on each config from outcomes that were made elsewhere, or in a notebook."""

from __future__ import annotations

import math
import os
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from numbers import Real
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capvec.errors import UsageError
from capvec.harnesses import COLUMNS, Reading, Source, check_sources, read_source, source_of_frame
from capvec.records import Outcome
from capvec.results.counts import is_counts
from capvec.results.judged_trials import Trials, combined, configs_of, outcomes_of
from capvec.results.origin import Asked
from capvec.stats.assumed import EQUIVALENCE_MARGIN
from capvec.stats.summary import summarise
from capvec.stats.verdict import Verdict

if TYPE_CHECKING:
    import pandas as pd


def judge(
    outcomes: Iterable[Outcome] | pd.DataFrame | str | PathLike[str],
    baseline: str | None = None,
    *,
    controls: Collection[str] | None = None,
    columns: Mapping[str, str] | None = None,
    reward: str | None = None,
    solved_at: float | None = None,
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
        reward: the reward, score or metric that counts, where a tool recorded several.
        solved_at: the least reward of a trial that is solved. None stands for 1, and rewards must then be from 0 to 1.
        equivalence_margin: the smallest difference in pass rate that would matter, between 0 and 1.

    Returns:
        Config → its verdict, in the order in which the configs first appear; None for a config that has no valid trial
        on a task that the baseline has one on.

    Raises:
        UsageError: no outcome of the baseline, or a control without outcomes; a table without a column that is
            needed, or with a cell that is not what its column should hold; a path with nothing that is known;
            something else than outcomes; an attempt that is there twice; or an argument of another type, out of its
            range, or without effect on what was given.

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
    for name, value, expected, fits in (
        ("baseline", baseline, "the name of a config", isinstance(baseline, str)),
        ("controls", controls, "a list of names of configs", _are_texts(controls)),
        ("columns", columns, f"a name for some of {', '.join(COLUMNS)}", _are_columns(columns)),
        ("reward", reward, "the name of a reward", isinstance(reward, str)),
        ("solved_at", solved_at, "a finite number", _is_number(solved_at)),
        ("equivalence_margin", equivalence_margin, "a number between 0 and 1", _is_share(equivalence_margin)),
    ):
        if value is not None and not fits:
            raise UsageError(f"{name}={value!r:.80}: expected {expected}")
    reading = Reading(columns or {}, reward, None if solved_at is None else float(solved_at))
    asked = Asked(baseline, None if controls is None else tuple(controls), reading=reading)
    trials = _given(outcomes, asked.reading)
    configs = configs_of(trials.outcomes, asked)[0]
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

    Raises:
        UsageError: `solved` is a score and no answer, or more replies are of a kind than there are.
    """
    if solved is not None and solved not in (0, 1):
        raise UsageError(f"solved={solved!r:.80}: expected True, False, or None for a trial that was not judged")
    if parse_fail + no_cmd > steps:
        raise UsageError(f"parse_fail={parse_fail}, no_cmd={no_cmd}: expected no more together than steps={steps}")
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


# ------------------------------------------------------------------------------------------------ what was given


def _are_texts(value: Any) -> bool:
    return isinstance(value, Collection) and not isinstance(value, str) and all(isinstance(one, str) for one in value)


def _are_columns(value: Any) -> bool:
    return isinstance(value, Mapping) and value.keys() <= COLUMNS.keys() and _are_texts(value.values())


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _is_share(value: Any) -> bool:
    return _is_number(value) and 0 < value < 1


def _given(outcomes: Iterable[Outcome] | pd.DataFrame | str | PathLike[str], reading: Reading) -> Trials:
    """The trials of whatever `judge` was given."""
    source = _source(outcomes, reading)
    if source is not None:
        check_sources([source], reading)
        return outcomes_of(combined([(None, source)]))
    for name, value in (
        ("columns", reading.columns or None),
        ("reward", reading.reward),
        ("solved_at", reading.solved_at),
    ):
        if value is not None:
            raise UsageError(
                f"{name}={value!r:.80}: outcomes of trial_outcome say whether they are solved; leave it out"
            )
    listed = tuple(outcomes) if isinstance(outcomes, Iterable) else (outcomes,)
    if other := [one for one in listed if not isinstance(one, Outcome)]:
        raise UsageError(
            f"an outcome of type {type(other[0]).__name__}; expected what capvec.trial_outcome makes, a DataFrame with "
            "a row for each trial, or a path"
        )
    if twice := [trial for trial, count in Counter(outcome.id for outcome in listed).items() if count > 1]:
        raise UsageError(
            f"attempt {twice[0].attempt} of task {twice[0].task} under {twice[0].config} is there twice; expected one "
            "outcome for each attempt: number them, as in trial_outcome(task, config, solved, attempt=2)"
        )
    return Trials(listed, ())


def _source(given: object, reading: Reading) -> Source | None:
    """The trials of a file, a folder or a table; None for anything else."""
    if isinstance(given, str | PathLike):
        if is_counts(os.fspath(given)):
            raise UsageError(
                f"{given}: counts alone have no verdict; expected a row for each trial. `capvec judge {given} …` "
                "compares counts by Fisher's exact test"
            )
        return read_source(Path(given), reading)
    if "pandas" in sys.modules and isinstance(given, sys.modules["pandas"].DataFrame):
        return source_of_frame(given, reading)
    return None
