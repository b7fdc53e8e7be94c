"""The calibration as a study: planted directions, their reverse, random controls and α = 0, on new tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from capvec.directions.direction import random_control
from capvec.errors import UsageError
from capvec.plan.options import SweepOptions, parse_options
from capvec.plan.plan import Plan
from capvec.records import Config, Outcome, Task
from capvec.run.study import StudyContext, StudyDesign
from capvec.stats.summary import Summary
from capvec.studies.calibration.configs import arms_of, configs_of
from capvec.studies.calibration.judge import CHOICE, CalibrationJudgement, judge_calibration
from capvec.studies.calibration.positive_controls import PlantedDirections, plant_both
from capvec.studies.calibration.selection import BUNDLED, Selection
from capvec.studies.calibration.splits import families, split_tasks
from capvec.tasks import load_tasks


def parse_calibration_options(raw: Mapping[str, Any]) -> SweepOptions:
    """The options of a calibration; `--tasks` defaults to those of the selection.

    Raises:
        UsageError: an option has a bad value, or is a sweep's.
    """
    tasks = raw.get("tasks") or _selection(raw.get("selection")).tasks
    options = parse_options({**raw, "tasks": tasks}, "calibration")
    if [control.kind for control in options.controls] != ["random"]:
        raise UsageError(
            f"--controls {raw['controls']!r}: expected random:K, as in random:3; a calibration always has its other "
            "controls"
        )
    return options


class CalibrationStudy:
    """Known effects against the baseline, and a verdict on each."""

    name = "calibration"

    def __init__(self, options: SweepOptions) -> None:
        """Read what was chosen, and the tasks that it was not chosen on.

        Raises:
            UsageError: nothing was chosen, a bad task folder, or no task to report on.
        """
        self.options = options
        self.chosen = _selection(options.selection)
        self.halves = split_tasks(load_tasks(options.tasks), self.chosen.tune_families)
        self.tasks: tuple[Task, ...] = (*self.halves.report, *self.halves.held_out)
        if not self.halves.report:
            raise UsageError(
                f"--tasks {options.tasks}: no task of a trained family that layer and strength were not chosen on "
                f'(those are {", ".join(self.chosen.tune_families)}); expected some with split = "trained"'
            )
        self._contrast = self._contrast_tasks()

    @property
    def asked(self) -> Mapping[str, Any]:
        return self.options.recorded(self.name) | {CHOICE: self.chosen.to_json()}

    def config_names(self) -> tuple[Config, ...]:
        base, *others = arms_of(self.chosen, self._randoms).names
        return (Config(base, "baseline"), *(Config(name, "control") for name in others))

    def design(self, bench: StudyContext) -> StudyDesign:
        chosen, model = self.chosen, bench.health.model
        if model != chosen.model:
            raise UsageError(
                f"layer and strength were chosen for the model {chosen.model}, and this is {model}: choose anew with "
                f"`python -m capvec.studies.calibration.select --model … --out FILE`, then --selection FILE"
            )
        planted = plant_both(
            bench,
            self._contrast,
            lambda skill: [random_control(skill, self.options.seed + number) for number in range(self._randoms)],
        )
        configs = configs_of(chosen, planted.direction, planted.format, planted.controls["random"])
        return StudyDesign(configs, replace(planted, notes=self._notes(bench, planted)))

    def judge(
        self,
        plan: Plan,
        outcomes: Sequence[Outcome],
        summary: Summary,  # noqa: ARG002
        design: StudyDesign,  # noqa: ARG002
    ) -> CalibrationJudgement:
        return judge_calibration(plan, outcomes, self.chosen, self._randoms)

    @property
    def _randoms(self) -> int:
        return self.options.controls[0].count

    def _contrast_tasks(self) -> tuple[Task, ...]:
        """The tasks of the contrast, which need not be among `--tasks`."""
        everything = {task.name: task for task in load_tasks(self.chosen.tasks)}
        if missing := [name for name in self.chosen.contrast_tasks if name not in everything]:
            raise UsageError(f"--tasks {self.chosen.tasks}: {', '.join(missing)} were chosen on and are not there now")
        return tuple(everything[name] for name in self.chosen.contrast_tasks)

    def _notes(self, bench: StudyContext, planted: PlantedDirections) -> tuple[str, ...]:
        """What has changed since layer and strength were chosen."""
        chosen, notes = self.chosen, []
        if chosen.revision != bench.health.revision:
            notes.append(
                f"Layer and strength were chosen for revision {chosen.revision} of the model; this is "
                f"{bench.health.revision}."
            )
        for name, point, direction in (
            ("skill", chosen.skill, planted.direction),
            ("format", chosen.format, planted.format),
        ):
            layer, _ = point.place
            length = float(direction.norms[layer])
            if point.norm is not None and abs(length - point.norm) > 0.05 * point.norm:
                notes.append(
                    f"The {name} direction was {point.norm:.1f} long at layer {layer} when it was chosen, and is "
                    f"{length:.1f} long now."
                )
        tasks = (*self.halves.report, *self.halves.held_out)
        notes.append(f"Chosen on the families {', '.join(chosen.tune_families)}; run on {', '.join(families(tasks))}.")
        return tuple(notes)


def _selection(path: str | None) -> Selection:
    return Selection.load(BUNDLED if path is None else Path(path))
