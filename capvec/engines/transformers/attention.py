"""Attention of one new token, with sums that do not depend on the number of threads.

PyTorch's fused kernel on a CPU cuts the cached positions between threads where a query has one position, and adds up
the parts. Products of matrices do not, and are as fast. With them every operation of a step gives the same numbers in
one thread as in several, so that `threads` may choose.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

_HARMLESS = frozenset(("is_causal", "sliding_window", "position_ids", "cache_position", "use_cache"))
"""Arguments that say nothing of a single new position beside its mask."""


def attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """As transformers' `sdpa_attention_forward`, to which any but a single new position on a CPU is left.

    So is a dtype of 16 bits, whose scores the fused kernel holds in float32.

    Args:
        module: whose attention it is.
        query: `[rows, heads, 1, width]`.
        key: `[rows, groups, positions, width]`.
        value: `[rows, groups, positions, value width]`.
        attention_mask: broadcasts to `[rows, heads, 1, positions]`: bool, or added to the scores.
        dropout: 0 where nothing is trained.
        scaling: of the scores; 1/√width if absent.
        others: of transformers.

    Returns:
        `[rows, 1, heads, value width]`, and no weights.
    """
    unknown = any(value is not None and name not in _HARMLESS for name, value in others.items())
    fine = query.device.type == "cpu" and query.dtype in (torch.float32, torch.float64)
    if query.shape[2] != 1 or not fine or dropout or unknown:
        answer: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **others
        )
        return answer
    rows, heads, _, width = query.shape
    groups, positions = key.shape[1], key.shape[2]
    scores = query.reshape(rows, groups, heads // groups, width) @ key.transpose(2, 3)
    scores = scores.view(rows, heads, 1, positions).mul_(width**-0.5 if scaling is None else scaling)
    if attention_mask is not None:
        mask = attention_mask[..., :positions]
        scores = scores.masked_fill_(~mask, -torch.inf) if mask.dtype == torch.bool else scores.add_(mask)
    weights = scores.softmax(-1).view(rows, groups, heads // groups, positions)
    return (weights @ value).view(rows, 1, heads, value.shape[-1]), None


def use_these_sums() -> None:
    """Have the models of this process that ask for PyTorch's attention take this one."""
    ALL_ATTENTION_FUNCTIONS.register("sdpa", attend)
