"""A verdict on each config from outcomes alone: for notebooks, and for results that another harness produced."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from capvec.errors import UsageError
from capvec.records import Config, Outcome
from capvec.stats.assumed import EQUIVALENCE_MARGIN
from capvec.stats.summary import summarise
from capvec.stats.verdict import Verdict


def judge(
    outcomes: Iterable[Outcome],
    baseline: str = Config.BASELINE,
    *,
    controls: Collection[str] = (),
    equivalence_margin: float = EQUIVALENCE_MARGIN,
) -> dict[str, Verdict | None]:
    """Compare every config with the baseline and name the effect on its pass rate.

    The task is the unit: the p-value is of the sign-flip test over tasks, the interval is clustered by task. p-values
    are corrected after Holm over all configs that are neither the baseline nor controls. `capvec.stats.verdict` states
    the rule, with references. The order of the outcomes does not matter.

    Args:
        outcomes: one for each trial, of the baseline and of every config; `trial_outcome` makes them. Those with
            the outcome "error" are excluded.
        baseline: the name of the config that the others are compared with.
        controls: names of configs that get a verdict by the same rule, with their p-value uncorrected.
        equivalence_margin: the smallest difference in pass rate that would matter, between 0 and 1.

    Returns:
        Config → its verdict, in the order in which the configs first appear; None for a config that has no valid trial
        on a task that the baseline has one on.

    Raises:
        UsageError: no outcome of the baseline, or a control without outcomes.

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
    trials = list(outcomes)
    names = list(dict.fromkeys(outcome.config for outcome in trials))
    if missing := {baseline, *controls} - set(names):
        given = f"the outcomes are of {', '.join(names)}" if names else "no outcomes were given"
        raise UsageError(f"no outcome of {', '.join(sorted(missing))}; {given}")
    compared = [name for name in names if name != baseline and name not in controls]
    summary = summarise(trials, names, baseline, comparisons=compared, equivalence_margin=equivalence_margin)
    return {row.config: row.verdict for row in summary.configs if row.config != baseline}


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
