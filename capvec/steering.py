"""Steers and what is measured of them: the records that engine, client and the check of receipts share."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from capvec.errors import UsageError
from capvec.serial import Record

Op = Literal["add", "ablate", "set"]
Positions = Literal["all", "prompt", "generated", "assistant"]

EXTREMES = (
    *("shift_min", "shift_max", "level_min", "level_max", "norm_ratio_min", "norm_ratio_max", "scale_min", "scale_max"),
    *("rounding_max", "rounding_worst", "error_max", "off_axis_max"),
)
"""Fields of a `Receipt` that are extremes over the steered positions. Engines keep the least value of each in this
order, and of a largest value its negative."""


@dataclass(frozen=True)
class Steer(Record):
    """One intervention on the residual h of one layer along v_L, with d_L = v_L / ‖v_L‖.

    `capvec.engines.transformers.hooks.steer` has the formulas.

    Raises:
        UsageError: `ablate` with an α other than 1; it has no strength.
    """

    layer: int
    """Decoder block, counted from 0; its residual is the block's output."""
    direction: str
    """Content hash of the direction, as the engine knows it."""
    alpha: float
    """Multiplier of the *stored* vector v_L, converted from the unit that the user typed; 1 for `ablate`."""
    op: Op = "add"
    """`add`: α·v_L is added. `ablate`: the component along d_L is removed. `set`: the component becomes α·‖v_L‖."""
    positions: Positions = "all"
    """`all`; `prompt`, the tokens of the request's prompt; `generated`, the tokens that are fed back after it;
    `assistant`, what assistant messages say in the prompt, and what is generated."""
    keep_norm: bool = False
    """Whether h is rescaled to its length before the steer."""

    def __post_init__(self) -> None:
        if self.op == "ablate" and self.alpha != 1.0:
            raise UsageError(
                f"a steer that ablates has alpha {self.alpha:g}; expected 1, because ablation has no strength"
            )


@dataclass(frozen=True)
class Receipt(Record):
    """What one steer did to one reply, measured inside the forward passes.

    h_in is the block's output before the steer, h_out the input of the next module, and d_L the unit vector. s is 1, or
    the measured rescaling where the norm is kept: no steer moves the part of h orthogonal to every direction of the row
    at this layer, so that part of h_out is s times that of h_in. Everything is computed in float64 over the row's own
    positions, without padding. Measurements over steered positions are None where there were none: a reply of one token
    has no generated token that was fed back.
    """

    steer: Steer
    fired: int
    """Forward passes in which the hook ran for this row."""
    forwards: int
    """Forward passes made for this row, counted outside the hook."""
    passed: int
    """Positions that passed through the hook."""
    steered: int
    """Positions of these that the steer applied to."""
    block: str = ""
    """Dotted path of the module whose output was steered; several, separated by commas, if it changed."""
    receiver: str = ""
    """Dotted path of the module in front of which h_out was measured; the block itself where no next one is known."""
    vector: str = ""
    """Content hash of v_L (`vector_hash`), computed from its length and the unit vector that was multiplied, averaged
    over the passes. Another vector in any pass gives another hash."""
    shift_mean: float | None = None
    """⟨h_out/s − h_in, d_L⟩ over the steered positions; likewise least and largest."""
    shift_min: float | None = None
    shift_max: float | None = None
    level_mean: float | None = None
    """⟨h_out/s, d_L⟩ over the steered positions; likewise least and largest."""
    level_min: float | None = None
    level_max: float | None = None
    norm_ratio_min: float | None = None
    """‖h_out‖ / ‖h_in‖ over the steered positions, least and largest."""
    norm_ratio_max: float | None = None
    ambient_norm: float | None = None
    """Mean ‖h_in‖ over the steered positions: the unit of the dose."""
    rounding: float | None = None
    """Bound for the effect of rounding the residual to its dtype on `shift_mean` and `level_mean`: the mean of
    ε·‖g ∘ h_out‖₂, over three standard deviations of the sum of independent rounding errors, each uniform in
    ±ε·|h_j|/2. g is the derivative of level and shift by h_out: d_L, or (d_L − level·q)/s where the norm is kept, since
    s depends on h_out by its own q (`capvec.engines.transformers.hooks.downstream`)."""
    rounding_max: float | None = None
    """The same bound at the position where it is largest; it applies to the least and largest values."""
    rounding_worst: float | None = None
    """The largest effect of rounding at any steered position, where all errors add up: ε/2·Σ|g ∘ h_out|. They do add up
    where a steer moves coordinates by less than the dtype resolves: a small component that should be ablated stays."""
    error_max: float | None = None
    """The largest difference, over the steered positions, between the measured shift and the one that the formulas of
    all the row's steers at this layer give for h_in, as the downstream probe evaluates them."""
    off_axis_max: float | None = None
    """The largest part of h_out/s − h_in that lies along none of the row's directions at this layer, over the steered
    positions, in units of the largest effect of rounding h_out, ε/2·‖h_out‖/s: at most 1."""
    scale_min: float | None = None
    """s over the steered positions, least and largest: exactly 1 where no steer keeps the norm."""
    scale_max: float | None = None


@dataclass(frozen=True)
class IsolationCheck(Record):
    """What happened to one reply's residuals where none of its own steers applied.

    Rows share forward passes, and a hook that steers one row can reach all of them. Every row is therefore watched at
    every site, that is, every layer at which any row of the pass is steered: unsteered replies, and replies steered at
    other layers or positions.
    """

    forwards: int
    """Forward passes made for this row."""
    sites: int
    """Sites in those passes, counted when they are set up."""
    watched: int
    """Sites of these at which the residual of this row was measured, counted when it is measured."""
    steered: int
    """Positions, summed over sites, that were not watched because a steer of the row moves them."""
    leak_max: float
    """The largest ‖h_out − h_in‖ over all other positions: 0, unless a steer leaked."""


@dataclass(frozen=True)
class BlockLayout(Record):
    """The names that receipts use for the decoder blocks of an engine's model."""

    blocks: str = ""
    """Dotted path of their list, such as `model.layers`; block L is `model.layers.L`."""
    n_layers: int = 0


def direction_hash(vectors: NDArray[np.float32]) -> str:
    """Content hash of a direction: the first 16 hex digits of a SHA-256 over shape and values.

    Args:
        vectors: float32, `[n_layers, d_model]`.
    """
    digest = hashlib.sha256(b"capvec-direction-v1")
    digest.update(np.asarray(vectors.shape, dtype="<i8").tobytes())
    digest.update(np.ascontiguousarray(vectors, dtype="<f4").tobytes())
    return digest.hexdigest()[:16]


def vector_hash(vector: NDArray[np.float32]) -> str:
    """Content hash of one layer's vector: the first 16 hex digits of a SHA-256 over its values.

    Args:
        vector: float32 `[d_model]`.
    """
    digest = hashlib.sha256(b"capvec-vector-v1")
    digest.update(np.ascontiguousarray(vector, dtype="<f4").tobytes())
    return digest.hexdigest()[:16]
