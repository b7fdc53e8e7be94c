"""The options of `capvec bake`, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from capvec.arguments import at_least, choice, number
from capvec.errors import UsageError
from capvec.publish.bake.record import BakeOp
from capvec.records import AlphaUnit
from capvec.results.lock import refuse_used


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
        """The steer in words, for a line of progress."""
        if self.op == "add":
            layers = " and ".join(str(layer) for layer in self.layers)
            return f"adding {self.alpha:g} ({self.alpha_unit}) times the direction after block {layers}"
        return (
            f"removing the direction of layer {self.layers[0]} from every write into the residual (a sweep's "
            "--op ablate removes it at one block's output, which is not an edit of weights)"
        )


def parse_order(raw: Mapping[str, Any]) -> BakeOrder:
    """Turn the options of the command line into an order.

    Raises:
        UsageError: an option is wrong; the message names it, its value and what was expected.
    """
    if raw["op"] == "set":
        raise UsageError(
            "--op set cannot be baked, because it adds another vector at every token. Bake ablate, then add into the "
            "resulting folder."
        )
    op: BakeOp = choice("--op", raw["op"], get_args(BakeOp))
    parts = raw["layer"].split("+")
    layers = tuple(at_least("--layer", part.strip(), 0, "or several, as in 22+26") for part in parts)
    if len(set(layers)) < len(layers):
        raise UsageError(f"--layer {raw['layer']!r}: a layer is named twice; double --alpha instead")
    out, direction = Path(raw["out"]), Path(raw["direction"])
    refuse_used(out, "--out")
    if not direction.is_file():
        raise UsageError(f"--direction {direction}: no such file; expected a direction as a sweep writes it")
    unit: AlphaUnit = choice("--alpha-unit", raw["alpha_unit"], get_args(AlphaUnit))
    return BakeOrder(raw["model"], direction, layers, out, op, _alpha(op, raw["alpha"], layers), unit)


def _alpha(op: BakeOp, text: str | None, layers: tuple[int, ...]) -> float | None:
    if op == "ablate":
        if text is not None:
            raise UsageError(f"--alpha {text}: an ablation has no strength; leave the option out")
        if len(layers) > 1:
            raise UsageError(
                f"--layer {'+'.join(map(str, layers))}: an ablation removes the direction of one layer; "
                "name one, and bake the resulting folder again for another"
            )
        return None
    if text is None:
        raise UsageError("--op add needs --alpha A, the strength of the steer")
    alpha = number("--alpha", text)
    if alpha == 0.0:
        raise UsageError("--alpha 0 adds nothing; expected another number")
    return alpha
