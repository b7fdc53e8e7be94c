"""Capture the residuals of conversations, from which directions are estimated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from capvec.engines.prepared import Prepared
from capvec.engines.transformers.hooks import record
from capvec.engines.transformers.loaded import LAST, LoadedModel, call
from capvec.errors import SteeringFault


@dataclass(frozen=True)
class Limits:
    """How many conversations share a forward pass on a device, in positions."""

    budget: int
    """Most positions of a batch, padding included; a single conversation may have more."""
    overhead: int
    """The fixed cost of a forward pass, in positions."""

    @classmethod
    def of(cls, device: torch.device) -> Limits:
        """The limits of a device.

        A GPU is bound by kernel launches up to some thousand positions. A CPU is bound by arithmetic from about a
        hundred, so a larger batch gains little there, and running replies wait for it.
        """
        return cls(16384, 2048) if device.type == "cuda" else cls(2048, 32)


def plan_batches(lengths: Sequence[int], limits: Limits) -> list[list[int]]:
    """Indices of conversations that share a forward pass, longest first.

    The cost of a batch is the overhead plus its positions, padding included. Of all ways to cut the conversations,
    sorted by length, into batches within the budget, dynamic programming finds the cheapest.

    Args:
        lengths: tokens of each conversation, at least 1.
        limits: of the device.
    """
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    cost, start = [0], [0]  # for the first n conversations: the least cost, and the start of their last batch
    for end in range(1, len(order) + 1):
        options: list[tuple[int, int]] = []
        for first in range(end - 1, -1, -1):
            # The first of a batch is the longest; the others are padded to its length.
            positions = (end - first) * lengths[order[first]]
            if options and positions > limits.budget:
                break
            options.append((cost[first] + limits.overhead + positions, first))
        least, first = min(options)
        cost.append(least)
        start.append(first)
    batches: list[list[int]] = []
    end = len(order)
    while end:
        batches.insert(0, order[start[end] : end])
        end = start[end]
    return batches


@torch.inference_mode()
def capture_batch(
    loaded: LoadedModel, batch: Sequence[Prepared], *, padding: Literal["left", "right"] = "left"
) -> Tensor:
    """The residual of every layer, pooled, of conversations in one forward pass, without a cache.

    Beyond what the forward pass itself needs, only `[batch, d_model]` of each layer is kept (`hooks.record`), and
    logits are made for one position of each row, not for all.

    Args:
        loaded: the model.
        batch: conversations; shorter ones are padded.
        padding: the side; the residuals are the same, up to rounding.

    Returns:
        float32 `[batch, n_layers, d_model]` on the CPU.

    Raises:
        SteeringFault: the model did not run through each of its blocks once.
        UsageError: the model has no embedding for a token.
    """
    for one in batch:
        loaded.check_ids(one.ids)
    width = max(len(one.ids) for one in batch)
    starts = [width - len(one.ids) if padding == "left" else 0 for one in batch]
    ids = torch.zeros(len(batch), width, dtype=torch.long)
    real, chosen = torch.zeros(2, len(batch), width, dtype=torch.bool)
    for row, (one, start) in enumerate(zip(batch, starts, strict=True)):
        ids[row, start : start + len(one.ids)] = torch.tensor(one.ids)
        real[row, start : start + len(one.ids)] = True
        chosen[row, start + torch.tensor(one.chosen)] = True
    positions = (real.long().cumsum(dim=1) - 1).clamp(min=0)
    with record(loaded.path, chosen.to(loaded.device)) as kept:
        call(
            loaded.model,
            input_ids=ids.to(loaded.device),
            attention_mask=real.long().to(loaded.device),
            position_ids=positions.to(loaded.device),
            use_cache=False,
            logits_to_keep=LAST,
        )
    if len(kept) != loaded.n_layers:
        raise SteeringFault(f"{len(kept)} block outputs in one forward pass of a model with {loaded.n_layers} layers")
    return torch.stack(kept, dim=1).cpu()
