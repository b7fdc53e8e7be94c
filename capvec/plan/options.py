"""What the user typed, checked before anything slow starts."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from capvec.arguments import at_least, choice, number, split
from capvec.directions.recipe import Recipe, parse_recipe
from capvec.errors import UsageError
from capvec.models import POCKET
from capvec.records import AlphaUnit
from capvec.serial import Record
from capvec.steering import Op, Positions

ControlKind = Literal["zero", "random", "shuffled", "orthogonal", "negated", "prompt"]
_COUNTED: tuple[ControlKind, ...] = ("random", "shuffled", "orthogonal")
_EARLIER_KINDS = {"flip": "negated"}
"""Spelling of an earlier capvec → that of today."""
_DEFAULTS = {
    "alpha": "4",
    "alpha_unit": "stored",
    "layer": "auto",
    "op": "add",
    "positions": "all",
    "tasks": "multi",
    "attempts": "1",
    "controls": "",
    "seed": "0",
    "temperature": "0.7",
    "protocol": "bash-block",
}
"""Of a sweep. Here and not with the options of the command line, which must tell what was typed from what was not."""
_RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Control(Record):
    """A kind of control config, and how many of it."""

    kind: ControlKind
    count: int = 1


@dataclass(frozen=True)
class SweepOptions(Record):
    """The user's contract, parsed. Field by field as in `pytest --help`."""

    alphas: tuple[float, ...] = (4.0,)
    alpha_unit: AlphaUnit = "stored"
    layers: tuple[tuple[int, ...], ...] | None = None
    """Each entry is steered in a config of its own, at all of its layers; None stands for `auto`."""
    model: str = POCKET
    """Or the URL of the engine that has one."""
    direction: str | None = None
    traces: str | None = None
    recipe: Recipe = field(default_factory=Recipe)
    """How the direction is built from the traces."""
    reference: str | None = None
    """A direction file to compare with, layer by layer."""
    op: Op = "add"
    positions: Positions = "all"
    keep_norm: bool = False
    tasks: str = "multi"
    attempts: int = 1
    controls: tuple[Control, ...] = ()
    seed: int = 0
    run: str | None = None
    resume: bool = False
    gate: str | None = None
    sequential: bool = False
    base_url: str | None = None
    max_steps: int | None = None
    """None stands for what suits the model, as the next one does."""
    max_tokens: int | None = None
    temperature: float = 0.7
    protocol: str = "bash-block"
    effect: float | None = None
    """A rise of the pass rate that would matter; None for the verdict's margin. This and the next two are for what is
    said of the sweep's power."""
    base_rate: float | str | None = None
    """The baseline's, or an earlier run's folder."""
    spread: float | None = None
    """Logit SD between tasks."""
    chosen: str | None = None
    """For a calibration: the file of chosen layers and strengths; None stands for the bundled one."""
    command_line: tuple[str, ...] = field(default=())


def parse_options(raw: dict[str, Any]) -> SweepOptions:
    """Turn raw option strings (keys as the fields of `SweepOptions`) into a checked record.

    What is None or absent gets the sweep's default, where there is one.

    Raises:
        UsageError: naming the option, what was received and what was expected.
    """
    if raw.get("base_url") is not None and raw.get("model") is not None:
        raise UsageError(
            f"--model {raw['model']} and --base-url {raw['base_url']}: the engine there has a model; drop one"
        )
    raw = _DEFAULTS | {name: value for name, value in raw.items() if value is not None}
    run = raw.get("run")
    if run is not None and not _RUN_NAME.fullmatch(run):
        raise UsageError(f"--run {run!r}: expected a folder name of letters, digits, '.', '_' and '-'")
    if raw.get("resume") and run is None:
        raise UsageError("--resume needs --run NAME: say which run under reports/ to resume")
    if raw.get("direction") and raw.get("traces"):
        raise UsageError("--direction and --traces were both given: a direction is either loaded or built; drop one")
    if raw.get("direction") and raw.get("reference"):
        raise UsageError(
            "--direction and --reference were both given: the reference is for the ranking of a direction that is "
            "built, and a file brings none; drop one"
        )
    op, controls = choice("--op", raw["op"], get_args(Op)), parse_controls(raw["controls"])
    if op == "ablate" and any(control.kind == "negated" for control in controls):
        raise UsageError("--controls negated with --op ablate: an ablation has no sign to change; leave negated out")
    return SweepOptions(
        alphas=parse_alphas(raw["alpha"]),
        alpha_unit=choice("--alpha-unit", raw["alpha_unit"], get_args(AlphaUnit)),
        layers=parse_layers(raw["layer"]),
        model=raw.get("model") or raw.get("base_url") or POCKET,
        direction=raw.get("direction"),
        traces=raw.get("traces"),
        recipe=parse_recipe(raw),
        reference=raw.get("reference"),
        op=op,
        positions=choice("--positions", raw["positions"], get_args(Positions)),
        keep_norm=bool(raw.get("keep_norm")),
        tasks=raw["tasks"],
        attempts=at_least("--attempts", raw["attempts"], 1),
        controls=controls,
        seed=at_least("--seed", raw["seed"], 0),
        run=run,
        resume=bool(raw.get("resume")),
        gate=raw.get("gate"),
        sequential=bool(raw.get("sequential")),
        base_url=raw.get("base_url"),
        max_steps=at_least("--max-steps", raw["max_steps"], 1) if raw.get("max_steps") is not None else None,
        max_tokens=at_least("--max-tokens", raw["max_tokens"], 1) if raw.get("max_tokens") is not None else None,
        temperature=number("--temperature", raw["temperature"], minimum=0.0),
        protocol=raw["protocol"],
        effect=_share("--effect", raw["effect"]) if raw.get("effect") is not None else None,
        base_rate=parse_base_rate(raw["base_rate"]) if raw.get("base_rate") is not None else None,
        spread=number("--spread", raw["spread"], minimum=0.0) if raw.get("spread") is not None else None,
        chosen=raw.get("chosen"),
        command_line=tuple(raw.get("command_line", ())),
    )


def parse_alphas(text: str) -> tuple[float, ...]:
    """`"2,4,8"` → `(2.0, 4.0, 8.0)`; doubles are dropped.

    Raises:
        UsageError: an entry is not a finite number, or is 0 (which is the control `zero`).
    """
    alphas = tuple(dict.fromkeys(number("--alpha", part) for part in split("--alpha", text)))
    names = [f"{alpha:g}" for alpha in alphas]
    if len(set(names)) < len(names):
        raise UsageError(f"--alpha {text!r}: two strengths read the same to six digits, and name the same config")
    if 0.0 in alphas:
        raise UsageError(
            "--alpha 0 steers nothing: use --controls zero, which installs the hook and checks the tokens, or "
            "--op ablate, which sets the projection to 0"
        )
    return alphas


def parse_layers(text: str) -> tuple[tuple[int, ...], ...] | None:
    """`"20+22,30"` → `((20, 22), (30,))`: layers joined by `+` are steered together; `"auto"` → None.

    Raises:
        UsageError: an entry is not a whole number ≥ 0, or joins a layer with itself. The upper end is checked once the
            model is known.
    """
    if text.strip() == "auto":
        return None
    groups = []
    for part in split("--layer", text):
        group = sorted(
            at_least("--layer", layer.strip(), 0, "or 'auto', as in 22,30 or 20+22") for layer in part.split("+")
        )
        if len(set(group)) < len(group):
            raise UsageError(f"--layer {part!r}: a layer is named twice; expected different layers, as in 20+22")
        groups.append(tuple(group))
    return tuple(dict.fromkeys(groups))


def parse_controls(text: str) -> tuple[Control, ...]:
    """`"zero,random:3,negated"` → one `Control` each.

    Raises:
        UsageError: an unknown kind, a count where none belongs, or no count where one is needed.
    """
    controls = []
    for part in text.split(",") if text.strip() else ():
        name, colon, count = part.strip().partition(":")
        kind: ControlKind = choice("--controls", _EARLIER_KINDS.get(name, name), get_args(ControlKind))
        if kind in _COUNTED:
            number = at_least(f"--controls {kind}", count, 1, f"as in {kind}:3") if colon else 1
            controls.append(Control(kind, number))
        elif colon:
            raise UsageError(f"--controls {part.strip()!r}: {kind} takes no count; only {', '.join(_COUNTED)} do")
        else:
            controls.append(Control(kind))
    if len({control.kind for control in controls}) < len(controls):
        raise UsageError(f"--controls {text!r}: a kind is named twice")
    return tuple(controls)


def parse_base_rate(text: str) -> float | str:
    """`"0.4"` → 0.4; what is no number is the folder of an earlier run.

    Raises:
        UsageError: a number that is not between 0 and 1.
    """
    try:
        float(text)
    except ValueError:
        return text
    return _share("--base-rate", text)


def _share(option: str, text: str) -> float:
    value = number(option, text)
    if not 0 < value < 1:
        what = "a pass rate" if option == "--base-rate" else "a difference in pass rate"
        raise UsageError(f"{option} {text!r}: expected {what} between 0 and 1, as in {option} 0.2")
    return value
