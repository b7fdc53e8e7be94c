"""Steer a model of transformers with a direction: the public `capvec.steer`."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, SupportsIndex, get_args

from capvec.directions.direction import Direction
from capvec.directions.found import unsteerable
from capvec.engines.transformers.calls import Receipts, residual_path, steer_calls
from capvec.errors import UsageError
from capvec.records import AlphaUnit
from capvec.steering import Op, Positions, Steer

if TYPE_CHECKING:
    from torch import nn


@contextmanager
def steer(
    model: nn.Module,
    direction: Direction,
    *,
    layer: SupportsIndex | Sequence[SupportsIndex],
    alpha: float | None = None,
    alpha_unit: AlphaUnit = "stored",
    op: Op = "add",
    positions: Positions = "all",
    keep_norm: bool = False,
) -> Iterator[Receipts]:
    """Steer every forward pass of a model inside the block, `generate` included, and check that it was steered.

    The steer and the check are those of a sweep. At the end of the block every call is checked, and the hooks are gone,
    after an exception too. Blocks nest, and their steers apply together.

    Padding is neither steered nor measured. It is known from a 2-D `attention_mask`; without one, no position is
    padding. After a row has ended, `generate` goes on with padding tokens that its mask does not mark: they count as
    generated. A pass over one token that goes on from a cache filled inside the block counts as generated, every other
    one as a prompt. `generate` with `use_cache=False` therefore has prompts only.

    Args:
        model: a decoder-only model of transformers, on any device and in any floating-point dtype.
        direction: v_L of each layer, `[n_layers, d_model]`.
        layer: decoder block L, counted from 0, or several; the block's output is steered.
        alpha: strength, in `alpha_unit`; required unless `op` is `ablate`, which has none.
        alpha_unit: `stored` multiplies v_L, `norm` the unit vector d_L, and `ambient` d_L times the direction's ambient
            norm.
        op: `add` adds α·v_L; `ablate` removes the component along d_L; `set` makes it α·‖v_L‖.
        positions: `all`, `prompt` or `generated`.
        keep_norm: rescale the residual to its length before the steer.

    Yields:
        The receipts, a sequence that grows with each call: one `Receipt` for each layer, row of the batch and call
        (a prompt and the tokens generated after it). `receipts.check()` checks those so far.

    Raises:
        UsageError: an argument is of a wrong type, or does not fit the model; no hook was installed then. In a forward
            pass: `attention_mask` is not 2-D.
        SteeringFault: at the end of the block, if a receipt does not show the steer, or the model was not called.

    Examples:
        >>> import capvec
        >>> direction = capvec.Direction.read(path)
        >>> with capvec.steer(model, direction, layer=1, alpha=4.0) as receipts:
        ...     reply = model.generate(**prompt, max_new_tokens=8)
        >>> f"{receipts[0].steered} positions, {receipts[0].shift_mean / direction.norms[1]:.3f} times the vector"
        '12 positions, 4.000 times the vector'
    """
    layers = _layers(layer)
    _check_fit(model, direction, layers)
    _check_words(alpha_unit, op, positions)
    strength = _strength(alpha, op)
    steers = [
        Steer(
            number,
            direction.hash,
            1.0 if strength is None else direction.stored_alpha(strength, alpha_unit, number),
            op,
            positions,
            keep_norm,
        )
        for number in layers
    ]
    for one in steers if op == "add" else ():
        direction.check_strength(one.alpha, one.layer, str(next(model.parameters()).dtype).removeprefix("torch."))
    with steer_calls(model, steers, [direction.vectors[number] for number in layers]) as receipts:
        yield receipts


def _layers(layer: Any) -> tuple[int, ...]:
    try:
        several = [layer] if isinstance(layer, str) or _index(layer) is not None else list(layer)
    except TypeError:
        several = [layer]
    numbers = [_index(one) for one in several]
    if None in numbers:
        raise UsageError(f"layer is {layer!r}; expected a whole number or several; write layer=2 or layer=[2, 3]")
    return tuple(number for number in numbers if number is not None)


def _index(value: Any) -> int | None:
    """A whole number, as `np.int64(2)` is one; None for a bool and for anything else."""
    try:
        return None if isinstance(value, bool) else operator.index(value)
    except (TypeError, ValueError, RuntimeError):
        return None


def _strength(alpha: Any, op: str) -> float | None:
    """α as a float; None for `ablate`, which has none."""
    if (alpha is None) != (op == "ablate"):
        raise UsageError(f"alpha is {alpha} and op is {op!r}; expected a number for add and set, and none for ablate")
    if alpha is None:
        return None
    try:
        value = math.nan if isinstance(alpha, str | bool) else float(alpha)
    except (TypeError, ValueError, RuntimeError):
        value = math.nan
    if not math.isfinite(value):
        raise UsageError(f"alpha is {alpha!r}; expected a finite number; write alpha=4.0")
    return value


def _check_fit(model: Any, direction: Any, layers: Sequence[int]) -> None:
    n_layers = len(residual_path(model).blocks)
    if not isinstance(direction, Direction):
        raise UsageError(
            f"direction is an object of type {type(direction).__name__}; expected a capvec.Direction; read a file with "
            "capvec.Direction.read(path), or make one of vectors with capvec.Direction(vectors, ambient_norm)"
        )
    d_model = int(model.config.get_text_config(decoder=True).hidden_size)
    if direction.d_model != d_model or direction.n_layers > n_layers:
        raise UsageError(
            f"the direction has shape {[direction.n_layers, direction.d_model]}; expected [{n_layers}, {d_model}], the "
            "model's layers and width: was it built for this model?"
        )
    if not layers or len(set(layers)) < len(layers):
        raise UsageError(f"layer is {list(layers)}; expected one or more different layers")
    for number in layers:
        if not 0 <= number < direction.n_layers:
            raise UsageError(f"layer is {number}; expected 0 to {direction.n_layers - 1}")
        if (why := unsteerable(float(direction.norms[number]))) is not None:
            raise UsageError(f"layer {number}: the direction {why} there, so it would steer nothing; choose another")


def _check_words(alpha_unit: str, op: str, positions: str) -> None:
    """Refuse other words, and the assistant's positions: only a chat template tells those."""
    known = {
        "alpha_unit": (alpha_unit, get_args(AlphaUnit)),
        "op": (op, get_args(Op)),
        "positions": (positions, ("all", "prompt", "generated")),
    }
    for name, (value, words) in known.items():
        if value not in words:
            raise UsageError(f"{name} is {value!r}; expected one of {', '.join(words)}")
