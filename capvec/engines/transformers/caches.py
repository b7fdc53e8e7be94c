"""Key-value caches of rows: joining them into a batch, taking rows out, and reusing the start of a prompt.

Rows of a batch are padded on the left. What a cache allows depends on its layers:

* attention only (`DynamicLayer`): rows can be joined, and a prefix can be reused;
* attention and linear attention (as in Qwen3.5): rows can be joined, since a linear layer's state has no length. Such a
  state cannot be cut to fewer tokens, so no prefix is reused;
* other layers: a row stays alone.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, LinearAttentionLayer

from capvec.steering import Steer

SteeredToken = tuple[int, tuple[bool, ...]]
"""A token, and whether it belongs to each kind of positions of the row's steers, in order of their names."""


def new_cache(config: Any) -> DynamicCache:
    """An empty cache. If all layers are attention, sliding layers keep all keys too, so that rows can be cut."""
    typed = DynamicCache(config=config)
    return DynamicCache() if all(isinstance(layer, DynamicLayer) for layer in _layers(typed)) else typed


def joinable(cache: DynamicCache) -> bool:
    """Whether rows with such caches can share a batch."""
    return all(type(layer) in (DynamicLayer, LinearAttentionLayer) for layer in _layers(cache))


def croppable(cache: DynamicCache) -> bool:
    """Whether the cache can be cut to its first tokens."""
    return all(type(layer) is DynamicLayer for layer in _layers(cache))


def join(caches: Sequence[DynamicCache], lengths: Sequence[int]) -> DynamicCache:
    """One cache of a batch from caches of parts, each padded on the left to the longest.

    Args:
        caches: of one or more rows each.
        lengths: cached positions of each, its padding included.
    """
    if len(caches) == 1:
        return caches[0]
    longest = max(lengths)
    joined = DynamicCache()
    for parts in zip(*(_layers(cache) for cache in caches), strict=True):
        first = parts[0]
        if isinstance(first, LinearAttentionLayer):
            joined.layers.append(_join_states(parts))
        else:
            pads = [longest - length for length in lengths]
            keys = torch.cat([_pad(part.keys, pad) for part, pad in zip(parts, pads, strict=True)])
            values = torch.cat([_pad(part.values, pad) for part, pad in zip(parts, pads, strict=True)])
            joined.layers.append(_attention(keys, values))
    return joined


def take(cache: DynamicCache, rows: Sequence[int], length: int) -> DynamicCache:
    """The last `length` positions of some rows. `cache` must not be used afterwards, as its linear layers are moved."""
    taken = DynamicCache()
    index: Any = torch.tensor(rows)
    for layer in _layers(cache):
        if isinstance(layer, LinearAttentionLayer):
            layer.reorder_cache(index)
            taken.layers.append(layer)
        else:
            start, here = layer.keys.shape[-2] - length, index.to(layer.keys.device)
            keys, values = (states[:, :, start:].index_select(0, here) for states in (layer.keys, layer.values))
            taken.layers.append(_attention(keys, values))
    return taken


def crop(cache: DynamicCache, length: int) -> DynamicCache:
    """A cache of the first `length` positions that shares memory with `cache`; appending to it copies."""
    cropped = DynamicCache()
    for layer in _layers(cache):
        cropped.layers.append(_attention(layer.keys[:, :, :length], layer.values[:, :, :length]))
    return cropped


@dataclass(frozen=True)
class _Entry:
    tokens: tuple[SteeredToken, ...]
    steers: tuple[Steer, ...]
    """The steers that it was computed under; kept beside the key, for the receipt to check."""
    cache: DynamicCache
    bytes: int


class PrefixStore:
    """Caches of finished rows; the least recently used is dropped first.

    The key holds the exact steers, since keys and values computed under them are wrong under any others. It also holds
    the tokens as steered: a token that was steered as generated matches the same token in a later prompt only if it is
    steered there too.
    """

    def __init__(self, capacity_bytes: int) -> None:
        self._capacity = capacity_bytes
        self._entries: OrderedDict[tuple[tuple[Steer, ...], tuple[SteeredToken, ...]], _Entry] = OrderedDict()

    def find(
        self, steers: tuple[Steer, ...], tokens: Sequence[SteeredToken]
    ) -> tuple[DynamicCache | None, int, tuple[Steer, ...]]:
        """The longest cached start of `tokens`, without the last one, under these steers; its length and its steers."""
        best, shared = None, 0
        for key, entry in self._entries.items():
            if key[0] == steers:
                length = min(_common(entry.tokens, tokens), len(tokens) - 1)
                if length > shared:
                    best, shared = key, length
        if best is None:
            return None, 0, ()
        self._entries.move_to_end(best)
        entry = self._entries[best]
        return crop(entry.cache, shared), shared, entry.steers

    def keep(self, steers: tuple[Steer, ...], tokens: Sequence[SteeredToken], cache: DynamicCache) -> None:
        """Store the cache of one row of `tokens`; entries that are a start of it are dropped."""
        if not croppable(cache):
            return
        key, cache = (steers, tuple(tokens)), crop(cache, len(tokens))
        for old in [old for old in self._entries if old[0] == steers and old[1] == key[1][: len(old[1])]]:
            del self._entries[old]
        size = sum(layer.keys.nbytes + layer.values.nbytes for layer in _layers(cache))
        self._entries[key] = _Entry(key[1], steers, cache, size)
        while self._entries and sum(entry.bytes for entry in self._entries.values()) > self._capacity:
            self._entries.popitem(last=False)


def _layers(cache: DynamicCache) -> list[Any]:
    """The layers, untyped, because transformers types them as a union of all kinds."""
    return list(cache.layers)


def _attention(keys: Tensor, values: Tensor) -> DynamicLayer:
    layer: DynamicLayer = DynamicLayer()  # type: ignore[no-untyped-call]
    layer.lazy_initialization(keys, values)
    layer.keys, layer.values = keys, values
    return layer


def _common(a: Sequence[SteeredToken], b: Sequence[SteeredToken]) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _pad(states: Tensor, count: int) -> Tensor:
    """`count` zero positions on the left of `[batch, heads, positions, head_dim]`."""
    return torch.nn.functional.pad(states, (0, 0, count, 0)) if count else states


def _join_states(parts: Sequence[LinearAttentionLayer]) -> LinearAttentionLayer:
    joined = parts[0]
    for states in ("conv_states", "recurrent_states"):
        for index in range(joined.number_of_states):
            rows = [getattr(part, states)[index] for part in parts]
            if all(row is not None for row in rows):
                getattr(joined, states)[index] = torch.cat(rows)
    return joined
