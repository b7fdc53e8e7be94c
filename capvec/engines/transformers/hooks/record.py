"""Recording the residual stream, from which directions are estimated."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from capvec.engines.transformers.hooks.path import ResidualPath, hidden_of
from capvec.errors import SteeringFault


@contextmanager
def record(path: ResidualPath, chosen: Tensor) -> Iterator[list[Tensor]]:
    """Collect each layer's residual, averaged over positions of each row: block outputs, never after the final norm.

    Each block's output is reduced at once, so memory does not grow with the number of positions. The mean is taken in
    float64 and rounded once: for one position it is that position's residual, and a row gives the same in any batch.
    Positions that are not chosen are not read, because padding may hold anything.

    Args:
        path: the residual stream's modules.
        chosen: bool `[batch, positions]`, true where a residual counts; at least one in each row.

    Yields:
        A list that holds, after the forward pass, one float32 `[batch, d_model]` for each layer, in order, without a
        graph.

    Raises:
        ValueError: a row without a chosen position.
        SteeringFault: in the forward pass, if a block's output is not a residual of this batch.
    """
    where = [row.nonzero().squeeze(1) for row in chosen]
    if not all(len(positions) for positions in where):
        raise ValueError("a row has no position to record; expected at least one true value in each row of `chosen`")
    kept: list[Tensor] = []

    def keep(_module: nn.Module, _args: Any, output: Any) -> None:
        hidden = hidden_of(output).detach()
        if hidden.shape[:-1] != chosen.shape:
            raise SteeringFault(
                f"block {len(kept)} gave a tensor of shape {tuple(hidden.shape)}; expected {tuple(chosen.shape)} and "
                "d_model (batch, positions, d_model)"
            )
        means = [row[positions].double().mean(dim=0) for row, positions in zip(hidden, where, strict=True)]
        kept.append(torch.stack(means).float())

    with ExitStack() as stack:
        for block in path.blocks:
            stack.callback(block.register_forward_hook(keep).remove)
        yield kept
