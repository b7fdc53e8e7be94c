"""The two ops inside the graph: `capvec::steer` after a block, and `capvec::witness` where its output arrives.

vLLM's blocks hand on a pair whose sum is the residual h: what the block's last module wrote, and the residual before.
The next block adds them. `steer` rounds the sum to the residual's dtype, as that addition does, keeps it in the stash,
and, where a steer moves the token, leaves h' in place of the one and zero in place of the other, so that the sum is
exactly h'. Tokens without a steer keep their bits.

Both ops are declared to write both tensors. What else they read and write stays in place (`buffers`), so a captured
CUDA graph reads what the host has put there before each step. Here they are in PyTorch, for the CPU; `kernels` has the
same for CUDA.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from capvec.engines.transformers.hooks.downstream import Terms, ratio
from capvec.engines.vllm.layout import SUMS
from capvec.engines.vllm.plugin.buffers import Buffers
from capvec.engines.vllm.plugin.slots import (
    AGAIN,
    CHOSEN,
    COEFFICIENT,
    DREW,
    KEEPS,
    KIND,
    LENGTH,
    SLOT_MASK,
    VECTOR,
    WEIGHT,
    WHERE,
)

_SCHEMA = "(Tensor(a!) hidden, Tensor(b!) residual, Tensor site) -> ()"


@dataclass
class _Registered:
    """The ops of this process: they live as long as their library."""

    library: torch.library.Library
    buffers: Buffers


_registered: list[_Registered] = []


def use(buffers: Buffers) -> None:
    """Let the ops work on these buffers from now on. They are registered once in a process, for the buffers' device."""
    if _registered:
        _registered[0].buffers = buffers
        return
    of_device = "kernels" if buffers.device.type == "cuda" else "ops"
    module = importlib.import_module(f"capvec.engines.vllm.plugin.{of_device}")
    library = torch.library.Library("capvec", "FRAGMENT")
    _registered.append(_Registered(library, buffers))
    for name in ("steer", "witness"):
        library.define(name + _SCHEMA)
        library.impl(name, _on_buffers(getattr(module, name)), "CUDA" if buffers.device.type == "cuda" else "CPU")
        torch.library.register_fake(f"capvec::{name}", lambda *_: None, lib=library)


def _on_buffers(function: Callable[[Buffers, Tensor, Tensor, int], None]) -> Callable[[Tensor, Tensor, Tensor], None]:
    def run(hidden: Tensor, residual: Tensor, site: Tensor) -> None:
        buffers = _registered[0].buffers
        function(buffers, hidden, residual, buffers.site_of(site))

    return run


# --------------------------------------------------------------------------------------------------- on the CPU


class _Asked:
    """What the tokens of a step ask for at one site."""

    def __init__(self, buffers: Buffers, tokens: Tensor, site: int) -> None:
        self.slots = (tokens & SLOT_MASK).long()
        self._buffers, self._site = buffers, site
        entries = buffers.table[self.slots, site]
        where = entries[..., WHERE].long()
        self.applies = (where >> (tokens >> KIND & 3).long()[:, None] & 1).bool() & (entries[..., VECTOR] >= 0)
        self.coefficient = entries[..., COEFFICIENT] * self.applies
        self.weight = entries[..., WEIGHT] * self.applies
        self.moves = ((self.coefficient != 0) | (self.weight != 0)).any(1)
        self.keeps = ((where & KEEPS).bool() & self.applies).any(1) & self.moves
        self._rows, self._lengths = entries[..., VECTOR].long(), entries[..., LENGTH]

    def units(self, chosen: Tensor) -> Tensor:
        """d_k of chosen tokens, float64 `[chosen, steers, d_model]`; zeros for none and for a zero vector."""
        rows, lengths = self._rows[chosen], self._lengths[chosen][..., None]
        vectors = self._buffers.bank[rows.clamp_min(0), self._site].double()
        return torch.where((rows >= 0)[..., None], ratio(vectors, lengths), 0.0)


def steer(buffers: Buffers, hidden: Tensor, residual: Tensor, site: int) -> None:
    """Move the tokens whose requests have steers at the site; `hidden` and `residual` are `[tokens, d_model]`."""
    count = len(hidden)
    left = buffers.stash[:count]
    torch.add(hidden, residual, out=left)
    tokens = buffers.tokens[:count]
    asked = _Asked(buffers, tokens, site)
    _capture(buffers, asked.slots, (tokens >> CHOSEN & 1).nonzero().squeeze(1), left, site)
    chosen = asked.moves.nonzero().squeeze(1)
    if not len(chosen):
        return
    exact, units = left[chosen].double(), asked.units(chosen)
    along = asked.coefficient[chosen] - asked.weight[chosen] * _products(units, exact)
    moved = exact + (along[:, None] @ units).squeeze(1)
    lengths = [torch.linalg.vector_norm(states, dim=-1) for states in (exact, moved)]
    moved = torch.where(asked.keeps[chosen, None], moved * ratio(*lengths)[:, None], moved)
    residual[chosen] = moved.to(residual.dtype)
    hidden[chosen] = 0


def witness(buffers: Buffers, hidden: Tensor, residual: Tensor, site: int) -> None:
    """Measure every token of a request, where the output of the site's block arrived.

    The formulas are those of the transformers engine's downstream probe.
    """
    count = len(hidden)
    tokens = buffers.tokens[:count]
    asked = _Asked(buffers, tokens, site)
    now, was = (hidden + residual).double(), buffers.stash[:count].double()
    again, drew = (tokens >> AGAIN & 1).bool(), (tokens >> DREW & 1).bool()
    leak = torch.where(asked.moves, 0.0, torch.linalg.vector_norm(now - was, dim=-1)).nan_to_num(torch.inf)
    watched = buffers.watched[:, site]
    counts = torch.stack((~again, drew, asked.moves & ~again, again, buffers.ids[:count] * ~again), dim=1).double()
    watched[:, :5].index_add_(0, asked.slots, counts)
    watched[:, 5].scatter_reduce_(0, asked.slots, leak, "amax")
    chosen = asked.applies.any(1).nonzero().squeeze(1)
    if len(chosen):
        _read(buffers, asked, chosen, was[chosen], now[chosen], again[chosen], site, torch.finfo(hidden.dtype).eps)


def _read(
    buffers: Buffers, asked: _Asked, chosen: Tensor, was: Tensor, now: Tensor, again: Tensor, site: int, eps: float
) -> None:
    units, applies = asked.units(chosen), asked.applies[chosen]
    terms = Terms(
        units,
        asked.coefficient[chosen, None],
        asked.weight[chosen, None],
        applies[:, None],
        asked.keeps[chosen, None],
    )
    sums, least, _ = terms.read(was[:, None], now[:, None], eps)
    counts = torch.stack((applies, applies & again[:, None])).double()
    fingerprint = torch.where(applies, units @ buffers.weights, torch.inf)
    opposite = torch.where(applies, -fingerprint, torch.inf)
    least = torch.cat((least, torch.stack((fingerprint, opposite)))).nan_to_num(-torch.inf, torch.inf)
    readings, slots = buffers.readings[:, site], asked.slots[chosen]
    readings[..., : len(SUMS)].index_add_(0, slots, torch.cat((sums, counts)).permute(1, 2, 0))
    least = least.permute(1, 2, 0)
    readings[..., len(SUMS) :].scatter_reduce_(0, slots[:, None, None].expand_as(least), least, "amin")


def _capture(buffers: Buffers, slots: Tensor, chosen: Tensor, left: Tensor, site: int) -> None:
    """Add the residuals of chosen tokens to the pools of their requests, before any steer."""
    if len(chosen):
        pools = buffers.pools[slots[chosen]]
        buffers.pooled[:, site].index_add_(0, pools, left[chosen].double())
        buffers.counted[:, site].index_add_(0, pools, torch.ones(len(chosen), dtype=torch.float64))


def _products(units: Tensor, states: Tensor) -> Tensor:
    """⟨h, d_k⟩ of each token, `[tokens, steers]`."""
    return (units @ states[..., None]).squeeze(-1)
