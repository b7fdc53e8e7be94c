"""Hooks on the residual stream, to steer it and to record it. The only callers of `register_forward_hook` in capvec.

Layer L is decoder block L, counted from 0; its residual is the block's output.
"""

from capvec.engine.hooks.meter import Meter, meters
from capvec.engine.hooks.path import ResidualPath
from capvec.engine.hooks.positions import steered_at
from capvec.engine.hooks.record import record
from capvec.engine.hooks.steer import steer
from capvec.engine.hooks.writes import ablate_writes, component, jitter, watch

__all__ = [
    "Meter",
    "ResidualPath",
    "ablate_writes",
    "component",
    "jitter",
    "meters",
    "record",
    "steer",
    "steered_at",
    "watch",
]
