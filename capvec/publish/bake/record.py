"""`BAKED.json`: the record of a baked folder, with its proof."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from capvec.records import AlphaUnit
from capvec.serial import Record

BAKED = "BAKED.json"
BakeOp = Literal["add", "ablate"]


@dataclass(frozen=True)
class Proof(Record):
    """The comparison of the hooked model with the baked one, both in float32 on the same conversations."""

    conversations: int
    positions: int
    """Number of positions whose logits were compared, over all conversations."""
    difference: float
    """max |Δlogit| between the two."""
    tolerance: float
    """Largest difference that rounding explains; see `capvec.publish.bake.proof`."""
    noise: float
    """max |Δlogit| of the hooked model when its writes are rounded once more."""
    effect: float
    """max |Δlogit| between the hooked model and the model alone, as a folder without the edit would show it."""
    tokens: int
    """Number of greedy tokens, over all conversations."""
    tokens_equal: int
    """Number of these before the first difference of each conversation."""
    ties: int
    """Conversations that differ first at a token whose two best logits are within the tolerance."""


@dataclass(frozen=True)
class Baked(Record):
    """A baked model folder."""

    model: str
    revision: str | None
    """Revision of the source: the hub's commit, or a digest of the folder's files."""
    architecture: str
    """The class that loads the folder."""
    op: BakeOp
    """`ablate` removes the direction at every write, not at a block's output."""
    direction: str
    """Content hash of the direction."""
    direction_file: str
    layers: tuple[int, ...]
    alpha: float | None
    """As typed, in `alpha_unit`; None for an ablation, which has no strength."""
    alpha_unit: AlphaUnit
    stored_alphas: tuple[float, ...]
    """Multiplier of the stored vector, for each layer."""
    doses: tuple[float | None, ...]
    """|α|·‖v_L‖ / ambient norm, for each layer; None if the direction's file has no ambient norm."""
    changed: tuple[str, ...]
    """Parameters that differ from the source's; stored in float32."""
    needs_remote_code: bool
    """Whether transformers loads the folder only with `trust_remote_code=True`."""
    dtype: str
    """The model's own dtype."""
    rounding: float
    """Cost of running in that dtype, as a fraction, the largest over the changed tensors. Of an addition
    ‖round(b) − b‖ / ‖α·v‖; of an ablation ‖dᵀ·round(W′)‖ / ‖dᵀ·W‖, the part of the direction that comes back."""
    proof: Proof
    versions: Mapping[str, str]
