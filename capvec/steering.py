"""What a steer asks for, and what is measured of it: the records that engine, client and checks of receipts share."""

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


@dataclass(frozen=True)
class Steer(Record):
    """One intervention on the residual h of one layer, along v_L; d_L = v_L / ‖v_L‖ (formulas: `engine.hooks.steer`).

    Raises:
        UsageError: `ablate` with an α, which it would not use.
    """

    layer: int
    """Decoder block, counted from 0; its residual is the block's output."""
    direction: str
    """Content hash of the direction, as the engine knows it."""
    alpha: float
    """Multiplier of the *stored* vector v_L, whatever unit the user typed; 1 for `ablate`."""
    op: Op = "add"
    """`add`: α·v_L is added. `ablate`: the component along d_L is removed. `set`: the component becomes α·‖v_L‖."""
    positions: Positions = "all"
    """`all`; `prompt`, the tokens of the request's prompt; `generated`, the tokens that are fed back after it;
    `assistant`, what assistant messages say in the prompt, and what is generated."""
    keep_norm: bool = False
    """Whether h gets the length back that it had."""

    def __post_init__(self) -> None:
        if self.op == "ablate" and self.alpha != 1.0:
            raise UsageError(
                f"a steer that ablates, with alpha {self.alpha:g}; expected 1, since ablation has no strength"
            )


@dataclass(frozen=True)
class Receipt(Record):
    """What one steer did to one reply, measured inside the forward passes.

    h_in is the block's output before the steer, h_out is what the next module really received, d_L the unit vector. s
    is 1, and where the norm is kept the factor that this took, as measured: what is orthogonal to every direction of
    the row at this layer, a steer does not move, so h_out holds s times what h_in holds of it. All is computed in
    float64, over the row's own positions (no padding). What is measured over the steered positions is None where there
    were none: a reply of one token has no position that was generated and fed back.
    """

    steer: Steer
    fired: int
    """Forward passes in which the hook ran for this row."""
    forwards: int
    """Forward passes that the decode loop made for this row, counted outside the hook."""
    passed: int
    """Token positions that passed through the hook."""
    steered: int
    """Those of them that the steer applied to."""
    block: str = ""
    """Dotted path of the module whose output was steered, as PyTorch named it to the hook; several if it changed."""
    receiver: str = ""
    """Dotted path of the module that h_out was measured in front of; the block itself where nothing is known to follow.
    """
    vector: str = ""
    """Content hash of v_L (`engine.protocol.vector_hash`), made again from its length and the unit vector that was
    multiplied, averaged over the passes: another vector in any one of them is another hash."""
    shift_mean: float | None = None
    """⟨h_out/s − h_in, d_L⟩ over the steered positions, as the next two."""
    shift_min: float | None = None
    shift_max: float | None = None
    level_mean: float | None = None
    """⟨h_out/s, d_L⟩ over the steered positions, as the next two."""
    level_min: float | None = None
    level_max: float | None = None
    norm_ratio_min: float | None = None
    """‖h_out‖ / ‖h_in‖ over the steered positions, as the next one."""
    norm_ratio_max: float | None = None
    ambient_norm: float | None = None
    """Mean ‖h_in‖ over the steered positions: the unit of the dose."""
    rounding: float | None = None
    """Bound for what rounding the residual to its dtype does to `shift_mean` and `level_mean`: the mean of
    ε·‖g ∘ h_out‖₂, over three standard deviations of the sum of independent rounding errors, each uniform in
    ±ε·|h_j|/2. g is how level and shift depend on h_out: d_L, and where the norm is kept (d_L − level·q)/s, as s
    depends on h_out too, by its own q (`engine.hooks.witness`)."""
    rounding_max: float | None = None
    """The same bound at the position where it is largest: for what is least and largest."""
    rounding_worst: float | None = None
    """The most that rounding can do at any steered position: ε/2·Σ|g ∘ h_out|, where all errors add up. They do where
    a steer moves coordinates by less than the dtype resolves: what little is there of a direction that is to be ablated
    then stays."""
    error_max: float | None = None
    """The largest difference, over the steered positions, between the shift and what the formulas of all steers of the
    row at this layer make of h_in, worked out by the witness."""
    off_axis_max: float | None = None
    """The largest part of h_out/s − h_in that lies along none of the row's directions at this layer, over the steered
    positions, in units of the most that rounding h_out can make of it, ε/2·‖h_out‖/s: at most 1."""
    scale_min: float | None = None
    """s over the steered positions, as the next one: exactly 1 where nothing was to keep the norm."""
    scale_max: float | None = None


@dataclass(frozen=True)
class IsolationCheck(Record):
    """What happened to one reply's residuals where its own steers were to do nothing, whatever its neighbours' did.

    Rows share forward passes, and a hook that steers one row of a batch has all of them in its hands. So every row is
    watched at every site, a layer at which any row of the pass is steered: a reply without steers as well as one that
    is steered at other layers or at other positions.
    """

    forwards: int
    """Forward passes that the decode loop made for this row."""
    sites: int
    """Sites in those passes, counted where they are set up."""
    watched: int
    """Those of them at which the residual was measured for this row, counted where it is measured."""
    steered: int
    """Positions, summed over sites, that were not watched, since a steer of the row was to move them."""
    leak_max: float
    """The largest ‖h_out − h_in‖ of all others: 0, or something leaked."""


@dataclass(frozen=True)
class BlockLayout(Record):
    """The decoder blocks of an engine's model, by which receipts name them."""

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
