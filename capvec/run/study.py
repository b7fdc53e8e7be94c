"""What a session of trials asks: a study brings its tasks and configs, and says what the outcomes mean.

A sweep is one study, a calibration another. Engine, containers, ledger, resuming and the common reports are the
session's, whatever is studied.
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
from capvec.records import Config, Outcome, Task
from capvec.results.results import Judgement
from capvec.stats.summary import Summary


@dataclass(frozen=True)
class StudyContext:
    """What is up and running when a study designs its configs."""

    client: EngineClient
    health: EngineInfo
    settings: Settings
    folder: Path
    """The run folder; exists."""
    say: Callable[[str], None]


@dataclass(frozen=True)
class StudyDesign:
    """The configs to run, and the directions that they steer with."""

    configs: tuple[Config, ...]
    """The baseline first."""
    directions: StudyDirection


class Study(Protocol):
    """One kind of question. Its constructor checks whatever can be checked without starting anything."""

    @property
    def name(self) -> str:
        """What reports call it; also the mark that asks for it."""
        ...

    @property
    def options(self) -> SweepOptions:
        """The user's, with this study's defaults."""
        ...

    @property
    def asked(self) -> Mapping[str, Any]:
        """What of the options this study goes by, and whatever else it was asked, for `provenance.json`."""
        ...

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks to run."""
        ...

    def config_names(self) -> tuple[Config, ...]:
        """The configs by name, as `--collect-only` shows them: nothing is started, so nothing is steered."""
        ...

    def design(self, bench: StudyContext) -> StudyDesign:
        """Obtain the directions, give them to the engine, and make the configs.

        Raises:
            UsageError: what the user asked for does not fit the model.
            EngineUnavailable: the engine does not answer.
        """
        ...

    def judge(self, plan: Plan, outcomes: Sequence[Outcome], summary: Summary, design: StudyDesign) -> Judgement:
        """Conclude from the outcomes on record, given in the plan's order."""
        ...
