"""A cache layer of attention whose steps do not copy what they have cached."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicLayer

ROOM = 64
"""Positions that are allocated at once, beyond those that are needed."""


class KeyValues(DynamicLayer):
    """Keys and values of a layer, in a buffer with room for further positions.

    `DynamicLayer` copies all keys and values at each step. Here a step writes its own into the room, and all are copied
    only when it is used up. `keys` and `values` are what is cached, as in the base class, and may be views.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._buffers: tuple[Tensor, Tensor] | None = None
        """Keys and values with the room behind them; None where the layer has none of its own."""

    def update(self, key_states: Tensor, value_states: Tensor, *_args: Any, **_kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append positions, `[batch, heads, positions, head_dim]` each. Returns all keys and all values."""
        cached = self.get_seq_length()
        if not cached:
            self.lazy_initialization(key_states, value_states)
            self.keys, self.values = key_states, value_states
            return key_states, value_states
        assert self.keys is not None
        assert self.values is not None
        length = cached + key_states.shape[-2]
        if self._buffers is None or self._buffers[0].shape[-2] < length:
            self._buffers = _with_room(self.keys, length), _with_room(self.values, length)
        keys, values = self._buffers
        keys[:, :, cached:length], values[:, :, cached:length] = key_states, value_states
        self.keys, self.values = keys[:, :, :length], values[:, :, :length]
        return self.keys, self.values

    def part(self, kept: slice) -> KeyValues:
        """Some of its positions, as a layer that shares memory with this one until it is appended to."""
        part = copy.copy(self)
        part._buffers = None
        if self.keys is not None and self.values is not None:
            part.keys, part.values = self.keys[:, :, kept], self.values[:, :, kept]
        return part

    def reorder_cache(self, beam_idx: Any) -> None:
        """Take some rows, by their numbers."""
        super().reorder_cache(beam_idx)
        self._buffers = None


def _with_room(states: Tensor, length: int) -> Tensor:
    """A copy of `[batch, heads, positions, head_dim]` in a buffer of `length + ROOM` positions."""
    batch, heads, cached, width = states.shape
    buffer = torch.empty(batch, heads, length + ROOM, width, dtype=states.dtype, device=states.device)
    buffer[:, :, :cached] = states
    return buffer
