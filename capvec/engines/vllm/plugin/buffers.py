"""What the ops read and write: tensors on the worker's device that stay in place as long as it lives."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from capvec.engines.vllm.layout import LEAST, READINGS, SUMS, WATCHED
from capvec.engines.vllm.plugin.slots import INVERSE, VECTOR


@dataclass(frozen=True)
class Sizes:
    """How much there is of everything."""

    slots: int
    sites: int
    steers: int
    """Most of a request at one site."""
    tokens: int
    """Most of a step, padding included."""
    directions: int
    width: int
    """d_model."""
    pools: int = 1
    """Requests whose residuals are captured at once."""


class Buffers:
    """The tensors, with nothing in them."""

    def __init__(self, sizes: Sizes, dtype: torch.dtype, device: torch.device) -> None:
        self.sizes, self.device = sizes, device
        each = (sizes.slots, sizes.sites, sizes.steers)
        self.tokens = torch.zeros(sizes.tokens, dtype=torch.int32, device=device)
        """One number for each token of the step, as `slots.Slots.pack` makes it."""
        self.ids = torch.zeros(sizes.tokens, dtype=torch.int32, device=device)
        """Ids of the tokens, in the order of the step: in an engine, what the model reads in its first stage."""
        self.table = torch.zeros(*each, INVERSE + sizes.steers, dtype=torch.float64, device=device)
        """The steers of each slot, as `slots.Slots.table` has them."""
        self.table[..., VECTOR] = -1
        self.bank = torch.zeros(sizes.directions, sizes.sites, sizes.width, device=device)
        """v_L, float32."""
        self.stash = torch.zeros(sizes.tokens, sizes.width, dtype=dtype, device=device)
        """h of the block that ran last, in this stage or the one before."""
        self.numbers = [torch.tensor(site, dtype=torch.int32, device=device) for site in range(sizes.sites)]
        """Of each site, its number."""
        self._sites = {number.data_ptr(): site for site, number in enumerate(self.numbers)}
        self.steered = [True] * sizes.sites
        """Of each site, whether a steer of the step is there. The host reads it, and may say so of a site without."""
        self.readings = torch.zeros(*each, len(READINGS), dtype=torch.float64, device=device)
        self.watched = torch.zeros(*each[:2], len(WATCHED), dtype=torch.float64, device=device)
        self.pools = torch.full((sizes.slots,), -1, dtype=torch.int64, device=device)
        """Where the residuals of each slot's request are summed; -1 for nowhere."""
        self.pooled = torch.zeros(sizes.pools, sizes.sites, sizes.width, dtype=torch.float64, device=device)
        self.counted = torch.zeros(sizes.pools, sizes.sites, dtype=torch.float64, device=device)
        """Sums of captured residuals, and over how many positions."""
        signs = torch.rand(sizes.width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        self.weights = (signs + 0.5).to(device)
        """Of the fingerprint: a sum over the unit vector's coordinates, each with its own weight."""
        self._unread = torch.tensor([0.0] * len(SUMS) + [torch.inf] * len(LEAST), dtype=torch.float64, device=device)

    def site_of(self, number: Tensor) -> int:
        """The site that one of `numbers` names, without reading the device."""
        return self._sites[number.data_ptr()]

    def clear(self, slots: Tensor) -> None:
        """Forget what was measured in these slots."""
        self.readings[slots] = self._unread
        self.watched[slots] = 0.0

    def pool(self, slots: Tensor, pools: Tensor) -> None:
        """Sum what is captured of these slots in these pools, from nothing."""
        self.pools[slots] = pools
        self.pooled[pools] = 0.0
        self.counted[pools] = 0.0
