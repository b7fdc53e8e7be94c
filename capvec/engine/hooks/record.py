"""Recording the residual stream: what a direction is estimated from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from capvec.engine.hooks.path import ResidualPath, hidden_of


@contextmanager
def record(path: ResidualPath, last: Tensor) -> Iterator[list[Tensor]]:
    """Collect each layer's residual at one position of each row, as block outputs (never after the final norm).

    Args:
        path: where the residual goes.
        last: int64 `[batch]`, the position to keep of each row.

    Yields:
        A list that holds, after the forward pass, one float32 `[batch, d_model]` for each layer, in order.
    """
    kept: list[Tensor] = []
    rows = torch.arange(len(last), device=last.device)

    def keep(_module: nn.Module, _args: Any, output: Any) -> None:
        kept.append(hidden_of(output)[rows, last].float())

    with ExitStack() as stack:
        for block in path.blocks:
            stack.callback(block.register_forward_hook(keep).remove)
        yield kept
