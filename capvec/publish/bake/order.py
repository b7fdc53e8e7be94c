"""What was asked for, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from capvec.arguments import at_least, choice, number
from capvec.errors import UsageError
from capvec.publish.bake.record import BakeOp
from capvec.records import AlphaUnit


@dataclass(frozen=True)
class BakeOrder:
    """One call of `capvec bake`."""

    model: str
    direction: Path
    layers: tuple[int, ...]
    out: Path
    op: BakeOp = "add"
    alpha: float | None = None
    """In `alpha_unit`; None for an ablation, which has no strength."""
    alpha_unit: AlphaUnit = "stored"

    def in_words(self) -> str:
        """The steer, for whoever waits."""
        if self.op == "add":
            layers = " and ".join(str(layer) for layer in self.layers)
            return f"adding {self.alpha:g} ({self.alpha_unit}) times the direction after block {layers}"
        return (
            f"removing the direction of layer {self.layers[0]} from every write into the residual (the sweep's "
            "--op ablate removes it at one block's output, which no edit of weights can do)"
        )


def parse_order(raw: Mapping[str, Any]) -> BakeOrder:
    """The command line as an order.

    Raises:
        UsageError: naming the option, what was received and what was expected.
    """
    if raw["op"] == "set":
        raise UsageError(
            "--op set cannot be baked: what brings a component to a value depends on the component that arrives, which "
            "no weight or bias knows; steer it by hooks, or bake ablate, then add into the folder that comes out"
        )
    op: BakeOp = choice("--op", raw["op"], get_args(BakeOp))
    parts = raw["layer"].split("+")
    layers = tuple(at_least("--layer", part.strip(), 0, "or several, as in 22+26") for part in parts)
    if len(set(layers)) < len(layers):
        raise UsageError(f"--layer {raw['layer']!r}: a layer is named twice; use twice the --alpha for that")
    out, direction = Path(raw["out"]), Path(raw["direction"])
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"--out {out}: it exists and is not an empty folder; name a new one")
    if not direction.is_file():
        raise UsageError(f"--direction {direction}: no such file; expected a direction as a sweep writes it")
    unit: AlphaUnit = choice("--alpha-unit", raw["alpha_unit"], get_args(AlphaUnit))
    return BakeOrder(raw["model"], direction, layers, out, op, _alpha(op, raw["alpha"], layers), unit)


def _alpha(op: BakeOp, text: str | None, layers: tuple[int, ...]) -> float | None:
    if op == "ablate":
        if text is not None:
            raise UsageError(f"--alpha {text}: an ablation removes the whole direction and has no strength; drop it")
        if len(layers) > 1:
            raise UsageError(
                f"--layer {'+'.join(map(str, layers))}: an ablation removes one direction, that of one layer, from "
                "every write; name one layer (and bake the baked folder again for another)"
            )
        return None
    if text is None:
        raise UsageError("--op add needs --alpha A, the strength of what is added")
    alpha = number("--alpha", text)
    if alpha == 0.0:
        raise UsageError("--alpha 0 adds nothing, so there is nothing to bake")
    return alpha
