"""`BASELINE.md` of a collection: what a model does without a direction, by split and task family."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from capvec.plan.plan import Plan
from capvec.records import Outcome
from capvec.report.markdown import markdown
from capvec.report.method import solved_otherwise
from capvec.report.section import Code, Paragraph, Report, Row, Section, Strong, Table, left, right
from capvec.report.task_families import solved_of
from capvec.stats.intervals import wilson
from capvec.tasks.splits import groups
from capvec.text import counted, interval, number

BASELINE = "BASELINE.md"


def write_baseline(plan: Plan, outcomes: Sequence[Outcome]) -> None:
    """Write `BASELINE.md` into the folder of a collection."""
    (plan.folder / BASELINE).write_text(markdown(baseline_report(plan, outcomes)), encoding="utf-8")


def baseline_report(plan: Plan, outcomes: Sequence[Outcome]) -> Report:
    """What the model does without a direction: the rates of all tasks, of each split and of each task family."""
    settings, attempts = plan.settings, max(trial.attempt for trial in plan.trials)
    done = (
        "Model ",
        Code(settings.model),
        f" on {counted(len(plan.tasks), 'task')}, {counted(attempts, 'attempt')} each, temperature "
        f"{settings.temperature:g}, at most {settings.max_steps} replies of {settings.max_tokens} tokens, protocol ",
        Code(settings.protocol),
        ".",
        *solved_otherwise(settings),
    )
    columns = (
        *left("split", "task family"),
        *right("solved", "rate", "95 % Wilson", "errors", "steps", "parse_fail", "no_cmd"),
    )
    note = Paragraph("parse_fail and no_cmd are shares of replies. Errors are excluded from rates.")
    rates = Section("rates", "Rates", (Table(columns, tuple(_rows(plan, outcomes))), note))
    solved = solved_of(outcomes)
    found = (Paragraph(line) for line in plan.template.in_words(settings.thinking))
    method = Section("method", "Method", (Paragraph(done), *found))
    return Report(f"{settings.model} without a direction", f"{solved} trials solved.", (method, rates))


def _rows(plan: Plan, outcomes: Sequence[Outcome]) -> Iterator[Row]:
    yield (Strong("all"), "all", *_rates(outcomes))
    for split, family, tasks in groups(plan.tasks):
        found = [outcome for outcome in outcomes if outcome.task in tasks]
        yield (split if family else Strong(split), family or "all", *_rates(found))


def _rates(outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    valid = [outcome for outcome in outcomes if outcome.outcome != "error"]
    solved, replies = sum(one.outcome == "solved" for one in valid), sum(one.steps for one in valid)
    return (
        solved_of(outcomes),
        number(solved / len(valid) if valid else None),
        interval(wilson(solved, len(valid)) if valid else None),
        str(len(outcomes) - len(valid)),
        number(replies / len(valid) if valid else None, 1),
        number(sum(one.parse_fail for one in valid) / replies if replies else None, 3),
        number(sum(one.no_cmd for one in valid) / replies if replies else None, 3),
    )
