"""The study that selects layer and strength of the positive controls on the dev split.

A study like the others, run without pytest: every layer and strength of both directions, interleaved with the baseline
against one engine, its ledger and trajectories under `reports/`. The selection and the whole grid are written
to `selection.json`; `pytest -m calibration` then tests it on other families.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from capvec.directions.direction import Direction
from capvec.engines.client import EngineClient
from capvec.errors import UsageError
from capvec.plan.configs import make_config
from capvec.plan.options import SweepOptions
from capvec.plan.plan import Plan
from capvec.records import Config, Outcome
from capvec.results.gates import GateResult
from capvec.results.results import Judgement, Results
from capvec.run.process_limits import allow_trials
from capvec.run.recorder import run_trials
from capvec.run.session import StudySession
from capvec.run.study import StudyContext, StudyDesign
from capvec.serial import Record
from capvec.stats.config_summary import ConfigSummary
from capvec.stats.summary import Summary
from capvec.studies.calibration.positive_controls import FORMAT, SKILL, PositiveControls, build_positive_controls
from capvec.studies.calibration.selection import (
    FORMAT_RULE,
    SKILL_RULE,
    GridPoint,
    Selection,
    select_format,
    select_skill,
)
from capvec.studies.calibration.splits import dev_families, split_tasks, spread
from capvec.studies.reporting import write_all
from capvec.tasks import load_tasks
from capvec.text import counted

CONTRAST_TASKS = 20


@dataclass(frozen=True)
class Grid(Record):
    """Layers and strengths (stored units) to try of one direction."""

    layers: tuple[int, ...]
    alphas: tuple[float, ...]


@dataclass(frozen=True)
class SelectionJudgement(Judgement):
    """The selection; None if no grid point has a valid trial."""

    selection: Selection | None = None


class SelectionStudy:
    """Both directions over their grids, on the dev split of the trained families."""

    name = "selection"
    left_out: Mapping[str, str] = {}

    def __init__(self, options: SweepOptions, grids: Mapping[str, Grid], out: Path) -> None:
        """Read the tasks and keep those of the dev split.

        Raises:
            UsageError: a bad task folder, or no task of a trained family.
        """
        self.options, self.grids, self.out = options, grids, out
        everything = load_tasks(options.tasks).tasks
        self.families = dev_families(everything)
        self.tasks = split_tasks(everything, self.families).dev
        if not self.tasks:
            raise UsageError(
                f'--tasks {options.tasks}: no task with split = "trained" in the metadata of its task.toml'
            )
        self._contrast = spread(self.tasks, CONTRAST_TASKS)

    @property
    def asked(self) -> Mapping[str, Any]:
        return self.options.recorded("select") | {"grids": {mode: grid.to_json() for mode, grid in self.grids.items()}}

    def config_names(self) -> tuple[Config, ...]:
        return (
            Config(Config.BASELINE, "baseline"),
            *(Config(_name(*place), "steered") for place in self._places()),
        )

    def design(self, context: StudyContext) -> StudyDesign:
        built = build_positive_controls(context, self._contrast)
        configs = [
            make_config(_name(mode, layer, alpha), "steered", _direction(built, mode), layer, alpha)
            for mode, layer, alpha in self._places()
        ]
        return StudyDesign((Config(Config.BASELINE, "baseline"), *configs), built)

    def judge(
        self,
        plan: Plan,
        outcomes: Sequence[Outcome],  # noqa: ARG002
        summary: Summary,
        design: StudyDesign,
    ) -> SelectionJudgement:
        """Select. The gates say whether the selection is usable."""
        rows = {row.config: row for row in summary.configs}
        built = design.directions
        assert isinstance(built, PositiveControls)
        baseline = _point(rows[Config.BASELINE], "baseline")
        grid = [
            _point(rows[config.name], mode, config, float(_direction(built, mode).norms[layer]))
            for (mode, layer, _), config in zip(self._places(), plan.configs[1:], strict=True)
        ]
        try:
            skill = select_skill([point for point in grid if point.mode == SKILL.name])
            form = select_format([point for point in grid if point.mode == FORMAT.name], baseline)
        except ValueError as error:
            return SelectionJudgement((GateResult("a grid point has a valid trial", False, str(error)),))
        selection = self._selection(plan, built, baseline, skill, form, grid)
        return SelectionJudgement(_gates(baseline, skill, form), selection)

    def _places(self) -> list[tuple[str, int, float]]:
        """Mode, layer and α of every grid point."""
        return [
            (mode, layer, alpha) for mode, grid in self.grids.items() for layer in grid.layers for alpha in grid.alphas
        ]

    def _selection(
        self,
        plan: Plan,
        built: PositiveControls,
        baseline: GridPoint,
        skill: GridPoint,
        form: GridPoint,
        grid: Sequence[GridPoint],
    ) -> Selection:
        return Selection(
            model=plan.settings.model,
            revision=built.revision,
            tasks=self.options.tasks,
            dev_families=self.families,
            contrast_tasks=built.contrast_tasks,
            attempts=self.options.attempts,
            seed=self.options.seed,
            settings=plan.settings,
            rules=(SKILL_RULE, FORMAT_RULE),
            baseline=baseline,
            skill=skill,
            format=form,
            grid=tuple(grid),
        )


def run(study: SelectionStudy, *, jobs: int) -> bool:
    """Run the trials of the grid, `jobs` at a time, and write the selection if none is missing. True if it is usable.

    Raises:
        UsageError: a bad option, or the run exists.
        InfrastructureError: Docker or the engine does not answer.
    """
    allow_trials(jobs, f"--jobs {jobs}")
    session = StudySession(study, Path(), _say)
    try:
        session.prepare()
        session.begin()
        payload = session.payload
        with EngineClient(payload.engine_url, payload.engine_token) as client:
            try:
                run_trials(payload.trials(client, at_a_time=jobs), session.recorder, jobs, session.watch)
            except KeyboardInterrupt:
                _say(f"stopped, so nothing is reported or selected; go on with --run {session.folder.name} --resume")
                raise
        results = session.finish()
        for line in write_all(results, _write(results, study.out)):
            print(line, flush=True)
        return results.good
    finally:
        session.close()


def _name(mode: str, layer: int, alpha: float) -> str:
    return f"{mode}-L{layer}-a{alpha:g}"


def _direction(built: PositiveControls, mode: str) -> Direction:
    return built.direction if mode == SKILL.name else built.format


def _point(row: ConfigSummary, mode: str, config: Config | None = None, norm: float | None = None) -> GridPoint:
    return GridPoint(
        mode=mode,
        layer=config.steers[0].layer if config else None,
        alpha=config.alpha if config else None,
        norm=norm,
        dose=config.dose if config else None,
        n=row.n,
        solved=row.solved,
        errors=row.errors,
        parse_fail_per_run=row.parse_fail_per_run or 0.0,
        no_cmd_per_run=row.no_cmd_per_run or 0.0,
    )


def _gates(baseline: GridPoint, skill: GridPoint, form: GridPoint) -> tuple[GateResult, ...]:
    """Whether a calibration with this selection can succeed."""
    rates = f"{skill.pass_rate:.2f}, baseline {baseline.pass_rate:.2f}"
    fails = f"{form.parse_fail_per_run:.2f} per run, baseline {baseline.parse_fail_per_run:.2f}"
    return (
        GateResult("the selected skill direction raises the pass rate", skill.pass_rate > baseline.pass_rate, rates),
        GateResult(
            "the selected format direction raises parse_fail",
            form.parse_fail_per_run > baseline.parse_fail_per_run,
            fails,
        ),
    )


def _write(results: Results, out: Path) -> tuple[str, ...]:
    """Write the selection of a grid that is whole. Returns what to say of it."""
    judgement = results.judgement
    if not isinstance(judgement, SelectionJudgement) or (selection := judgement.selection) is None:
        return ()
    if missing := len(results.completeness.missing):
        return (f"nothing is selected, since {counted(missing, 'trial')} did not run; {out} is as it was",)
    selection.save(out)
    points = (selection.skill, selection.format)
    return (
        *(f"selected, {point.mode}: layer {point.layer}, alpha {point.alpha:g}" for point in points),
        f"written: {out}",
    )


def _say(line: str) -> None:
    print(f"capvec: {line}", flush=True)
