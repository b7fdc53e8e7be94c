"""What a calibration leaves beside the common reports: `CALIBRATION.md`, `calibration.json`, and its terminal lines."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from capvec.plan.plan import Plan
from capvec.records import Config, Outcome
from capvec.report.config_table import config_table
from capvec.report.markdown import markdown
from capvec.report.section import (
    Block,
    Bullets,
    Code,
    Heading,
    Paragraph,
    Report,
    Row,
    Section,
    Strong,
    Table,
    left,
    right,
)
from capvec.report.task_families import solved_of
from capvec.report.terminal import block_lines
from capvec.stats.effects import Effect
from capvec.stats.summary import Summary, summarise
from capvec.storage import write_text
from capvec.studies.calibration.configs import Arms
from capvec.studies.calibration.judge import DATA, CalibrationJudgement
from capvec.studies.calibration.selection import GridPoint, Selection
from capvec.studies.calibration.splits import family
from capvec.studies.calibration.verdicts import Criterion, SplitOutcomes
from capvec.text import counted, number, signed

CALIBRATION = "CALIBRATION.md"
_SPLITS = (("test", "trained families, test split"), ("held_out", "families never trained on"))


def calibration_lines(plan: Plan, judgement: CalibrationJudgement) -> tuple[str, ...]:
    """For the terminal: a table of the configs for each split that has tasks, and where the verdicts are."""
    lines: list[str] = []
    for title, summary in _summaries(plan, judgement.measured):
        lines += [title, *block_lines(config_table(summary.configs, plan)), ""]
    return (*lines, f"calibration: {plan.folder / CALIBRATION}")


def write_calibration(plan: Plan, judgement: CalibrationJudgement) -> None:
    """Write `CALIBRATION.md` and `calibration.json` into the run folder."""
    selection, measured, arms = judgement.selection, judgement.measured, judgement.arms
    verdicts, zero = judgement.verdicts, judgement.zero
    data = {
        "run": plan.run,
        "met": all(verdict.met for verdict in verdicts),
        "verdicts": [asdict(verdict) for verdict in verdicts],
        "arms": asdict(arms),
        "splits": {title: summary.to_json()["configs"] for title, summary in _summaries(plan, measured)},
        "zero": [asdict(comparison) for comparison in zero],
        "selection": selection.to_json(),
    }
    _write(plan, DATA, json.dumps(data, indent=1, allow_nan=False) + "\n")
    _write(plan, CALIBRATION, markdown(calibration_report(plan, judgement)))


def calibration_report(plan: Plan, judgement: CalibrationJudgement) -> Report:
    """The verdicts, the numbers that they rest on, and what was selected beforehand."""
    verdicts, measured = judgement.verdicts, judgement.measured
    unmet = [verdict.key for verdict in verdicts if not verdict.met]
    status = "every verdict is met" if not unmet else f"not met: {', '.join(f'({key})' for key in unmet)}"
    sections = (
        _method(plan, measured),
        _verdicts(verdicts),
        _configs(plan, measured),
        _effects(verdicts),
        _families(plan, measured, judgement.arms),
        _selected(judgement.selection),
    )
    return Report(plan.title, f"{status}.", sections)


def _write(plan: Plan, name: str, text: str) -> None:
    write_text(plan.folder / name, text)


def _summaries(plan: Plan, measured: SplitOutcomes) -> Iterator[tuple[str, Summary]]:
    names = [config.name for config in plan.configs]
    steered = [config.name for config in plan.configs if config.kind == "steered"]
    for split, title in _SPLITS:
        outcomes: Sequence[Outcome] = getattr(measured, split)
        if outcomes:
            yield title, summarise(outcomes, names, comparisons=steered)


def _method(plan: Plan, measured: SplitOutcomes) -> Section:
    tasks = [len({outcome.task for outcome in outcomes}) for outcomes in (measured.test, measured.held_out)]
    attempts = max(trial.attempt for trial in plan.trials)
    done = (
        "Model ",
        Code(plan.settings.model),
        f", {counted(attempts, 'attempt')} per task and config. {tasks[0]} tasks are of trained families and took no "
        f"part in the selection; {tasks[1]} are of families never trained on. That makes {tasks[0] * attempts} and "
        f"{tasks[1] * attempts} trials per config. No prompt carries a mode line: what is known to work is added to "
        "the residual, and nothing else.",
    )
    return Section("method", "Method", (Paragraph(done),))


def _verdicts(verdicts: Sequence[Criterion]) -> Section:
    rows = tuple((f"({v.key})", v.claim, "met" if v.met else Strong("not met"), v.reason) for v in verdicts)
    note = (
        "Tests are two-sided sign-flips over tasks on the test split. (a) and (b) must reach p < 0.01; (a) also fails "
        "if the direction harms on held-out families at p < 0.05. (c) allows as many controls detected at 0.05 as "
        "Binomial(K, 0.05) stays below in 99 of 100 cases. (d) compares each reply with that of the baseline for as "
        "long as the conversations are identical. (e) takes twice the smaller p of parse_fail and no_cmd, and fails if "
        "the pass rate rises at p < 0.05."
    )
    return Section(
        "verdicts", "Verdicts", (Table(left("verdict", "claim", "result", "numbers"), rows), Paragraph(note))
    )


def _configs(plan: Plan, measured: SplitOutcomes) -> Section:
    blocks: list[Block] = []
    for title, summary in _summaries(plan, measured):
        blocks += [Heading(title.capitalize()), config_table(summary.configs, plan)]
    return Section("configs", "Configs", tuple(blocks))


def _effects(verdicts: Sequence[Criterion]) -> Section:
    columns = (
        *left("config", "metric", "task families"),
        *right("tasks", "n", "baseline", "config", "difference", "p"),
    )
    rows = tuple(
        _effect_row(effect, where)
        for verdict in verdicts
        for where, effects in (("test split", verdict.effects), ("held out", verdict.held_out))
        for effect in effects
    )
    return Section("effects", "Effects", (Table(columns, rows),))


def _effect_row(effect: Effect, where: str) -> Row:
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


def _families(plan: Plan, measured: SplitOutcomes, arms: Arms) -> Section:
    """Solved trials, so that one family that carries an effect, or breaks it, is seen."""
    shown = (Config.BASELINE, arms.positive, arms.negated, arms.format)
    of = {task.name: family(task) for task in plan.tasks}
    rows: list[Row] = []
    for outcomes, where in ((measured.test, "test split"), (measured.held_out, "held out")):
        for name in sorted({of[outcome.task] for outcome in outcomes}):
            ours = [outcome for outcome in outcomes if of[outcome.task] == name]
            rows.append((name, where, *(_share([o for o in ours if o.config == config]) for config in shown)))
    table = Table((*left("task family", "tasks"), *right(*shown)), tuple(rows))
    return Section("task-families", "By task family", (table,))


def _share(outcomes: Sequence[Outcome]) -> str:
    return solved_of(outcomes) if any(outcome.outcome != "error" for outcome in outcomes) else "–"


def _selected(selection: Selection) -> Section:
    on = (
        f"On the families {', '.join(selection.dev_families)} (",
        Code(selection.tasks),
        f", {counted(selection.attempts, 'attempt')} per task and grid point), none of which is reported on here. The "
        f"directions come from the instructions of {len(selection.contrast_tasks)} of their tasks. The rules:",
    )
    columns = (
        *left("mode"),
        *right("layer", "α", "‖v‖", "dose", "solved", "rate", "parse_fail", "no_cmd"),
        *left("selected"),
    )
    points = (selection.baseline, *selection.grid)
    rows = tuple(_grid_row(point, point in (selection.skill, selection.format)) for point in points)
    blocks = (Paragraph(on), Bullets(tuple(selection.rules)), Table(columns, rows))
    return Section("selection", "What was selected, and on what", blocks)


def _grid_row(point: GridPoint, taken: bool) -> Row:
    return (
        point.mode,
        "–" if point.layer is None else str(point.layer),
        "–" if point.alpha is None else f"{point.alpha:g}",
        number(point.norm, 1),
        number(point.dose),
        f"{point.solved}/{point.n}",
        number(point.pass_rate),
        number(point.parse_fail_per_run),
        number(point.no_cmd_per_run),
        "✓" if taken else "",
    )
