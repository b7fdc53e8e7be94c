"""The configs of a run: what each is called, how it steers, and which of them control for which."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from math import isclose
from typing import Literal

from capvec.directions.direction import Direction
from capvec.errors import UsageError
from capvec.plan.option_parsers import Control
from capvec.receipts import closed_forms
from capvec.records import AlphaUnit, Config, ControlOf
from capvec.steering import Op, Positions, Steer, vector_hash

ConfigKind = Literal["steered", "control"]
_OF_STEERED = ("steered-", "ablate-", "set-")
"""How the names of steered configs begin."""
UNSTEERED = ("prompt", "constrained")
"""Controls without a vector, and the names of their configs."""
_CONTROL = re.compile(r"(?P<kind>zero|negated|(?:random|shuffled|orthogonal)(?=\d))\d*-(?P<where>.+)")
PROMPT_CONTROL = "Work carefully. Check the result of each command before you finish. Do the task completely."
"""The `prompt` control adds this instruction to the system prompt, and steers with no vector."""


@dataclass(frozen=True)
class SteeringMode:
    """The operation, the positions and the norm of a config's steers; as in `Steer`."""

    op: Op = "add"
    positions: Positions = "all"
    keep_norm: bool = False

    @property
    def suffix(self) -> str:
        """The end of a config's name: its positions and `keepnorm`, where they are not the defaults."""
        where = f"-{self.positions}" if self.positions != "all" else ""
        return where + ("-keepnorm" if self.keep_norm else "")


PLAIN = SteeringMode()
"""The vector is added at every position."""


def config_name(
    layers: Sequence[int] | str, alpha: float | None, unit: AlphaUnit = "stored", mode: SteeringMode = PLAIN
) -> str:
    """The name of a steered config, such as `steered-L22-a4`, `set-L20+22-a4-generated` or `ablate-L22`.

    Args:
        layers: one or several; a text for those that are not known yet.
        alpha: None for `ablate`, which has none.
        unit: of `alpha`.
        mode: of steering; only what differs from the default is part of the name.
    """
    where = layers if isinstance(layers, str) else layers_label(layers)
    head = f"{'steered' if mode.op == 'add' else mode.op}-L{where}"
    strength = f"-a{alpha:g}" if alpha is not None else ""
    measure = f"-{unit}" if unit != "stored" and alpha is not None else ""
    return head + strength + measure + mode.suffix


def layers_label(layers: Sequence[int]) -> str:
    """`22`, or `20+22`."""
    return "+".join(map(str, layers))


def steered_config(
    direction: Direction,
    layers: int | Sequence[int],
    alpha: float | None,
    unit: AlphaUnit = "stored",
    mode: SteeringMode = PLAIN,
) -> Config:
    """The config that `config_name` names.

    Raises:
        UsageError: as `make_config`.
    """
    where = (layers,) if isinstance(layers, int) else tuple(layers)
    return make_config(config_name(where, alpha, unit, mode), "steered", direction, where, alpha, unit, mode)


def control_configs(
    controls: Sequence[Control],
    steered: Sequence[Config],
    direction: Direction,
    matched: Mapping[str, Sequence[Direction]],
    grammar: str = "",
) -> tuple[Config, ...]:
    """The control configs: one per control of every steered config, but a single `prompt` and a single `constrained`.

    A control steers at the layers and in the mode of its config; only `zero` always adds, since setting to 0 ablates.

    Args:
        controls: as `--controls` asked for.
        steered: the configs to control for.
        direction: the direction that they steer with.
        matched: the directions of the matched controls: kind (`random`, `shuffled`, `orthogonal`) → as many directions
            as the control counts.
        grammar: of the replies of `constrained`.

    Raises:
        UsageError: `negated` of an ablation, which has no sign.
    """
    configs: dict[str, Config] = {}
    for control in controls:
        if control.kind == "prompt":
            of = [(Config("prompt", "control", system_suffix=PROMPT_CONTROL), base) for base in steered]
        elif control.kind == "constrained":
            of = [(Config("constrained", "control", grammar=grammar), base) for base in steered]
        else:
            of = [(config, base) for base in steered for config in _controls_for(base, control, direction, matched)]
        for config, base in of:
            # One α = 0 serves every strength at a layer, and one config without a vector the whole sweep.
            earlier = configs[config.name].control if config.name in configs else None
            bases = (*(earlier.configs if earlier else ()), base.name)
            configs[config.name] = replace(config, control=ControlOf(control.kind, bases))
    return tuple(configs.values())


def control_names(control: Control, base: str, layers: int | str | None, mode: SteeringMode = PLAIN) -> tuple[str, ...]:
    """The names of the configs that control for a steered config.

    Args:
        control: which, and how many.
        base: the name of the steered config.
        layers: that it steers, as in its name.
        mode: of its steering.
    """
    where = base.removeprefix("steered-")
    match control.kind:
        case "zero":
            return (f"zero-L{layers}{mode.suffix}",)
        case "negated":
            return (f"negated-{where}",)
        case "random" | "shuffled" | "orthogonal" as kind:
            return tuple(f"{kind}{number}-{where}" for number in range(1, control.count + 1))
        case kind:  # without a vector, one serves the whole sweep
            return (kind,)


def _controls_for(
    base: Config, control: Control, direction: Direction, matched: Mapping[str, Sequence[Direction]]
) -> Iterator[Config]:
    first = base.steers[0]
    layers, unit = [steer.layer for steer in base.steers], base.alpha_unit
    mode = SteeringMode(first.op, first.positions, first.keep_norm)
    names = control_names(control, base.name, base.layer, mode)
    if control.kind == "zero":
        yield make_config(names[0], "control", direction, layers, 0.0, unit, replace(mode, op="add"))
    elif control.kind == "negated":
        if base.alpha is None:
            raise UsageError(f"--controls negated: {base.name} has no alpha whose sign could change; leave negated out")
        yield make_config(names[0], "control", direction, layers, -base.alpha, unit, mode)
    else:
        for name, other in zip(names, matched[control.kind], strict=True):
            yield make_config(name, "control", other, layers, base.alpha, unit, mode)


def control_of(name: str, others: Sequence[str]) -> ControlOf | None:
    """What a config controls for, as its name says: the inverse of the names that `control_configs` gives.

    Args:
        name: of the config.
        others: of those beside it.

    Returns:
        None for a name that is no control's of any of them.
    """
    if name in UNSTEERED:
        bases = tuple(other for other in others if other.startswith(_OF_STEERED))
        return ControlOf(name, bases) if bases else None
    match = _CONTROL.fullmatch(name)
    if match is None:
        return None
    kind, where = match["kind"], match["where"]
    found: list[str] = []
    for other in (other for other in others if other.startswith(_OF_STEERED)):
        its = other.removeprefix("steered-")
        layers = re.search(r"L[\d+]+", its)
        if where == its or (kind == "zero" and layers is not None and where.split("-")[0] == layers[0]):
            found.append(other)
    return ControlOf(kind, tuple(found)) if found else None


def check_named(config: Config) -> None:
    """Check that the steers of a config are those that its name says, so that no name stands for another strength.

    Raises:
        UsageError: they are not, or their receipts could not be checked.
    """
    if not len(config.steers) == len(config.targets) == len(config.vectors):
        raise UsageError(f"{config.name}: expected a target and the hash of a vector for each of its steers")
    if not config.steers:
        if config.name not in (Config.BASELINE, *UNSTEERED):
            raise UsageError(f"{config.name}: has no steers; expected those that its name says")
        return
    modes = {SteeringMode(steer.op, steer.positions, steer.keep_norm) for steer in config.steers}
    expected = {_name(config, mode) for mode in modes}
    if expected != {config.name} or str(config.layer) != layers_label([steer.layer for steer in config.steers]):
        raise UsageError(f"{config.name}: has the steers of {', '.join(sorted(expected))}")
    for steer, target in zip(config.steers, config.targets, strict=True):
        strength = {"stored": steer.alpha, "norm": target}.get(config.alpha_unit)
        if config.alpha is not None and strength is not None and not isclose(strength, config.alpha, rel_tol=1e-6):
            raise UsageError(
                f"{config.name}: a steer at layer {steer.layer} has the strength {strength:g}; expected "
                f"{config.alpha:g}"
            )


def _name(config: Config, mode: SteeringMode) -> str:
    """The name that a config has by its steers: a control's begins as its own name does."""
    layers = [steer.layer for steer in config.steers]
    control = _CONTROL.fullmatch(config.name)
    if control is None:
        return config_name(layers, config.alpha, config.alpha_unit, mode)
    if control["kind"] == "zero" and config.alpha == 0.0:
        return f"zero-L{layers_label(layers)}{mode.suffix}"
    alpha = -config.alpha if control["kind"] == "negated" and config.alpha is not None else config.alpha
    where = config_name(layers, alpha, config.alpha_unit, mode).removeprefix("steered-")
    return f"{config.name[: control.start('where')]}{where}"


def make_config(
    name: str,
    kind: ConfigKind,
    direction: Direction,
    layers: int | Sequence[int],
    alpha: float | None,
    unit: AlphaUnit = "stored",
    mode: SteeringMode = PLAIN,
) -> Config:
    """A config that steers with a direction at one or several layers, by the same α at each.

    Args:
        name: unique within the run.
        kind: `steered` for a config that the study compares with the baseline, `control` for one of its controls.
        direction: v_L of every layer.
        layers: decoder blocks, from 0.
        alpha: in `unit`; `ablate` ignores it, and its config has neither α nor dose.
        unit: of `alpha`; its value in stored units differs from layer to layer.
        mode: of steering.

    Raises:
        UsageError: the direction is zero at a layer, its ambient norm is needed and unknown, or `alpha` is missing.
    """
    where = (layers,) if isinstance(layers, int) else tuple(layers)
    if mode.op == "ablate":
        alpha, used, unit = None, 1.0, "stored"
    elif alpha is None:
        raise UsageError(f"config {name}: --op {mode.op} needs an alpha; give --alpha")
    else:
        used = alpha
    steers = tuple(
        Steer(layer, direction.hash, direction.stored_alpha(used, unit, layer), *astuple(mode)) for layer in where
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
