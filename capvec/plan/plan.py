"""Which trials a sweep makes, and in which order. Pure: the same inputs give the same plan on every worker."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path
from typing import Literal

from capvec.directions.direction import Direction
from capvec.engines.protocol import GenerationDefaults
from capvec.errors import UsageError
from capvec.plan.options import Control, SweepOptions
from capvec.receipts import closed_forms
from capvec.records import AlphaUnit, Config, ControlOf, Task, TrialSpec
from capvec.serial import Record
from capvec.steering import BlockLayout, Op, Positions, Steer, vector_hash
from capvec.text import counted

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


def settings_for(options: SweepOptions, defaults: GenerationDefaults, model: str) -> Settings:
    """What the user asked for, and what suits the model where the user did not say.

    Args:
        options: the user's.
        defaults: of the model, as its engine tells them.
        model: what its engine calls it.
    """
    return Settings(
        model=model,
        protocol=options.protocol,
        prompt_style=defaults.prompt_style,
        max_steps=options.max_steps or defaults.max_steps,
        max_tokens=options.max_tokens or defaults.max_tokens,
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
    sequential: bool = False
    """Whether configs may stop before their last trial (`--sequential`)."""
    layout: BlockLayout = field(default_factory=BlockLayout)
    """Of the model that the engine serves; empty in a plan that steers nothing, or is only read."""
    effect: float | None = None
    """A difference in pass rate that would matter, as the user said; None for the verdict's (`looks.margin_of`)."""
    merged: tuple[str, ...] = ()
    """Of a plan that is read from several runs' merger: what a report has to say of them."""

    @property
    def title(self) -> str:
        """`Sweep NAME`; the study alone where the run is called the same."""
        return self.study.capitalize() + (f" {self.run}" if self.run != self.study else "")

    @property
    def size(self) -> str:
        """`2 configs × 6 tasks × 1 attempt`."""
        attempts = max(trial.attempt for trial in self.trials)
        sizes = {"config": len(self.configs), "task": len(self.tasks), "attempt": attempts}
        return " × ".join(counted(number, thing) for thing, number in sizes.items())

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


@dataclass(frozen=True)
class SteeringMode:
    """How a config steers, beside where, how strongly and along what; as in `Steer`."""

    op: Op = "add"
    positions: Positions = "all"
    keep_norm: bool = False

    @property
    def suffix(self) -> str:
        """The end of a config's name: which tokens, and whether the norm is kept, where that is not the default."""
        where = f"-{self.positions}" if self.positions != "all" else ""
        return where + ("-keepnorm" if self.keep_norm else "")


PLAIN = SteeringMode()
"""As the seed steered: added, at every position."""


def config_name(
    layers: Sequence[int] | str, alpha: float | None, unit: AlphaUnit = "stored", manner: SteeringMode = PLAIN
) -> str:
    """`steered-L22-a4`, `set-L20+22-a4-generated`, `ablate-L22`: what is not the default is part of the name.

    Args:
        layers: one or several; a text for those that are not known yet.
        alpha: None for `ablate`, which has none.
        unit: of `alpha`.
        manner: how it steers.
    """
    where = layers if isinstance(layers, str) else layers_label(layers)
    head = f"{'steered' if manner.op == 'add' else manner.op}-L{where}"
    strength = f"-a{alpha:g}" if alpha is not None else ""
    measure = f"-{unit}" if unit != "stored" and alpha is not None else ""
    return head + strength + measure + manner.suffix


def layers_label(layers: Sequence[int]) -> str:
    """`22`, or `20+22`."""
    return "+".join(map(str, layers))


def steered_config(
    direction: Direction,
    layers: int | Sequence[int],
    alpha: float | None,
    unit: AlphaUnit = "stored",
    manner: SteeringMode = PLAIN,
) -> Config:
    """The config that `config_name` names.

    Raises:
        UsageError: as `make_config`.
    """
    where = (layers,) if isinstance(layers, int) else tuple(layers)
    return make_config(config_name(where, alpha, unit, manner), "steered", direction, where, alpha, unit, manner)


def control_configs(
    controls: Sequence[Control],
    steered: Sequence[Config],
    direction: Direction,
    matched: Mapping[str, Sequence[Direction]],
) -> tuple[Config, ...]:
    """One config per control of every steered config (one `prompt` config in all).

    A control steers where the config steers that it controls for, and as it does; `zero` adds α = 0 there, whatever the
    operation is, since setting to 0 would be an ablation.

    Args:
        controls: as `--controls` asked for.
        steered: the configs to control for.
        direction: the direction they steer with.
        matched: kind of matched control (`random`, `shuffled`, `orthogonal`) to its directions, as many as the
            control counts.

    Raises:
        UsageError: `negated` of an ablation, which has no sign.
    """
    configs: dict[str, Config] = {}
    for control in controls:
        if control.kind == "prompt":
            of = [(Config("prompt", "control", system_suffix=PROMPT_CONTROL), base) for base in steered]
        else:
            of = [(config, base) for base in steered for config in _controls_for(base, control, direction, matched)]
        for config, base in of:
            # One α = 0 serves every strength at a layer, and one prompt the whole sweep.
            earlier = configs[config.name].control if config.name in configs else None
            bases = (*(earlier.configs if earlier else ()), base.name)
            configs[config.name] = replace(config, control=ControlOf(control.kind, bases))
    return tuple(configs.values())


def _controls_for(
    base: Config, control: Control, direction: Direction, matched: Mapping[str, Sequence[Direction]]
) -> Iterator[Config]:
    first, where = base.steers[0], base.name.removeprefix("steered-")
    layers, unit = [steer.layer for steer in base.steers], base.alpha_unit
    manner = SteeringMode(first.op, first.positions, first.keep_norm)
    if control.kind == "zero":
        name = f"zero-L{base.layer}{manner.suffix}"
        yield make_config(name, "control", direction, layers, 0.0, unit, replace(manner, op="add"))
    elif control.kind == "negated":
        if base.alpha is None:
            raise UsageError(f"--controls negated: {base.name} has no alpha whose sign could change; leave negated out")
        yield make_config(f"negated-{where}", "control", direction, layers, -base.alpha, unit, manner)
    else:
        for number, one in enumerate(matched[control.kind], start=1):
            name = f"{control.kind}{number}-{where}"
            yield make_config(name, "control", one, layers, base.alpha, unit, manner)


def make_config(
    name: str,
    kind: ConfigKind,
    direction: Direction,
    layers: int | Sequence[int],
    alpha: float | None,
    unit: AlphaUnit = "stored",
    manner: SteeringMode = PLAIN,
) -> Config:
    """A config that steers with a direction at one or several layers, by the same α at each.

    Args:
        name: unique within the sweep.
        kind: whether it is what the sweep is about, or a control of it.
        direction: v_L of every layer.
        layers: decoder blocks, from 0.
        alpha: in `unit`; not used by `ablate`, whose config has neither α nor dose.
        unit: of `alpha`; what it means in stored units differs from layer to layer.
        manner: how it steers.

    Raises:
        UsageError: the direction is zero there, its ambient norm is needed and not known, or there is no α where one is
            needed.
    """
    where = (layers,) if isinstance(layers, int) else tuple(layers)
    if manner.op == "ablate":
        alpha, used, unit = None, 1.0, "stored"
    elif alpha is None:
        raise UsageError(f"config {name}: {manner.op} without an alpha; expected one, since only `ablate` has none")
    else:
        used = alpha
    steers = tuple(
        Steer(layer, direction.hash, direction.stored_alpha(used, unit, layer), *astuple(manner)) for layer in where
    )
    doses = [direction.dose(steer.alpha, steer.layer) for steer in steers] if alpha is not None else []
    return Config(
        name=name,
        kind=kind,
        steers=steers,
        targets=closed_forms(steers, [direction.vectors[layer] for layer in where]),
        vectors=tuple(vector_hash(direction.vectors[layer]) for layer in where),
        layer=where[0] if len(where) == 1 else layers_label(where),
        alpha=alpha,
        alpha_unit=unit,
        dose=max((dose for dose in doses if dose is not None), default=None),
    )
