"""Which trials a sweep makes, and in which order. Pure: the same inputs give the same plan on every worker."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from capvec.directions.record import Direction
from capvec.errors import UsageError
from capvec.pocket import ModelSource
from capvec.records import AlphaUnit, Config, ControlOf, Record, Steer, Task, TrialSpec
from capvec.sweep.options import Control, SweepOptions

ConfigKind = Literal["steered", "control"]
PROMPT_CONTROL = "Work carefully. Check the result of each command before you finish. Do the task completely."
"""What the `prompt` control adds to the system prompt: a plain instruction to do better, no vector."""


@dataclass(frozen=True)
class Settings(Record):
    """How the agent acts in every trial of the sweep."""

    model: str
    protocol: str
    prompt_style: str
    max_steps: int
    max_tokens: int
    temperature: float


def settings_for(options: SweepOptions, source: ModelSource, model: str) -> Settings:
    """What the user asked for, and what suits the model where the user did not say.

    Args:
        options: the user's.
        source: where the model comes from.
        model: what its engine calls it.
    """
    return Settings(
        model=model,
        protocol=options.protocol,
        prompt_style=source.prompt_style,
        max_steps=options.max_steps or source.max_steps,
        max_tokens=options.max_tokens or source.max_tokens,
        temperature=options.temperature,
    )


@dataclass(frozen=True)
class Plan(Record):
    """Everything a worker needs to know, except where the engine is."""

    run: str
    folder: Path
    tasks: tuple[Task, ...]
    configs: tuple[Config, ...]
    trials: tuple[TrialSpec, ...]
    settings: Settings
    study: str = "sweep"
    """The kind of study: also the mark that asks for it, and part of the name of its file in the suite."""

    def task(self, name: str) -> Task:
        return next(task for task in self.tasks if task.name == name)

    def config(self, name: str) -> Config:
        return next(config for config in self.configs if config.name == name)


def trial_seed(base: int, task: str, attempt: int) -> int:
    """The seed that all configs of one (task, attempt) share: 31 bits of SHA-256 over base, task and attempt."""
    digest = hashlib.sha256(f"{base}/{task}/{attempt}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def interleave(tasks: Sequence[Task], configs: Sequence[Config], attempts: int, seed: int) -> tuple[TrialSpec, ...]:
    """Every (task, config, attempt) once, the configs of a (task, attempt) side by side, rotated from one to the next.

    So no config runs early or late as a block, and drift of the machine cannot pass for an effect.
    """
    trials = []
    for attempt in range(1, attempts + 1):
        for position, task in enumerate(tasks):
            turn = (position + attempt) % len(configs)
            trials += [
                TrialSpec(task.name, config.name, attempt, trial_seed(seed, task.name, attempt))
                for config in (*configs[turn:], *configs[:turn])
            ]
    return tuple(trials)


def steered_config(direction: Direction, layer: int, alpha: float, unit: AlphaUnit) -> Config:
    """The config `steered-L<layer>-a<alpha>`; another unit than `stored` is part of the name."""
    suffix = "" if unit == "stored" else f"-{unit}"
    return make_config(f"steered-L{layer}-a{alpha:g}{suffix}", "steered", direction, layer, alpha, unit)


def control_configs(
    controls: Sequence[Control],
    steered: Sequence[Config],
    direction: Direction,
    twins: dict[str, Sequence[Direction]],
) -> tuple[Config, ...]:
    """One config per control of every steered config (one `prompt` config in all).

    Args:
        controls: as `--controls` asked for.
        steered: the configs to control for.
        direction: the direction they steer with.
        twins: `random`, `shuffled` and `orthogonal` directions, as many as the controls count.
    """
    configs: list[Config] = []
    for control in controls:
        if control.kind == "prompt":
            of = ControlOf("prompt", tuple(base.name for base in steered))
            configs.append(Config("prompt", "control", system_suffix=PROMPT_CONTROL, control=of))
        for base in steered if control.kind != "prompt" else ():
            layer, alpha, unit = base.layer, base.alpha, base.alpha_unit
            if layer is None or alpha is None:
                raise UsageError(
                    f"config {base.name}: a steered config needs a layer and an alpha to be controlled for"
                )
            where, of = base.name.removeprefix("steered-"), ControlOf(control.kind, (base.name,))
            if control.kind == "zero":
                name = f"zero-L{layer}"
                if all(config.name != name for config in configs):
                    of = ControlOf("zero", tuple(other.name for other in steered if other.layer == layer))
                    configs.append(make_config(name, "control", direction, layer, 0.0, unit, of))
            elif control.kind == "flip":
                configs.append(make_config(f"flip-{where}", "control", direction, layer, -alpha, unit, of))
            else:
                configs += [
                    make_config(f"{control.kind}{number}-{where}", "control", twin, layer, alpha, unit, of)
                    for number, twin in enumerate(twins[control.kind], start=1)
                ]
    return tuple(configs)


def make_config(
    name: str,
    kind: ConfigKind,
    direction: Direction,
    layer: int,
    alpha: float,
    unit: AlphaUnit = "stored",
    control: ControlOf | None = None,
) -> Config:
    """A config that adds `alpha` times a direction at one layer.

    Raises:
        UsageError: the direction is zero there, or its ambient norm is needed and not known.
    """
    stored = direction.stored_alpha(alpha, unit, layer)
    return Config(
        name=name,
        kind=kind,
        steers=(Steer(layer, direction.hash, stored),),
        shifts=(stored * float(direction.norms[layer]),),
        layer=layer,
        alpha=alpha,
        alpha_unit=unit,
        dose=direction.dose(stored, layer),
        control=control,
    )
