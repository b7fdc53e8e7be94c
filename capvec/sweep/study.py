"""What a session of trials asks: a study brings its tasks and configs, and says what the outcomes mean.

A sweep is one study, a calibration another. Engine, containers, ledger, resuming and the common reports are the
session's, whatever is studied.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from capvec.engine.client import EngineClient
from capvec.engine.protocol import Health
from capvec.errors import UsageError
from capvec.records import Config, Outcome, Task
from capvec.report.controls import twin_lines
from capvec.report.looks import look_lines
from capvec.report.table import table_lines
from capvec.stats.summary import Summary
from capvec.stats.twins import compare_with_twins
from capvec.sweep.directions import SweepDirection, check_file, obtain_direction
from capvec.sweep.gate import GateResult
from capvec.sweep.options import SweepOptions
from capvec.sweep.plan import Manner, Plan, Settings, config_name, control_configs, steered_config
from capvec.sweep.replies import check_zero
from capvec.tasks import load_tasks
from capvec.traces import check_traces


@dataclass(frozen=True)
class Bench:
    """What is up and running when a study designs its configs."""

    client: EngineClient
    health: Health
    settings: Settings
    folder: Path
    """The run folder; exists."""
    say: Callable[[str], None]


@dataclass(frozen=True)
class Design:
    """The configs to run, and the directions that they steer with."""

    configs: tuple[Config, ...]
    """The baseline first."""
    directions: SweepDirection


@dataclass(frozen=True)
class Evidence:
    """What a study concludes from."""

    plan: Plan
    outcomes: tuple[Outcome, ...]
    """All on record, errors included, in the plan's order."""
    summary: Summary
    design: Design


@dataclass(frozen=True)
class Conclusion:
    """What the outcomes mean."""

    lines: tuple[str, ...]
    """For the terminal."""
    gates: tuple[GateResult, ...] = ()
    """Each must be met for exit code 0."""


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

    def sketch(self) -> tuple[Config, ...]:
        """The configs by name, as `--collect-only` shows them: nothing is started, so nothing is steered."""
        ...

    def design(self, bench: Bench) -> Design:
        """Obtain the directions, give them to the engine, and make the configs.

        Raises:
            UsageError: what the user asked for does not fit the model.
            EngineUnavailable: the engine does not answer.
        """
        ...

    def conclude(self, evidence: Evidence) -> Conclusion:
        """Judge the outcomes, and write whatever reports only this study has into the run folder."""
        ...


class SweepStudy:
    """One direction at the strengths and layers that the user asked for, with controls, against the baseline."""

    name = "sweep"

    def __init__(self, options: SweepOptions) -> None:
        """Read the tasks, and see that the files of the direction are there.

        Raises:
            UsageError: a bad task folder, a file that is missing, or an option that is not a sweep's.
        """
        if options.chosen is not None:
            raise UsageError("--chosen is for -m calibration; a sweep takes --layer and --alpha")
        for option, named in (("--direction", options.direction), ("--reference", options.reference)):
            if named is not None:
                check_file(option, Path(named))
        if options.traces is not None:
            check_traces(Path(options.traces))
        self.options = options
        self.tasks = load_tasks(options.tasks)

    @property
    def asked(self) -> Mapping[str, Any]:
        return self.options.to_json()

    def sketch(self) -> tuple[Config, ...]:
        layers: Sequence[tuple[int, ...] | str] = self.options.layers or ("auto",)
        unit, manner = self.options.alpha_unit, self._manner
        names = [config_name(where, alpha, unit, manner) for where in layers for alpha in self._alphas]
        return (Config(Config.BASELINE, "baseline"), *(Config(name, "steered") for name in names))

    def design(self, bench: Bench) -> Design:
        options = self.options
        obtained = obtain_direction(options, bench.client, bench.health, bench.folder, bench.say)
        if obtained.built is not None:
            for warning in obtained.built.warnings():
                bench.say(warning)
        steered = [
            steered_config(obtained.direction, layers, alpha, options.alpha_unit, self._manner)
            for layers in self._layers(obtained, bench)
            for alpha in self._alphas
        ]
        controls = control_configs(options.controls, steered, obtained.direction, obtained.twins)
        return Design((Config(Config.BASELINE, "baseline"), *steered, *controls), obtained)

    @property
    def _manner(self) -> Manner:
        return Manner(self.options.op, self.options.positions, self.options.keep_norm)

    @property
    def _alphas(self) -> Sequence[float | None]:
        """An ablation has no strength, so whatever `--alpha` says there is one config of each layer."""
        return (None,) if self.options.op == "ablate" else self.options.alphas

    def conclude(self, evidence: Evidence) -> Conclusion:
        plan, outcomes = evidence.plan, evidence.outcomes
        twins = twin_lines(compare_with_twins(evidence.summary.analysed(outcomes), plan.configs))
        lines = (*table_lines(plan, evidence.summary), *look_lines(evidence.summary), *twins)
        return Conclusion(lines, check_zero(plan, outcomes))

    def _layers(self, obtained: SweepDirection, bench: Bench) -> tuple[tuple[int, ...], ...]:
        layers = self.options.layers
        if layers is None:
            if obtained.ranking is None:
                return self._layers_of_file(obtained, bench)
            bench.say(f"--layer auto takes layer {obtained.ranking.best.layer}. {obtained.ranking.verdict()}")
            layers = ((obtained.ranking.best.layer,),)
        last = bench.health.n_layers - 1
        for layer in (layer for group in layers for layer in group):
            if layer > last:
                raise UsageError(f"--layer {layer}: the model has {last + 1} layers, 0 to {last}")
        return layers

    def _layers_of_file(self, obtained: SweepDirection, bench: Bench) -> tuple[tuple[int, ...], ...]:
        """`--layer auto` for a direction from a file."""
        layer = obtained.direction.layer
        if layer is None:
            raise UsageError(
                "--layer auto needs a ranking, or a file that names one layer, and --direction brings neither: "
                "name layers, as --layer 22"
            )
        bench.say(f"--layer auto takes layer {layer}, the one that {obtained.source} names")
        return ((layer,),)
