"""Parsers of options whose values have a form of their own: strengths, layers, controls, arguments, rates."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

from capvec.arguments import at_least, choice, number, split
from capvec.engines.generation import MOST_ALPHA, TEMPERATURES
from capvec.errors import UsageError
from capvec.serial import Record

ControlKind = Literal["zero", "random", "shuffled", "orthogonal", "negated", "prompt", "constrained"]
_COUNTED: tuple[ControlKind, ...] = ("random", "shuffled", "orthogonal")
_EARLIER_KINDS = {"flip": "negated"}
"""Spelling of an earlier capvec → that of today."""
_CONTEXT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]+")
_SCHEMES = ("unix", "tcp", "ssh", "http", "https", "npipe")
_RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Control(Record):
    """A kind of control config, and how many of it."""

    kind: ControlKind
    count: int = 1


@dataclass(frozen=True)
class Shard(Record):
    """One of several parts of a plan."""

    number: int
    """From 1."""
    of: int
    """Number of parts."""


def parse_temperature(text: str | float) -> float:
    """0, or a temperature at which every engine draws.

    Raises:
        UsageError: it is none.
    """
    least, most = TEMPERATURES
    if (value := number("--temperature", text)) != 0 and not least <= value <= most:
        raise UsageError(f"--temperature {text!r}: expected 0, or a number from {least:g} to {most:g}")
    return value


def parse_alphas(text: str, option: str = "--alpha") -> tuple[float, ...]:
    """`"2,4,8"` → `(2.0, 4.0, 8.0)`; repeated values are dropped.

    Raises:
        UsageError: an entry is not a finite number, or is 0 (which is the control `zero`).
    """
    alphas = tuple(dict.fromkeys(number(option, part, -MOST_ALPHA, MOST_ALPHA) for part in split(option, text)))
    names = [f"{alpha:g}" for alpha in alphas]
    if len(set(names)) < len(names):
        raise UsageError(
            f"{option} {text!r}: two strengths are the same to six digits and would name the same config; drop one"
        )
    if 0.0 in alphas:
        raise UsageError(
            f"{option} {text!r}: a strength of 0 steers nothing; use --controls zero, which installs the hook and "
            "compares tokens, or --op ablate, which removes the component along the direction"
        )
    return alphas


def parse_layers(text: str, option: str = "--layer") -> tuple[tuple[int, ...], ...] | None:
    """`"20+22,30"` → `((20, 22), (30,))`: layers joined by `+` are steered together; `"auto"` → None.

    Raises:
        UsageError: an entry is not a whole number ≥ 0, or repeats a layer within a group. The upper bound is checked
            when the model is known.
    """
    if text.strip() == "auto":
        return None
    return tuple(dict.fromkeys(parse_layer_group(part, option) for part in split(option, text)))


def parse_layer_group(text: str, option: str = "--layer") -> tuple[int, ...]:
    """`"22 + 20"` → `(20, 22)`.

    Raises:
        UsageError: an entry is not a whole number ≥ 0, or a layer is repeated.
    """
    group = sorted(at_least(option, layer.strip(), 0, "or 'auto', as in 22,30 or 20+22") for layer in text.split("+"))
    if len(set(group)) < len(group):
        raise UsageError(f"{option} {text!r}: a layer is repeated; expected different layers, as in 20+22")
    return tuple(group)


def parse_grid_layers(text: str, option: str) -> tuple[int, ...]:
    """`"22,30"` → `(22, 30)`, for a grid that steers one layer at a time.

    Raises:
        UsageError: `auto`, joined layers, or what `parse_layers` refuses.
    """
    groups = parse_layers(text, option)
    if groups is None or any(len(group) > 1 for group in groups):
        raise UsageError(f"{option} {text!r}: expected single layers separated by commas, as in {option} 20,22")
    return tuple(layer for (layer,) in groups)


def parse_controls(text: str) -> tuple[Control, ...]:
    """`"zero,random:3,negated"` → one `Control` each.

    Raises:
        UsageError: an unknown kind, a count for a kind that has none, a bad count, or a repeated kind.
    """
    controls = []
    for part in text.split(",") if text.strip() else ():
        name, colon, count = part.strip().partition(":")
        kind: ControlKind = choice("--controls", _EARLIER_KINDS.get(name, name), get_args(ControlKind))
        if kind in _COUNTED:
            controls.append(Control(kind, at_least(f"--controls {kind}", count, 1, f"as in {kind}:3") if colon else 1))
        elif colon:
            raise UsageError(f"--controls {part.strip()!r}: {kind} takes no count; only {', '.join(_COUNTED)} do")
        else:
            controls.append(Control(kind))
    if len({control.kind for control in controls}) < len(controls):
        raise UsageError(f"--controls {text!r}: a kind is repeated; name each once")
    return tuple(controls)


def parse_engine_arg(text: str) -> tuple[str, Any]:
    """`"tensor_parallel_size=2"` → `("tensor_parallel_size", 2)`; a value that is no JSON is a text.

    Raises:
        UsageError: there is no `=`, or what stands before it is no name.
    """
    key, sign, value = text.partition("=")
    key = key.strip().replace("-", "_")
    if not sign or not key.isidentifier():
        raise UsageError(f"--engine-arg {text!r}: expected KEY=VALUE, as in tensor_parallel_size=2")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def parse_docker_host(text: str) -> str:
    """An address of a Docker, or the name of a context of Docker's command line.

    Raises:
        UsageError: it is neither.
    """
    scheme, sign, rest = text.partition("://")
    if (not sign and _CONTEXT.fullmatch(text)) or (scheme in _SCHEMES and rest and _has_port(text)):
        return text
    raise UsageError(
        f"--docker-host {text!r}: expected an address such as ssh://user@machine, tcp://10.0.0.5:2375 or "
        "unix:///run/user/1000/podman/podman.sock, or a context that `docker context ls` lists"
    )


def _has_port(address: str) -> bool:
    """Whether the port of an address, if it has one, is a number."""
    try:
        _ = urlsplit(address).port
    except ValueError:
        return False
    return True


def parse_base_rate(text: str) -> float | str:
    """`"0.4"` → 0.4; a text that is not a number is the folder of an earlier run.

    Raises:
        UsageError: a number that is not between 0 and 1.
    """
    try:
        float(text)
    except ValueError:
        return text
    return parse_share("--base-rate", text, "a pass rate")


def parse_share(option: str, text: str, what: str) -> float:
    """A number between 0 and 1, both excluded.

    Raises:
        UsageError: it is none.
    """
    value = number(option, text)
    if not 0 < value < 1:
        raise UsageError(f"{option} {text!r}: expected {what} between 0 and 1, as in {option} 0.2")
    return value


def parse_above_zero(option: str, text: str, maximum: float = math.inf) -> float:
    """A number above 0, and at most `maximum`.

    Raises:
        UsageError: it is none.
    """
    value = number(option, text)
    if not 0 < value <= maximum:
        raise UsageError(
            f"{option} {text!r}: expected a number above 0{f', at most {maximum:g}' if maximum < math.inf else ''}"
        )
    return value


def parse_shard(text: str) -> Shard:
    """`"3/8"` → the third of eight shards.

    Raises:
        UsageError: it is not two whole numbers with a slash between them, or the first is not between 1 and the second.
    """
    number, slash, of = text.partition("/")
    if not slash:
        raise UsageError(f"--shard {text!r}: expected a shard and the number of shards, as in 3/8")
    shard = Shard(*(at_least("--shard", part.strip(), 1, "as in 3/8") for part in (number, of)))
    if shard.number > shard.of:
        raise UsageError(f"--shard {text!r}: there is no shard {shard.number} of {shard.of}; expected 1 to {shard.of}")
    return shard


def parse_reward_name(text: str) -> str:
    """A name that a verifier may give to a reward.

    Raises:
        UsageError: it is empty, or has characters that cannot be printed.
    """
    if not text or not text.isprintable():
        raise UsageError(f"--reward {text!r}: expected the name of a reward in reward.json, as in --reward accuracy")
    return text


def parse_run_name(text: str) -> str:
    """A name for a folder under `reports/`.

    Raises:
        UsageError: it has other characters than letters, digits, `.`, `_` and `-`, or begins with one of those three.
    """
    if not _RUN_NAME.fullmatch(text):
        raise UsageError(
            f"--run {text!r}: expected a folder name of letters, digits, '.', '_' and '-' that begins with a letter or "
            "digit"
        )
    return text
