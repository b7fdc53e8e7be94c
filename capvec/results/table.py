"""The trials of a run as a table, for `master_summary.csv` and for a reader's own analysis."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capvec.plan.plan import Plan
from capvec.records import Outcome
from capvec.results.run_folder import read_run_folder
from capvec.tasks.splits import family_of, split_of

if TYPE_CHECKING:
    import pandas as pd


NAMED_REWARD = "reward."
"""What the columns of named rewards begin with."""


def read_run(path: str | Path) -> pd.DataFrame:
    """Read the trials of a run, finished or not, as a pandas DataFrame.

    Args:
        path: a run folder, such as `reports/latest`.

    Returns:
        One row per trial on record, in the plan's order. The columns are the fields of `trials.jsonl`
        (`capvec.records.Outcome` documents them: `trial`, `task`, `config`, `outcome`, `reward`, `steps`, …), with
        `layer` as text, and the `family` and the `split` of the task. Where verifiers wrote several rewards there is a
        column for each, `reward.NAME`, which is empty for a trial without it. `outcome` is `solved`, `unsolved` or
        `error`; an error says nothing about the model, so leave these rows out of every rate.

    Raises:
        UsageError: there is no run, or none of its trials is on record.

    Example:
        >>> trials = read_run("reports/example")
        >>> valid = trials[trials["outcome"] != "error"]
        >>> rates = valid["outcome"].eq("solved").groupby(valid["config"]).mean()
    """
    run = read_run_folder(Path(path))
    return trial_table(run.plan, run.outcomes)


def trial_table(plan: Plan, outcomes: Sequence[Outcome], fields: Collection[str] | None = None) -> pd.DataFrame:
    """The table that `read_run` returns, of outcomes of a plan.

    Args:
        plan: of the run.
        outcomes: the rows.
        fields: those of `Outcome` that the table is to have besides `layer`; all where it is None.
    """
    import pandas as pd  # noqa: PLC0415 (slow to import, and whoever imports this module need not need it)

    # Column by column: 100,000 rows as dictionaries take several hundred MB.
    names = [name for name in Outcome.__dataclass_fields__ if fields is None or name in fields]
    table = pd.DataFrame({name: _column(outcomes, name) for name in names})
    # As text: a baseline has no layer, and `22` beside `20+22` must not become a number.
    table["layer"] = [None if outcome.layer is None else str(outcome.layer) for outcome in outcomes]
    tasks = {task.name: task for task in plan.tasks}
    return table.assign(
        tries=[outcome.tries for outcome in outcomes],
        family=[family_of(tasks[outcome.task]) for outcome in outcomes],
        split=[split_of(tasks[outcome.task]) for outcome in outcomes],
        **{
            f"{NAMED_REWARD}{name}": [outcome.rewards.get(name) for outcome in outcomes]
            for name in named_rewards(outcomes)
        },
    )


def _column(outcomes: Sequence[Outcome], name: str) -> list[Any]:
    """A field of all outcomes, each as `Outcome.to_json` gives it."""
    values = list(map(attrgetter(name), outcomes))
    if name == "rewards":
        return list(map(dict, values))
    return [[record.to_json() for record in value] for value in values] if name in ("measured", "lost") else values


def named_rewards(outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    """The names of all rewards, where a verifier wrote several; none elsewhere, as `reward` says it all."""
    if all(len(outcome.rewards) < 2 for outcome in outcomes):
        return ()
    return tuple(dict.fromkeys(name for outcome in outcomes for name in outcome.rewards))
