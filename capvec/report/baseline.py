"""`BASELINE.md` of a collection: what a model does without a direction, family by family."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from capvec.plan.plan import Plan
from capvec.records import Outcome
from capvec.report.table import markdown_table
from capvec.stats.intervals import wilson
from capvec.tasks.splits import groups
from capvec.text import interval, number

BASELINE = "BASELINE.md"


def write_baseline(plan: Plan, outcomes: Sequence[Outcome]) -> None:
    """Write `BASELINE.md` into the folder of a collection."""
    text = "\n".join(baseline_md(plan, outcomes)) + "\n"
    (plan.folder / BASELINE).write_text(text, encoding="utf-8")


def baseline_md(plan: Plan, outcomes: Sequence[Outcome]) -> Iterator[str]:
    """What the unsteered model does, by split and family: the lines of a collection's `BASELINE.md`."""
    attempts = max(trial.attempt for trial in plan.trials)
    yield f"# `{plan.settings.model}` without a direction\n"
    yield (
        f"{len(plan.tasks)} tasks, {attempts} attempt{'s' if attempts > 1 else ''} each, temperature "
        f"{plan.settings.temperature:g}, at most {plan.settings.max_steps} replies of {plan.settings.max_tokens} "
        f"tokens, protocol {plan.settings.protocol}. parse_fail and no_cmd are shares of replies.\n"
    )
    everything = ("**all**", "all", {task.name for task in plan.tasks})
    head = ("split", "family", "solved", "rate", "95 % Wilson", "errors", "steps", "parse_fail", "no_cmd")
    rows = [(*names, *_baseline_cells(outcomes, tasks)) for *names, tasks in (everything, *groups(plan.tasks))]
    yield from markdown_table([head, *rows])


def _baseline_cells(outcomes: Sequence[Outcome], tasks: set[str]) -> tuple[str, ...]:
    ours = [outcome for outcome in outcomes if outcome.task in tasks]
    valid = [outcome for outcome in ours if outcome.outcome != "error"]
    solved, replies = sum(o.outcome == "solved" for o in valid), sum(o.steps for o in valid)
    return (
        f"{solved}/{len(valid)}",
        number(solved / len(valid) if valid else None),
        interval(wilson(solved, len(valid)) if valid else None),
        str(len(ours) - len(valid)),
        number(replies / len(valid) if valid else None, 1),
        number(sum(o.parse_fail for o in valid) / replies if replies else None, 3),
        number(sum(o.no_cmd for o in valid) / replies if replies else None, 3),
    )
