"""Hooks on the residual stream, to steer it and to record it. The only callers of `register_forward_hook` in capvec.

Layer L is decoder block L, counted from 0; its residual is the block's output.
"""

from capvec.engines.transformers.hooks.accumulator import Accumulator, Accumulators, accumulators
from capvec.engines.transformers.hooks.path import ResidualPath, check_order, hidden_of
from capvec.engines.transformers.hooks.positions import steered_at
from capvec.engines.transformers.hooks.record import record
from capvec.engines.transformers.hooks.steer import steer
from capvec.engines.transformers.hooks.writes import ablate_writes, component, jitter, watch

__all__ = [
    "Accumulator",
    "Accumulators",
    "ResidualPath",
    "ablate_writes",
    "accumulators",
    "check_order",
    "component",
    "hidden_of",
    "jitter",
    "record",
    "steer",
    "steered_at",
    "watch",
]
