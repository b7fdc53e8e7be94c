"""The configs of a sweep, which `capvec serve` publishes too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from capvec.agent.protocols import get_protocol
from capvec.directions.study_direction import StudyDirection
from capvec.errors import EngineUnavailable, UsageError
from capvec.plan.configs import SteeringMode, control_configs, steered_config
from capvec.plan.options import SweepOptions
from capvec.receipts import check_grammar
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
    grammar = _grammar(options, context) if any(one.kind == "constrained" for one in options.controls) else ""
    controls = control_configs(options.controls, steered, obtained.direction, obtained.controls, grammar)
    return StudyDesign((Config(Config.BASELINE, "baseline"), *steered, *controls), obtained)


def _grammar(options: SweepOptions, context: StudyContext) -> str:
    """The grammar of the protocol, by which the engine was found to constrain a reply.

    Raises:
        UsageError: there is none, the model thinks before it answers, or the engine cannot constrain replies by it.
    """
    thinking = context.settings.thinking
    if thinking == "on" or (thinking in (None, "default") and context.health.template.thinks):
        raise UsageError("--controls constrained: the grammars have no thoughts; use --thinking off, or leave it out")
    grammar = get_protocol(options.protocol).grammar
    if not grammar:
        raise UsageError(f"--controls constrained: the protocol {options.protocol} has no grammar; leave it out")
    config = Config("constrained", "control", grammar=grammar)
    asked: dict[str, Any] = {"seed": 0, "max_tokens": context.settings.max_tokens, "temperature": 0.0}
    try:
        said = context.client.complete([{"role": "user", "content": "Say DONE."}], grammar=grammar, **asked)
        check_grammar(said, config)
    except (UsageError, EngineUnavailable) as error:
        raise UsageError(f"--controls constrained: {error}") from error
    return grammar


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
