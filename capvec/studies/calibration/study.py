"""The calibration as a study: positive controls, their negation, random controls and α = 0, on new tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from capvec.directions.direction import random_control
from capvec.errors import UsageError
from capvec.plan.options import SweepOptions, parse_options
from capvec.plan.plan import Plan
from capvec.records import Config, Outcome
from capvec.run.study import StudyContext, StudyDesign
from capvec.stats.summary import Summary
from capvec.studies.calibration.configs import arms_of, configs_of
from capvec.studies.calibration.judge import SELECTED, CalibrationJudgement, judge_calibration
from capvec.studies.calibration.positive_controls import PositiveControls, build_positive_controls
from capvec.studies.calibration.selection import BUNDLED, Selection
from capvec.studies.calibration.splits import families, split_tasks
from capvec.task_records import Task
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
    """Compares configs of known effect with the baseline, and judges whether each effect was found."""

    name = "calibration"
    left_out: Mapping[str, str] = {}

    def __init__(self, options: SweepOptions) -> None:
        """Read the selection, and the tasks that it was not made on.

        Raises:
            UsageError: no selection, a bad task folder, or no task of the test split.
        """
        self.options = options
        self.selection = _selection(options.selection)
        self.splits = split_tasks(load_tasks(options.tasks).tasks, self.selection.dev_families)
        self.tasks: tuple[Task, ...] = (*self.splits.test, *self.splits.held_out)
        if not self.splits.test:
            raise UsageError(
                f"--tasks {options.tasks}: no task of a trained family that layer and strength were not selected on "
                f'(those are {", ".join(self.selection.dev_families)}); expected some with split = "trained"'
            )
        self._contrast = self._contrast_tasks()

    @property
    def asked(self) -> Mapping[str, Any]:
        return self.options.recorded(self.name) | {SELECTED: self.selection.to_json()}

    def config_names(self) -> tuple[Config, ...]:
        base, *others = arms_of(self.selection, self._randoms).names
        return (Config(base, "baseline"), *(Config(name, "control") for name in others))

    def design(self, context: StudyContext) -> StudyDesign:
        selection, model = self.selection, context.health.model
        if model != selection.model:
            raise UsageError(
                f"layer and strength were selected for the model {selection.model}, not for {model}; select again with "
                f"`python -m capvec.studies.calibration.select --model … --out FILE`, then --selection FILE"
            )
        built = build_positive_controls(
            context,
            self._contrast,
            lambda skill: [random_control(skill, self.options.seed + number) for number in range(self._randoms)],
        )
        configs = configs_of(selection, built.direction, built.format, built.controls["random"])
        return StudyDesign(configs, replace(built, notes=self._notes(context, built)))

    def judge(
        self,
        plan: Plan,
        outcomes: Sequence[Outcome],
        summary: Summary,  # noqa: ARG002
        design: StudyDesign,  # noqa: ARG002
    ) -> CalibrationJudgement:
        return judge_calibration(plan, outcomes, self.selection, self._randoms)

    @property
    def _randoms(self) -> int:
        return self.options.controls[0].count

    def _contrast_tasks(self) -> tuple[Task, ...]:
        """The tasks of the contrast, which need not be among `--tasks`."""
        everything = {task.name: task for task in load_tasks(self.selection.tasks).tasks}
        if missing := [name for name in self.selection.contrast_tasks if name not in everything]:
            raise UsageError(
                f"--tasks {self.selection.tasks}: {', '.join(missing)} were used for the selection and are missing now"
            )
        return tuple(everything[name] for name in self.selection.contrast_tasks)

    def _notes(self, context: StudyContext, built: PositiveControls) -> tuple[str, ...]:
        """What has changed since the selection."""
        selection, notes = self.selection, []
        if selection.revision != context.health.revision:
            notes.append(
                f"Layer and strength were selected for revision {selection.revision} of the model; this is "
                f"{context.health.revision}."
            )
        for name, point, direction in (
            ("skill", selection.skill, built.direction),
            ("format", selection.format, built.format),
        ):
            layer, _ = point.place
            length = float(direction.norms[layer])
            if point.norm is not None and abs(length - point.norm) > 0.05 * point.norm:
                notes.append(
                    f"The {name} direction was {point.norm:.1f} long at layer {layer} at the selection, and is "
                    f"{length:.1f} long now."
                )
        tasks = (*self.splits.test, *self.splits.held_out)
        notes.append(
            f"Selected on the families {', '.join(selection.dev_families)}; run on {', '.join(families(tasks))}."
        )
        return tuple(notes)


def _selection(path: str | None) -> Selection:
    return Selection.load(BUNDLED if path is None else Path(path))
