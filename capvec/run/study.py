"""The interface between a session and its study.

A study (the sweep, the calibration, the calibration's selection) brings its tasks and configs and judges the outcomes.
Engine, containers, ledger and resuming belong to the session and are the same for every study.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from capvec.directions.study_direction import StudyDirection
from capvec.engines.client import EngineClient
from capvec.engines.protocol import EngineInfo
from capvec.plan.options import SweepOptions
from capvec.plan.plan import Plan, Settings
from capvec.records import Config, Outcome
from capvec.results.results import Judgement
from capvec.stats.summary import Summary
from capvec.task_records import Task


@dataclass(frozen=True)
class StudyContext:
    """What a study can use to design its configs."""

    client: EngineClient
    health: EngineInfo
    settings: Settings
    folder: Path
    """The run folder; exists."""
    say: Callable[[str], None]
    """Prints one line of progress."""


@dataclass(frozen=True)
class StudyDesign:
    """The configs to run and the directions that they steer with."""

    configs: tuple[Config, ...]
    """The baseline first."""
    directions: StudyDirection


class Study(Protocol):
    """One kind of study. Its constructor checks everything that can be checked without starting anything."""

    @property
    def name(self) -> str:
        """Its name in reports, and the pytest mark that selects it."""
        ...

    @property
    def options(self) -> SweepOptions:
        """The user's options, with this study's defaults."""
        ...

    @property
    def asked(self) -> Mapping[str, Any]:
        """What the study was asked to do, for `options` of `provenance.json`."""
        ...

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks to run."""
        ...

    @property
    def left_out(self) -> Mapping[str, str]:
        """Task that was asked for and cannot run → why."""
        ...

    def config_names(self) -> tuple[Config, ...]:
        """The configs for `--collect-only`: names without steers, since no engine is started."""
        ...

    def design(self, context: StudyContext) -> StudyDesign:
        """Obtain the directions, send them to the engine, and make the configs.

        Raises:
            UsageError: the options do not fit the model.
            EngineUnavailable: the engine does not answer.
        """
        ...

    def judge(self, plan: Plan, outcomes: Sequence[Outcome], summary: Summary, design: StudyDesign) -> Judgement:
        """Judge the outcomes on record.

        Args:
            plan: of the run.
            outcomes: in the plan's order.
            summary: the statistics of the outcomes.
            design: what `design` returned.
        """
        ...
