"""`BASELINE.md` of a collection: what a model does without a direction, by split and task family."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from capvec.decimals import exact_mean
from capvec.plan.plan import Plan
from capvec.records import Outcome
from capvec.report.markdown import markdown
from capvec.report.method import conditions, solved_otherwise
from capvec.report.rewards import reward
from capvec.report.section import Code, Paragraph, Report, Row, Section, Strong, Table, left, right
from capvec.report.task_families import solved_of
from capvec.stats.intervals import wilson
from capvec.stats.rewards import are_partial, valid_rewards
from capvec.storage import write_text
from capvec.tasks.splits import groups
from capvec.text import counted, interval, number

BASELINE = "BASELINE.md"


def write_baseline(plan: Plan, outcomes: Sequence[Outcome]) -> None:
    """Write `BASELINE.md` into the folder of a collection."""
    write_text(plan.folder / BASELINE, markdown(baseline_report(plan, outcomes)))


def baseline_report(plan: Plan, outcomes: Sequence[Outcome]) -> Report:
    """What the model does without a direction: the rates of all tasks, of each split and of each task family."""
    settings, attempts = plan.settings, max(trial.attempt for trial in plan.trials)
    done = (
        "Model ",
        Code(settings.model),
        f" on {counted(len(plan.tasks), 'task')}, {counted(attempts, 'attempt')} each, "
        f"{settings.sampling}, at most {settings.max_steps} replies of {settings.max_tokens} tokens, protocol ",
        Code(settings.protocol),
        ".",
        *solved_otherwise(settings),
        *_partly(plan, outcomes),
    )
    measures = ("solved", "rate", "95 % Wilson", "errors", "steps", "parse_fail", "no_cmd")
    columns = (*left("split", "task family"), *right(*measures, *(["mean reward"] if are_partial(outcomes) else [])))
    note = Paragraph("parse_fail and no_cmd are shares of replies. Errors are excluded from rates.")
    rates = Section("rates", "Rates", (Table(columns, tuple(_rows(plan, outcomes))), note))
    solved = solved_of(outcomes)
    method = Section("method", "Method", (Paragraph(done), *conditions(plan)))
    return Report(f"{settings.model} without a direction", f"{solved} trials solved.", (method, rates))


def _partly(plan: Plan, outcomes: Sequence[Outcome]) -> Iterator[str]:
    if len(outcomes) < len(plan.trials):
        yield f" The collection was stopped: {len(outcomes)} of {counted(len(plan.trials), 'trial')} are on record."


def _rows(plan: Plan, outcomes: Sequence[Outcome]) -> Iterator[Row]:
    partial = are_partial(outcomes)
    yield (Strong("all"), "all", *_rates(outcomes), *_mean_reward(outcomes, partial=partial))
    for split, family, tasks in groups(plan.tasks):
        found = [outcome for outcome in outcomes if outcome.task in tasks]
        name = split if family else Strong(split)
        yield (name, family or "all", *_rates(found), *_mean_reward(found, partial=partial))


def _mean_reward(outcomes: Sequence[Outcome], *, partial: bool) -> tuple[str, ...]:
    """One cell where rewards of the collection are neither 0 nor 1, and none elsewhere."""
    rewards = valid_rewards(outcomes)
    return (reward(float(exact_mean(rewards)) if rewards else None),) if partial else ()


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
