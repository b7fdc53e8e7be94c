"""`RESULTS.md`: status first, then what was done, the numbers, and what they do not show."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from capvec.directions.ranking import Ranking
from capvec.plan.plan import Plan
from capvec.records import Interval, Measured, Outcome
from capvec.report.contrast import contrast_section
from capvec.report.controls import controls_section
from capvec.report.interim import looks_section
from capvec.report.interpretation import meaning_section
from capvec.report.robustness import behind_section
from capvec.report.table import HEADERS, call_lines, markdown_table, table_row, uncompared_lines, verdict, warnings
from capvec.report.task_families import family_rows
from capvec.results.direction import DirectionSummary
from capvec.results.gates import GateResult
from capvec.results.ledger import Completeness
from capvec.results.results import Results
from capvec.stats.summary import Summary
from capvec.steering import Op
from capvec.tasks.splits import family_of
from capvec.text import code, counted, interval, number, p_value

_QUANTITIES: dict[Op, str] = {"add": "shift", "ablate": "level", "set": "level"}
_MARKS = {"solved": "✓", "unsolved": "·", "error": "E"}


def results_md(results: Results) -> str:
    """The whole document, generated from the numbers alone."""
    plan, outcomes, summary = results.plan, results.outcomes, results.summary
    direction, completeness = results.direction, results.completeness
    sections = (
        _head(plan, outcomes, summary, completeness),
        meaning_section(summary, results.controls, direction, plan.configs, len(plan.tasks)),
        _results(plan, summary),
        looks_section(summary),
        behind_section(summary),
        controls_section(plan.configs, summary, results.controls),
        _families(plan, summary.analysed(outcomes)),
        _matrix(plan, outcomes),
        _direction(plan, direction),
        _contrast(plan, direction),
        _receipts(outcomes),
        _gates(results.gates, completeness),
        _errors(outcomes),
        ["## Caveats\n", *(f"- {caveat}" for caveat in caveats(plan, summary, direction))],
    )
    return "\n".join(line for section in sections for line in section) + "\n"


def _head(plan: Plan, outcomes: Sequence[Outcome], summary: Summary, reconciliation: Completeness) -> Iterator[str]:
    settings = plan.settings
    yield f"# {plan.title}\n"
    status = [" ".join((verdict(summary), *uncompared_lines(summary))), f"{reconciliation}."]
    yield f"**Status:** {' '.join(reversed(status) if reconciliation.interrupted else status)}\n"
    yield from (f"**Warning:** {warning}\n" for warning in warnings(plan, summary))
    if calls := call_lines(summary):
        yield from (f"- {line}" for line in calls)
        yield (
            "\nThe p-values are of the sign-flip test over tasks, after Holm over the family "
            f"{', '.join(summary.comparisons)} (controls are not in it); intervals are 95 %, clustered by task. "
            "The rule is in `capvec/stats/verdict.py`.\n"
        )
    yield "## What was done\n"
    yield (
        f"Model `{settings.model}` drove a shell on {_tasks(plan, outcomes)}, {_attempts(plan)} per task and config, "
        f"under {len(plan.configs)} configs; all configs of one (task, attempt) share a seed. "
        f"Protocol `{settings.protocol}`, at most {settings.max_steps} steps of {settings.max_tokens} tokens, "
        f"temperature {settings.temperature:g}.\n"
    )
    if plan.merged:
        yield f"{' '.join(plan.merged)}\n"


def _tasks(plan: Plan, outcomes: Sequence[Outcome]) -> str:
    """`6 tasks`, or `2 of 6 tasks` where the others were left out."""
    ran = len({outcome.task for outcome in outcomes})
    of = f"{ran} of " if ran < len(plan.tasks) else ""
    return f"{of}{counted(len(plan.tasks), 'task')}"


def _attempts(plan: Plan) -> str:
    """`1 attempt`, or `1 to 3 attempts` where merged shards differ."""
    counts = Counter((trial.task, trial.config) for trial in plan.trials)
    each = [counts[task.name, config.name] for task in plan.tasks for config in plan.configs]
    span = " to ".join(dict.fromkeys(map(str, (min(each), max(each)))))
    return f"{span} attempt{'s' if max(each) > 1 else ''}"


def _results(plan: Plan, summary: Summary) -> Iterator[str]:
    yield "## Results\n"
    yield from markdown_table([HEADERS, *(table_row(row, plan.config(row.config)) for row in summary.configs)])
    yield (
        "\nparse_fail and no_cmd are per run. Errors are excluded from rates. Fisher's exact test, two-sided, on "
        "counts pooled over the tasks that both the config and the baseline have valid trials of, as the field reports "
        "it; what decides is under *What stands behind it*.\n"
    )


def _families(plan: Plan, outcomes: Sequence[Outcome]) -> Iterator[str]:
    if len({family_of(task) for task in plan.tasks}) < 2:
        return
    yield "\n## By family\n"
    yield from markdown_table(list(family_rows(plan, outcomes)))
    yield "\nSolved of valid trials. The bundled agent was trained on other instances of `trained` families only.\n"


def _matrix(plan: Plan, outcomes: Sequence[Outcome]) -> Iterator[str]:
    cells: defaultdict[tuple[str, str], str] = defaultdict(str)
    for outcome in sorted(outcomes, key=lambda outcome: outcome.attempt):
        cells[outcome.task, outcome.config] += _MARKS[outcome.outcome]
    yield "\n## Task by config\n"
    names = [config.name for config in plan.configs]
    rows = [(task.name, *(cells[task.name, name] or "–" for name in names)) for task in plan.tasks]
    yield from markdown_table([("task", *names), *rows])
    yield "\n✓ solved, · unsolved, E error, – not run; one mark per attempt.\n"


def _direction(plan: Plan, direction: DirectionSummary) -> Iterator[str]:
    yield "## The direction\n"
    yield f"{direction.description} Hash `{direction.hash}`.\n"
    if direction.ranking is not None:
        yield from ranking_lines(direction.ranking, _steered_layers(plan))


def ranking_lines(ranking: Ranking, steered: set[int]) -> Iterator[str]:
    """The five best layers and those that were steered; an in-sample AUC only beside its null."""
    layers = [ranking.best.layer, *sorted(steered - {ranking.best.layer})]
    yield from (f"- {ranking.verdict(layer)}." for layer in layers)
    yield ""
    rows = [row for place, row in enumerate(ranking.rows) if place < 5 or row.layer in steered]
    titles = ("layer", "AUC in sample (null 95 %)", "AUC, tasks left out", "95 % interval", "its p")
    yield from markdown_table(
        [
            (*titles, "p of the margin", "corrected", "stability", "margin / ambient norm"),
            *(
                (
                    f"**{row.layer}**" if row.layer in steered else str(row.layer),
                    f"{number(row.auc, 3)} ({number(row.auc_null_p95, 3)})",
                    number(row.cv_auc, 3),
                    interval(None if row.cv_auc_low is None else Interval(row.cv_auc_low, row.cv_auc_high or 0.0)),
                    p_value(row.cv_p_value),
                    p_value(row.p_value),
                    p_value(row.p_corrected),
                    number(row.stability_min, 3),
                    f"{number(row.margin)} / {number(row.ambient_norm)} = {number(row.margin_ratio, 3)}",
                )
                for row in rows
            ),
        ]
    )
    yield (
        f"\nNull: {ranking.null}, all of it repeated each time; corrected over layers by the maximum statistic. "
        f"Tasks: {ranking.folds}. Stability: the least cosine with a refit that leaves out one task. "
        "Margin over ambient norm is the dose of α = 1. Bold: steered here.\n"
    )
    if any(row.reference_cosine is not None for row in rows):
        cosines = ", ".join(f"{number(row.reference_cosine, 3)} at layer {row.layer}" for row in rows)
        yield f"Cosine with the reference direction: {cosines}.\n"


def _contrast(plan: Plan, direction: DirectionSummary) -> Iterator[str]:
    if direction.contrast is not None and direction.audit is not None:
        layers = sorted(_steered_layers(plan)) or [direction.ranking.best.layer if direction.ranking else 0]
        yield from contrast_section(direction.contrast, direction.audit, layers)


def _steered_layers(plan: Plan) -> set[int]:
    return {steer.layer for config in plan.configs for steer in config.steers}


def _receipts(outcomes: Sequence[Outcome]) -> Iterator[str]:
    groups: defaultdict[tuple[str, int, Op], list[Measured]] = defaultdict(list)
    for outcome in outcomes:
        for measured in outcome.measured:
            groups[outcome.config, measured.layer, measured.op].append(measured)
    if not groups:
        return
    yield "## Receipts\n"
    rows = []
    for (config, layer, op), group in groups.items():
        means = [measured.mean for measured in group if measured.mean is not None]
        rows.append((config, str(layer), str(len(group)), _QUANTITIES[op], number(group[0].expected, 4), _span(means)))
    head = ("config", "layer", "trials", "quantity", "expected", "measured, least to most")
    yield from markdown_table([head, *rows])
    yield (
        "\nMeasured inside the forward pass, at the input of the next block, over the steered positions: where a steer "
        "adds, the shift ⟨h_out − h_in, d⟩ (α·‖v‖); where it ablates or sets, the level ⟨h_out, d⟩ (0, or α·‖v‖); "
        "where the norm is kept, both with the rescaling undone. Where no number is expected (steers of different "
        "operations or positions at one layer), what arrived was compared with the formula at every position. "
        "Positions that were not to be steered were checked to be untouched, in replies without a steer too.\n"
    )


def _span(values: Sequence[float]) -> str:
    return f"{min(values):.4f} to {max(values):.4f}" if values else "–"


def _gates(gates: Sequence[GateResult], reconciliation: Completeness) -> Iterator[str]:
    if gates:
        yield "## Gates\n"
        so_far = " so far" if reconciliation.missing else ""
        if so_far:
            yield "Trials are missing, so no gate is judged; this is how they stand:\n"
        yield from (
            f"- {'met' if gate.met else '**not met**'}{so_far}: `{gate.condition}` ({gate.reason})" for gate in gates
        )
        yield ""


def _errors(outcomes: Sequence[Outcome]) -> Iterator[str]:
    failed = [outcome for outcome in outcomes if outcome.outcome == "error"]
    if failed:
        yield "## Errors of the instrument\n"
        yield from (f"- `{outcome.trial}`: {code(outcome.error) or 'no reason was given'}" for outcome in failed)
        yield "\n`--resume` runs these again.\n"


def caveats(plan: Plan, summary: Summary, direction: DirectionSummary) -> Iterator[str]:
    """What the numbers do not show, one sentence or two each."""
    smallest = min((row.n for row in summary.configs), default=0)
    yield (
        f"{smallest} valid trials in the smallest config. Fisher's exact test at the 5 % level finds 20 % "
        "against 35 % with power 0.11 at n = 20 per config, 0.25 at n = 40 and 0.50 at n = 80."
    )
    yield (
        "The task is the unit of generalisation: pooled counts speak about these "
        f"{len(plan.tasks)} tasks, the sign-flip test about tasks like them."
    )
    compared = len(summary.configs) - 1
    if compared > 1:
        yield (
            f"{compared} configs were compared with the baseline. The p-values of the calls, and those after Holm in "
            "the tables, are corrected for how many the family has; all others are not."
        )
    if summary.sequential is not None and (
        stopped := [test.config for test in summary.sequential.tests if test.stopped]
    ):
        yield (
            f"{', '.join(stopped)} stopped early (`--sequential`). The level holds; differences and intervals are not "
            "corrected for the looks, and after a stop for efficacy lean outward."
        )
    yield from direction.caveats
