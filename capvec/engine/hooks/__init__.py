"""Hooks on the residual stream, to steer it and to record it. The only callers of `register_forward_hook` in capvec.

Layer L is decoder block L, counted from 0; its residual is the block's output.
"""

from capvec.engine.hooks.meter import Meter, Meters, meters
from capvec.engine.hooks.path import ResidualPath, check_order, hidden_of
from capvec.engine.hooks.positions import steered_at
from capvec.engine.hooks.record import record
from capvec.engine.hooks.steer import steer
from capvec.engine.hooks.writes import ablate_writes, component, jitter, watch

__all__ = [
    "Meter",
    "Meters",
    "ResidualPath",
    "ablate_writes",
    "check_order",
    "component",
    "hidden_of",
    "jitter",
    "meters",
    "record",
    "steer",
    "steered_at",
    "watch",
]
