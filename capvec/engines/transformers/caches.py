"""Caches of rows: joining them into a batch, taking rows out, and reusing the start of a prompt.

Rows of a batch are padded on the left. What a cache allows depends on its layers, by their exact types: a subclass may
keep more than its base does.

* attention (`KeyValues`), or nothing (`DummyLayer`, as where layers share one cache): rows can be joined, and a
  prefix can be reused;
* a state (`LinearAttentionLayer`) in all layers (Mamba), in some (Qwen3.5) or beside attention in one layer
  (Falcon-H1): rows can be joined, since a state has no length. It cannot be cut to fewer tokens, so a start is reused
  as a whole, if the model goes on from a state over several tokens at once (`proof.goes_on_from_a_state`);
* other layers: a row stays alone.
"""

from __future__ import annotations

import copy
import ctypes
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import (
    CacheLayerMixin,
    DummyLayer,
    DynamicLayer,
    DynamicSlidingWindowLayer,
    LinearAttentionAndFullAttentionLayer,
    LinearAttentionLayer,
)

from capvec.engines.transformers.key_values import KeyValues
from capvec.steering import Steer

SteeredToken = tuple[int, tuple[bool, ...]]
"""A token, and whether it belongs to each kind of positions of the row's steers, in order of their names."""


CROPPABLE = (KeyValues, DummyLayer)
_ATTENTION = (DynamicLayer, DynamicSlidingWindowLayer)
"""Layers of transformers for which `KeyValues` stands."""
JOINABLE = (*CROPPABLE, LinearAttentionLayer, LinearAttentionAndFullAttentionLayer)


def new_cache(config: Any) -> DynamicCache:
    """An empty cache. Sliding layers keep all keys too where that lets rows be joined and cut."""
    typed = DynamicCache(config=config)
    layers = [KeyValues() if type(layer) in _ATTENTION else layer for layer in _layers(typed)]
    if all(type(layer) is KeyValues for layer in layers):
        growing = DynamicCache()
        growing.layer_class_to_replicate = KeyValues
        return growing
    if all(type(layer) in JOINABLE for layer in layers):
        typed.layers = layers
    return typed


def joinable(cache: DynamicCache) -> bool:
    """Whether rows with such caches can share a batch."""
    return all(type(layer) in JOINABLE for layer in _layers(cache))


def croppable(cache: DynamicCache) -> bool:
    """Whether the cache can be cut to its first tokens."""
    return all(type(layer) in CROPPABLE for layer in _layers(cache))


def has_states(cache: DynamicCache) -> bool:
    """Whether a layer keeps a state, which holds for exactly the tokens that were read."""
    return any(isinstance(layer, LinearAttentionLayer) for layer in _layers(cache))


def has_positions(cache: DynamicCache) -> bool:
    """Whether a layer keeps something of every position, so that a mask says which of them are padding."""
    return any(isinstance(layer, CacheLayerMixin) for layer in _layers(cache))


def join(caches: Sequence[DynamicCache], lengths: Sequence[int]) -> DynamicCache:
    """One cache of a batch from caches of parts, each padded on the left to the longest.

    Args:
        caches: of one or more rows each.
        lengths: cached positions of each, its padding included.
    """
    if len(caches) == 1:
        return caches[0]
    pads = [max(lengths) - length for length in lengths]
    joined = DynamicCache()
    for parts in zip(*(_layers(cache) for cache in caches), strict=True):
        layer = _positions(parts[0], slice(None))
        if isinstance(layer, LinearAttentionLayer):
            _join_states(layer, parts)
        if _has_keys(layer):
            for name in ("keys", "values"):
                padded = [_pad(getattr(part, name), pad) for part, pad in zip(parts, pads, strict=True)]
                setattr(layer, name, torch.cat(padded))
        joined.layers.append(layer)
    return joined


def take(cache: DynamicCache, rows: Sequence[int], length: int) -> DynamicCache:
    """The last `length` positions of some rows."""
    taken = DynamicCache()
    index: Any = torch.tensor(rows)
    for layer in _layers(cache):
        kept = _positions(layer, slice(-length, None))
        kept.reorder_cache(index)
        taken.layers.append(kept)
    return taken


def crop(cache: DynamicCache, length: int) -> DynamicCache:
    """A cache of the first `length` positions, all of them where a layer has a state, which is copied.

    Keys and values share memory with `cache`; appending to either copies.
    """
    cropped = DynamicCache()
    for layer in _layers(cache):
        part = _positions(layer, slice(length))
        if isinstance(part, LinearAttentionLayer):
            for states in _states(part):
                states.update({index: one.clone() for index, one in states.items() if one is not None})
        cropped.layers.append(part)
    return cropped


@dataclass(frozen=True)
class _Entry:
    tokens: tuple[SteeredToken, ...]
    steers: tuple[Steer, ...]
    """The steers that it was computed under; kept beside the key, for the receipt to check."""
    cache: DynamicCache
    bytes: int


MAX_PREFIXES = 256
"""Most entries of a `PrefixStore`: each prompt is compared with all of them."""


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
                if length > shared and (length == len(entry.tokens) or not has_states(entry.cache)):
                    best, shared = key, length
        if best is None:
            return None, 0, ()
        self._entries.move_to_end(best)
        entry = self._entries[best]
        return crop(entry.cache, shared), shared, entry.steers

    def keep(self, steers: tuple[Steer, ...], tokens: Sequence[SteeredToken], cache: DynamicCache) -> None:
        """Store the cache of one row of `tokens`, unless it has layers that cannot be reused.

        Entries that are a start of it are dropped, except where a state cannot be cut to their length.
        """
        if not joinable(cache):
            return
        key, cache = (steers, tuple(tokens)), crop(cache, len(tokens))
        if not has_states(cache):
            for old in [old for old in self._entries if old[0] == steers and _begins(old[1], key[1])]:
                del self._entries[old]
        size = sum(tensor.nbytes for layer in _layers(cache) for tensor in _tensors(layer))
        self._entries[key] = _Entry(key[1], steers, cache, size)
        while self._entries and (len(self._entries) > MAX_PREFIXES or self._bytes() > self._capacity):
            self._entries.popitem(last=False)

    def clear(self) -> None:
        """Drop all entries."""
        self._entries.clear()

    def _bytes(self) -> int:
        return sum(entry.bytes for entry in self._entries.values())


def give_back_memory() -> None:
    """Return what was freed to the device and, with glibc, to the system; both are kept for later use otherwise."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _layers(cache: DynamicCache) -> list[Any]:
    """The layers, untyped, because transformers types them as a union of all kinds."""
    return list(cache.layers)


def _has_keys(layer: Any) -> bool:
    return getattr(layer, "keys", None) is not None


def _positions(layer: Any, kept: slice) -> Any:
    """The layer with some of its positions, sharing memory with it."""
    if isinstance(layer, KeyValues):
        return layer.part(kept)
    part = copy.copy(layer)
    if isinstance(layer, LinearAttentionLayer):
        vars(part).update({name: dict(value) for name, value in vars(part).items() if isinstance(value, dict)})
    if _has_keys(layer):
        part.keys, part.values = layer.keys[:, :, kept], layer.values[:, :, kept]
    return part


def _begins(start: Sequence[SteeredToken], tokens: Sequence[SteeredToken]) -> bool:
    length = len(start)
    return length <= len(tokens) and start[-1] == tokens[length - 1] and start == tokens[:length]


def _common(a: Sequence[SteeredToken], b: Sequence[SteeredToken]) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _pad(states: Tensor, count: int) -> Tensor:
    """`count` zero positions on the left of `[batch, heads, positions, head_dim]`."""
    return torch.nn.functional.pad(states, (0, 0, count, 0)) if count else states


def _states(layer: LinearAttentionLayer) -> tuple[dict[int, Tensor | None], dict[int, Tensor | None]]:
    """The states of a layer, by their numbers."""
    return layer.conv_states, layer.recurrent_states


def _tensors(layer: Any) -> Iterator[Tensor]:
    """What a layer keeps."""
    if _has_keys(layer):
        yield from (layer.keys, layer.values)
    if isinstance(layer, LinearAttentionLayer):
        yield from (one for states in _states(layer) for one in states.values() if one is not None)


def _join_states(joined: LinearAttentionLayer, parts: Sequence[LinearAttentionLayer]) -> None:
    for states, *others in zip(*map(_states, (joined, *parts)), strict=True):
        for index in states:
            rows = [one for other in others if (one := other[index]) is not None]
            if len(rows) == len(parts):
                states[index] = torch.cat(rows)
