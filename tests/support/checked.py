"""Arguments of `check_receipts`, made from steers with their vectors and from the output of a decoder or a hook."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from capvec.receipts import closed_forms
from capvec.records import Config, Reply
from capvec.steering import BlockLayout, Steer, vector_hash


def asked(steers: Sequence[Steer], vectors: Sequence[Any]) -> Config:
    """A config of these steers, whose directions hold these vectors, float32 `[d_model]`."""
    exact = [np.asarray(vector, np.float32) for vector in vectors]
    return Config(
        "asked", "steered", tuple(steers), targets=closed_forms(steers, exact), vectors=tuple(map(vector_hash, exact))
    )


def as_reply(completion: Any) -> Reply:
    """A decoder's completion, as a client gets it."""
    names = (
        "text", "finish_reason", "prompt_tokens", "completion_tokens", "cached_tokens", "cached_under", "receipts",
        "isolation",
    )  # fmt: skip
    return Reply(model_s=0.0, **{name: getattr(completion, name) for name in names})


def reply_of(made: Any, positions: int) -> Reply:
    """The reply of one token that one pass over a prompt gave, as `Accumulators` measured it."""
    return Reply("", "stop", positions, 1, 0.0, receipts=made.receipts(1), isolation=made.isolation(1))


def layout_of(loaded: Any) -> BlockLayout:
    """The blocks of a loaded model, as an engine tells of them."""
    return BlockLayout(loaded.path.name, loaded.n_layers)
