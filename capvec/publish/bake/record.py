"""`BAKED.json`: what a baked folder is, and the proof."""

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
    """The hooked model and the baked one, both in float32, on the same conversations."""

    conversations: int
    positions: int
    """Positions whose logits were compared, over all conversations."""
    difference: float
    """max |Δlogit| between the two."""
    tolerance: float
    """The largest difference that rounding explains; see `capvec.publish.bake.proof`."""
    noise: float
    """max |Δlogit| of the hooked model when what the edit rounds otherwise is rounded once more."""
    effect: float
    """max |Δlogit| between the hooked model and the model alone: what a folder without the edit would have shown."""
    tokens: int
    """Greedy tokens, over all conversations."""
    tokens_equal: int
    """Of these, up to the first difference of each conversation, or all."""
    ties: int
    """Conversations that part at a token where the two best logits are as close as the tolerance allows."""


@dataclass(frozen=True)
class Baked(Record):
    """A baked model folder."""

    model: str
    revision: str | None
    """The source's: the hub's commit, or a digest of the folder's files."""
    architecture: str
    """The class that loads the folder."""
    op: BakeOp
    """`ablate` is at every write, not at a block's output."""
    direction: str
    """Content hash."""
    direction_file: str
    layers: tuple[int, ...]
    alpha: float | None
    """As typed, in `alpha_unit`; None for an ablation, which has no strength."""
    alpha_unit: AlphaUnit
    stored_alphas: tuple[float, ...]
    """Multiplier of the stored vector, one for each layer."""
    doses: tuple[float | None, ...]
    """|α|·‖v_L‖ / ambient norm, one for each layer; None where the direction's file has no ambient norm."""
    changed: tuple[str, ...]
    """Parameters that are not the source's; stored in float32."""
    needs_remote_code: bool
    """Whether transformers loads the folder with `trust_remote_code=True` only."""
    dtype: str
    """The model's own."""
    rounding: float
    """What running in that dtype costs, as a fraction: of an addition, ‖round(b) − b‖ / ‖α·v‖; of an ablation,
    ‖dᵀ·round(W′)‖ / ‖dᵀ·W‖, the part of the direction that comes back. The largest over the changed tensors."""
    proof: Proof
    versions: Mapping[str, str]
