"""What a calibration leaves beside the common reports: `CALIBRATION.md`, `calibration.json`, and its terminal lines."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from capvec.plan.plan import Plan
from capvec.records import Config, Outcome
from capvec.report.table import HEADERS, markdown_table, table_row
from capvec.stats.effects import Effect
from capvec.stats.summary import Summary, summarise
from capvec.studies.calibration.configs import Arms
from capvec.studies.calibration.judge import DATA, CalibrationJudgement
from capvec.studies.calibration.selection import GridPoint, Selection
from capvec.studies.calibration.splits import family
from capvec.studies.calibration.verdicts import Criterion, Measured
from capvec.text import align, number, signed

CALIBRATION = "CALIBRATION.md"
_SPLITS = (("test", "trained families, report half"), ("held_out", "families never trained on"))


def calibration_lines(plan: Plan, judgement: CalibrationJudgement) -> tuple[str, ...]:
    """For the terminal: a table of the configs for each split that has tasks, and where the verdicts are."""
    lines: list[str] = []
    for title, summary in _summaries(plan, judgement.measured):
        lines += [title, *align(_rows(plan, summary)), ""]
    return (*lines, f"calibration: {plan.folder / CALIBRATION}")


def write_calibration(plan: Plan, judgement: CalibrationJudgement) -> None:
    """Write `CALIBRATION.md` and `calibration.json` into the run folder."""
    chosen, measured, arms = judgement.selection, judgement.measured, judgement.arms
    verdicts, zero = judgement.verdicts, judgement.zero
    data = {
        "run": plan.run,
        "met": all(verdict.met for verdict in verdicts),
        "verdicts": [asdict(verdict) for verdict in verdicts],
        "arms": asdict(arms),
        "splits": {title: summary.to_json()["configs"] for title, summary in _summaries(plan, measured)},
        "zero": [asdict(comparison) for comparison in zero],
        "selection": chosen.to_json(),
    }
    _write(plan, DATA, json.dumps(data, indent=1, allow_nan=False))
    sections = (
        _head(plan, measured, verdicts),
        _verdicts(verdicts),
        _tables(plan, measured, verdicts),
        _families(plan, measured, arms),
        _chosen(chosen),
    )
    _write(plan, CALIBRATION, "\n".join(line for section in sections for line in section))


def _write(plan: Plan, name: str, text: str) -> None:
    (plan.folder / name).write_text(text + "\n", encoding="utf-8")


def _summaries(plan: Plan, measured: Measured) -> Iterator[tuple[str, Summary]]:
    names = [config.name for config in plan.configs]
    steered = [config.name for config in plan.configs if config.kind == "steered"]
    for half, title in _SPLITS:
        outcomes: Sequence[Outcome] = getattr(measured, half)
        if outcomes:
            yield title, summarise(outcomes, names, comparisons=steered)


def _rows(plan: Plan, summary: Summary) -> list[tuple[str, ...]]:
    return [HEADERS, *(table_row(row, plan.config(row.config)) for row in summary.configs)]


def _head(plan: Plan, measured: Measured, verdicts: Sequence[Criterion]) -> Iterator[str]:
    unmet = [verdict.key for verdict in verdicts if not verdict.met]
    status = "every verdict is met" if not unmet else f"not met: {', '.join(f'({key})' for key in unmet)}"
    tasks = [len({outcome.task for outcome in outcomes}) for outcomes in (measured.test, measured.held_out)]
    attempts = max(trial.attempt for trial in plan.trials)
    yield f"# {plan.title}\n"
    yield f"**Status:** {status}.\n"
    yield (
        f"Model `{plan.settings.model}`, {attempts} attempt{'s' if attempts > 1 else ''} per task and config, "
        f"{tasks[0]} tasks of trained families that nothing was chosen on, {tasks[1]} of families never trained on: "
        f"{tasks[0] * attempts} and {tasks[1] * attempts} trials per config. No prompt carries a mode line; what is "
        "known to work is added to the residual, and nothing else.\n"
    )


def _verdicts(verdicts: Sequence[Criterion]) -> Iterator[str]:
    yield "## Verdicts\n"
    rows = [(f"({v.key})", v.claim, "met" if v.met else "**not met**", v.reason) for v in verdicts]
    yield from markdown_table([("", "claim", "", "numbers"), *rows])
    yield (
        "\nTests are two-sided sign-flips over tasks on the report half. (a) and (b) must reach p < 0.01; (a) also "
        "fails if it does harm on held-out families at p < 0.05. (c) allows as many controls detected at 0.05 as "
        "Binomial(K, 0.05) stays below in 99 of 100 cases. (d) compares each reply with the baseline's for as long as "
        "the conversations are identical. (e) takes twice the smaller p of parse_fail and no_cmd, and fails if the "
        "pass rate rises at p < 0.05.\n"
    )


def _tables(plan: Plan, measured: Measured, verdicts: Sequence[Criterion]) -> Iterator[str]:
    yield "## Configs\n"
    for title, summary in _summaries(plan, measured):
        yield f"{title.capitalize()}:\n"
        yield from markdown_table(_rows(plan, summary))
        yield ""
    yield "## Effects\n"
    head = ("config", "metric", "families", "tasks", "n", "baseline", "config's", "difference", "p")
    rows = [
        row
        for verdict in verdicts
        for where, effects in (("report half", verdict.effects), ("held out", verdict.held_out))
        for row in (_effect_row(effect, where) for effect in effects)
    ]
    yield from markdown_table([head, *rows])


def _effect_row(effect: Effect, where: str) -> tuple[str, ...]:
    return (
        effect.config,
        effect.metric,
        where,
        str(effect.tasks),
        str(effect.n),
        number(effect.baseline),
        number(effect.value),
        signed(effect.difference),
        f"{effect.pvalue:.2g}",
    )


def _families(plan: Plan, measured: Measured, arms: Arms) -> Iterator[str]:
    """Pass rates, so that one family that carries an effect, or breaks it, is seen."""
    yield "\n## Families\n"
    shown = (Config.BASELINE, arms.positive, arms.negated, arms.format)
    of = {task.name: family(task) for task in plan.tasks}
    rows: list[tuple[str, ...]] = [("family", "", *shown)]
    for outcomes, where in ((measured.test, "report half"), (measured.held_out, "held out")):
        for name in sorted({of[outcome.task] for outcome in outcomes}):
            ours = [outcome for outcome in outcomes if of[outcome.task] == name]
            rows.append((name, where, *(_share([o for o in ours if o.config == config]) for config in shown)))
    yield from markdown_table(rows)


def _share(outcomes: Sequence[Outcome]) -> str:
    valid = [outcome for outcome in outcomes if outcome.outcome != "error"]
    return f"{sum(outcome.outcome == 'solved' for outcome in valid)}/{len(valid)}" if valid else "–"


def _chosen(chosen: Selection) -> Iterator[str]:
    yield "\n## What was chosen, and on what\n"
    yield (
        f"On the families {', '.join(chosen.dev_families)} (`{chosen.tasks}`, {chosen.attempts} attempt"
        f"{'s' if chosen.attempts > 1 else ''} per task and grid point), none of which is reported on here. "
        f"Directions from the instructions of {len(chosen.contrast_tasks)} of their tasks. Rules:\n"
    )
    yield from (f"- {rule}" for rule in chosen.rules)
    yield ""
    head = ("mode", "layer", "α", "‖v‖", "dose", "solved", "rate", "parse_fail", "no_cmd", "chosen")
    points = (chosen.baseline, *chosen.grid)
    yield from markdown_table([head, *(_grid_row(point, point in (chosen.skill, chosen.format)) for point in points)])


def _grid_row(point: GridPoint, taken: bool) -> tuple[str, ...]:
    cells: tuple[Any, ...] = (
        point.mode,
        "–" if point.layer is None else point.layer,
        "–" if point.alpha is None else f"{point.alpha:g}",
        number(point.norm, 1),
        number(point.dose),
        f"{point.solved}/{point.n}",
        number(point.pass_rate),
        number(point.parse_fail_per_run),
        number(point.no_cmd_per_run),
        "✓" if taken else "",
    )
    return tuple(str(cell) for cell in cells)
