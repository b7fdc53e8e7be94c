"""The configs of a sweep, which `capvec serve` publishes too."""

from __future__ import annotations

from collections.abc import Sequence

from capvec.directions.study_direction import StudyDirection
from capvec.errors import UsageError
from capvec.plan.options import SweepOptions
from capvec.plan.plan import SteeringMode, control_configs, steered_config
from capvec.records import Config
from capvec.run.directions import obtain_direction
from capvec.run.study import StudyContext, StudyDesign


def design_configs(options: SweepOptions, context: StudyContext) -> StudyDesign:
    """Obtain the direction, send it and its matched controls to the engine, and make the configs.

    Raises:
        UsageError: the options do not fit the model.
        EngineUnavailable: the engine does not answer.
    """
    obtained = obtain_direction(options, context.client, context.health, context.folder, context.say)
    if obtained.built is not None:
        for warning in obtained.built.warnings():
            context.say(warning)
    steered = [
        steered_config(obtained.direction, layers, alpha, options.alpha_unit, mode_of(options))
        for layers in _layers(options, obtained, context)
        for alpha in alphas_of(options)
    ]
    for one in (one for config in steered for one in config.steers if one.op == "add"):
        obtained.direction.check_strength(one.alpha, one.layer, context.health.dtype)
    controls = control_configs(options.controls, steered, obtained.direction, obtained.controls)
    return StudyDesign((Config(Config.BASELINE, "baseline"), *steered, *controls), obtained)


def mode_of(options: SweepOptions) -> SteeringMode:
    """How all configs of a sweep steer."""
    return SteeringMode(options.op, options.positions, options.keep_norm)


def alphas_of(options: SweepOptions) -> Sequence[float | None]:
    """An ablation has no strength, so there is one config per layer."""
    return (None,) if options.op == "ablate" else options.alphas


def _layers(options: SweepOptions, obtained: StudyDirection, context: StudyContext) -> tuple[tuple[int, ...], ...]:
    layers = options.layers
    if layers is None:
        if obtained.ranking is None:
            return _layers_of_file(obtained, context)
        context.say(f"--layer auto takes layer {obtained.ranking.best.layer}. {obtained.ranking.verdict()}")
        layers = ((obtained.ranking.best.layer,),)
    last = context.health.n_layers - 1
    for layer in (layer for group in layers for layer in group):
        if layer > last:
            raise UsageError(f"--layer {layer}: the model has {last + 1} layers, 0 to {last}")
    return layers


def _layers_of_file(obtained: StudyDirection, context: StudyContext) -> tuple[tuple[int, ...], ...]:
    """`--layer auto` for a direction from a file."""
    layer = obtained.direction.layer
    if layer is None:
        raise UsageError(
            "--layer auto needs a ranking, or a file that names one layer, and --direction brings neither: "
            "name layers, as --layer 22"
        )
    context.say(f"--layer auto takes layer {layer}, the one that {obtained.source} names")
    return ((layer,),)
