"""The sweep: one direction at the requested layers and strengths, compared with the baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from capvec.directions.direction import named_direction
from capvec.directions.study_direction import StudyDirection
from capvec.errors import UsageError
from capvec.plan.options import SweepOptions
from capvec.plan.plan import Plan, SteeringMode, config_name, control_configs, steered_config
from capvec.records import Config, Outcome
from capvec.results.results import Judgement
from capvec.results.zero_control import judge_zero
from capvec.run.directions import obtain_direction
from capvec.run.study import StudyContext, StudyDesign
from capvec.sandbox.compose_file import check_services
from capvec.stats.summary import Summary
from capvec.tasks import load_tasks
from capvec.traces import check_traces


class SweepStudy:
    """One direction at the requested layers and strengths, with controls, compared with the baseline."""

    name = "sweep"

    def __init__(self, options: SweepOptions) -> None:
        """Read the tasks, and check the direction's files as far as that is possible without the model's shape.

        Raises:
            UsageError: a bad task folder, or a file that is missing or unreadable.
        """
        for option, named in (("--direction", options.direction), ("--reference", options.reference)):
            if named is not None:
                named_direction(option, named)
        if options.traces is not None:
            check_traces(Path(options.traces))
        self.options = options
        loaded = load_tasks(
            options.tasks,
            skip=options.skip_unsupported,
            allow_network=options.allow_network,
            force_build=options.force_build,
            check=check_services,
        )
        self.tasks, self.left_out = loaded.tasks, loaded.left_out

    @property
    def asked(self) -> Mapping[str, Any]:
        return self.options.recorded(self.name)

    def config_names(self) -> tuple[Config, ...]:
        layers: Sequence[tuple[int, ...] | str] = self.options.layers or ("auto",)
        unit, mode = self.options.alpha_unit, self._mode
        names = [config_name(where, alpha, unit, mode) for where in layers for alpha in self._alphas]
        return (Config(Config.BASELINE, "baseline"), *(Config(name, "steered") for name in names))

    def design(self, context: StudyContext) -> StudyDesign:
        options = self.options
        obtained = obtain_direction(options, context.client, context.health, context.folder, context.say)
        if obtained.built is not None:
            for warning in obtained.built.warnings():
                context.say(warning)
        steered = [
            steered_config(obtained.direction, layers, alpha, options.alpha_unit, self._mode)
            for layers in self._layers(obtained, context)
            for alpha in self._alphas
        ]
        for one in (one for config in steered for one in config.steers if one.op == "add"):
            obtained.direction.check_strength(one.alpha, one.layer, context.health.dtype)
        controls = control_configs(options.controls, steered, obtained.direction, obtained.controls)
        return StudyDesign((Config(Config.BASELINE, "baseline"), *steered, *controls), obtained)

    @property
    def _mode(self) -> SteeringMode:
        return SteeringMode(self.options.op, self.options.positions, self.options.keep_norm)

    @property
    def _alphas(self) -> Sequence[float | None]:
        """An ablation has no strength, so there is one config per layer."""
        return (None,) if self.options.op == "ablate" else self.options.alphas

    def judge(
        self,
        plan: Plan,
        outcomes: Sequence[Outcome],
        summary: Summary,  # noqa: ARG002
        design: StudyDesign,  # noqa: ARG002
    ) -> Judgement:
        """Judge the `zero` control, whose replies must be the baseline's."""
        return Judgement(judge_zero(plan, outcomes))

    def _layers(self, obtained: StudyDirection, context: StudyContext) -> tuple[tuple[int, ...], ...]:
        layers = self.options.layers
        if layers is None:
            if obtained.ranking is None:
                return self._layers_of_file(obtained, context)
            context.say(f"--layer auto takes layer {obtained.ranking.best.layer}. {obtained.ranking.verdict()}")
            layers = ((obtained.ranking.best.layer,),)
        last = context.health.n_layers - 1
        for layer in (layer for group in layers for layer in group):
            if layer > last:
                raise UsageError(f"--layer {layer}: the model has {last + 1} layers, 0 to {last}")
        return layers

    def _layers_of_file(self, obtained: StudyDirection, context: StudyContext) -> tuple[tuple[int, ...], ...]:
        """`--layer auto` for a direction from a file."""
        layer = obtained.direction.layer
        if layer is None:
            raise UsageError(
                "--layer auto needs a ranking, or a file that names one layer, and --direction brings neither: "
                "name layers, as --layer 22"
            )
        context.say(f"--layer auto takes layer {layer}, the one that {obtained.source} names")
        return ((layer,),)
