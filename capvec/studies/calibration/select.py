"""`python -m capvec.studies.calibration.select`: choose layer and strength of the planted directions on the tune half.

A study like the others, run without pytest: every layer and strength of both directions, interleaved with the baseline
against one engine, its ledger and trajectories under `reports/`. What was chosen, and the whole grid, goes to
`chosen.json`; `pytest -m calibration` then reports on the families that had no say in it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from capvec.directions.direction import Direction
from capvec.engines.client import EngineClient
from capvec.errors import CapvecError, UsageError
from capvec.plan.option_help import add_arguments
from capvec.plan.option_table import PLACES
from capvec.plan.options import SweepOptions, parse_options, read_options
from capvec.plan.plan import Plan, make_config
from capvec.records import Config, Outcome
from capvec.results.gates import GateResult
from capvec.results.results import Judgement
from capvec.run.session import StudySession
from capvec.run.status_line import progress_on_stdout
from capvec.run.study import StudyContext, StudyDesign
from capvec.run.trial import TrialRunner
from capvec.sandbox.docker import DockerProvider
from capvec.serial import Record
from capvec.stats.summary import ConfigSummary, Summary
from capvec.studies.calibration.positive_controls import FORMAT, SKILL, PlantedDirections, plant_both
from capvec.studies.calibration.selection import (
    BUNDLED,
    FORMAT_RULE,
    SKILL_RULE,
    GridPoint,
    Selection,
    choose_format,
    choose_skill,
)
from capvec.studies.calibration.splits import split_tasks, spread, tune_families
from capvec.studies.reporting import write_all
from capvec.tasks import load_tasks

CONTRAST_TASKS = 20


@dataclass(frozen=True)
class Grid(Record):
    """Layers and strengths (stored units) to try of one direction."""

    layers: tuple[int, ...]
    alphas: tuple[float, ...]


@dataclass(frozen=True)
class Choice(Judgement):
    """What was chosen; nothing where no point of the grid could be."""

    chosen: Selection | None = None


class ChoiceStudy:
    """Both planted directions over their grids, on the tune half of the trained families."""

    name = "choice"

    def __init__(self, options: SweepOptions, grids: Mapping[str, Grid], out: Path) -> None:
        """Read the tasks and keep the tune half of them.

        Args:
            options: tasks, attempts, model and how the agent acts.
            grids: for `skill` and for `format`.
            out: where `chosen.json` goes.

        Raises:
            UsageError: a bad task folder, or no task of a trained family.
        """
        self.options, self.grids, self.out = options, grids, out
        everything = load_tasks(options.tasks)
        self.families = tune_families(everything)
        self.tasks = split_tasks(everything, self.families).tune
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

    def design(self, bench: StudyContext) -> StudyDesign:
        planted = plant_both(bench, self._contrast)
        configs = [
            make_config(_name(mode, layer, alpha), "steered", _direction(planted, mode), layer, alpha)
            for mode, layer, alpha in self._places()
        ]
        return StudyDesign((Config(Config.BASELINE, "baseline"), *configs), planted)

    def judge(self, plan: Plan, outcomes: Sequence[Outcome], summary: Summary, design: StudyDesign) -> Choice:  # noqa: ARG002
        """Choose, and write the selection's file, whatever it shows; the gates say whether it will do."""
        rows = {row.config: row for row in summary.configs}
        planted = design.directions
        assert isinstance(planted, PlantedDirections)
        baseline = _point(rows[Config.BASELINE], "baseline")
        grid = [
            _point(rows[config.name], mode, config, float(_direction(planted, mode).norms[layer]))
            for (mode, layer, _), config in zip(self._places(), plan.configs[1:], strict=True)
        ]
        try:
            skill = choose_skill([point for point in grid if point.mode == SKILL.name])
            form = choose_format([point for point in grid if point.mode == FORMAT.name], baseline)
        except ValueError as error:
            return Choice((GateResult("there is something to choose from", False, str(error)),))
        chosen = self._chosen(plan, planted, baseline, skill, form, grid)
        chosen.save(self.out)
        return Choice(_gates(baseline, skill, form), chosen)

    def _places(self) -> list[tuple[str, int, float]]:
        """Mode, layer and α of every grid point."""
        return [
            (mode, layer, alpha) for mode, grid in self.grids.items() for layer in grid.layers for alpha in grid.alphas
        ]

    def _chosen(
        self,
        plan: Plan,
        planted: PlantedDirections,
        baseline: GridPoint,
        skill: GridPoint,
        form: GridPoint,
        grid: Sequence[GridPoint],
    ) -> Selection:
        return Selection(
            model=plan.settings.model,
            revision=planted.revision,
            tasks=self.options.tasks,
            tune_families=self.families,
            contrast_tasks=planted.contrast_tasks,
            attempts=self.options.attempts,
            seed=self.options.seed,
            settings=plan.settings,
            rules=(SKILL_RULE, FORMAT_RULE),
            baseline=baseline,
            skill=skill,
            format=form,
            grid=tuple(grid),
        )


def run(study: ChoiceStudy, *, jobs: int) -> bool:
    """Run the grid's trials, as many at a time as `jobs`, and write the choice. True when it will do.

    Raises:
        UsageError: a bad option, or the run exists.
        InfrastructureError: Docker or the engine does not answer.
    """
    session = StudySession(study, Path(), _say)
    try:
        session.prepare()
        session.begin()
        payload, recorder = session.payload, session.recorder
        finished = {outcome.id: outcome for outcome in payload.finished}
        recorder.expect(trial.id for trial in payload.plan.trials)
        with EngineClient(payload.engine_url, payload.engine_token) as client, ThreadPoolExecutor(jobs) as pool:
            runner = TrialRunner(payload.plan, client, DockerProvider(), finished)
            with progress_on_stdout(at_a_time=jobs) as progress:
                progress.update(recorder.tally())
                for done in as_completed([pool.submit(runner.run, trial) for trial in payload.plan.trials]):
                    recorder.record(done.result())
                    progress.update(recorder.tally())
        results = session.finish()
        chosen = results.judgement.chosen if isinstance(results.judgement, Choice) else None
        notes = () if chosen is None else _in_words(chosen.skill, chosen.format, study.out)
        for line in write_all(results, notes):
            print(line, flush=True)
        return results.good
    finally:
        session.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and select. 0 when both selections will do, 1 when not, 2 on an error."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    raw = vars(_parser().parse_args(given)) | {"command_line": [PLACES["select"].command, *given]}
    try:
        values = read_options("select", raw)
        layers, alphas = values["layer"], values["alpha"]
        grids = {
            SKILL.name: _grid("--layer", layers, alphas),
            FORMAT.name: _grid("--format-layer", values["format_layer"] or layers, values["format_alpha"] or alphas),
        }
        out = BUNDLED if values["out"] is None else Path(values["out"])
        return 0 if run(ChoiceStudy(parse_options(raw, "select"), grids, out), jobs=values["jobs"]) else 1
    except CapvecError as error:
        print(f"capvec: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PLACES["select"].command, usage="%(prog)s [options]", description=PLACES["select"].summary
    )
    add_arguments(parser, "select")
    return parser


def _grid(option: str, layers: Sequence[tuple[int, ...]] | None, alphas: Sequence[float]) -> Grid:
    if layers is None:
        raise UsageError(f"{option} auto: expected the layers of the grid, as in {option} 20,22")
    if joined := [group for group in layers if len(group) > 1]:
        raise UsageError(f"{option}: a grid steers one layer at a time, got {joined[0]} together; separate by commas")
    return Grid(tuple(layer for (layer,) in layers), tuple(alphas))


def _name(mode: str, layer: int, alpha: float) -> str:
    return f"{mode}-L{layer}-a{alpha:g}"


def _direction(planted: PlantedDirections, mode: str) -> Direction:
    return planted.direction if mode == SKILL.name else planted.format


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
    """Whether a calibration with this choice has a chance."""
    rates = f"{skill.pass_rate:.2f}, baseline {baseline.pass_rate:.2f}"
    fails = f"{form.parse_fail_per_run:.2f} per run, baseline {baseline.parse_fail_per_run:.2f}"
    return (
        GateResult("the chosen skill steer passes more often", skill.pass_rate > baseline.pass_rate, rates),
        GateResult(
            "the chosen format steer fails to parse more often",
            form.parse_fail_per_run > baseline.parse_fail_per_run,
            fails,
        ),
    )


def _in_words(skill: GridPoint, form: GridPoint, out: Path) -> tuple[str, ...]:
    return (
        *(f"chosen, {point.mode}: layer {point.layer}, alpha {point.alpha:g}" for point in (skill, form)),
        f"written: {out}",
    )


def _say(line: str) -> None:
    print(f"capvec: {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
