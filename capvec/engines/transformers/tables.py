"""Tables with a row for each position, whatever a model and its config call them.

A position beyond such a table has no row: a CPU raises an error, and a GPU fails for every later request too. So one
forward pass is watched for reads of a table by position: each operation that takes rows by their numbers, from more
rows than the text has tokens, where the numbers are those of consecutive positions. Those of the text's tokens are not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from capvec.engines.transformers.loaded import forward_uncached, refusing

TEXT = (7, 3, 9, 1, 8, 2)
"""Tokens that every model has."""


@torch.inference_mode()
def table_of_positions(model: nn.Module) -> int | None:
    """How many positions the smallest table has rows for; None for a model that reads none.

    Raises:
        UsageError: the model fails.
    """
    device = next(model.parameters()).device
    with refusing(model, "without a cache"), _Reads() as reads:
        forward_uncached(model, torch.tensor([TEXT], device=device))
    return min(reads.sizes, default=None)


class _Reads(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Collects the sizes of the tables that are read by position."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.sizes: list[int] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        read = _READS.get(func.overloadpacket)
        for rows, numbers in read(*args) if read else ():
            first = int(numbers.min())
            if rows > first + len(TEXT) and set(numbers.flatten().tolist()) == set(range(first, first + len(TEXT))):
                self.sizes.append(rows - first)
        return func(*args, **(kwargs or {}))


def _embedding(table: Tensor, numbers: Tensor, *_: Any) -> Iterator[tuple[int, Tensor]]:
    yield table.shape[0], numbers


def _along(table: Tensor, dim: int, numbers: Tensor, *_: Any) -> Iterator[tuple[int, Tensor]]:
    if table.is_floating_point():
        yield table.shape[dim], numbers


def _index(table: Tensor, numbers: Sequence[Tensor | None], *_: Any) -> Iterator[tuple[int, Tensor]]:
    if table.is_floating_point():
        for dim, one in enumerate(numbers):
            if one is not None and one.dtype == torch.long:
                yield table.shape[dim], one


_READS: dict[Any, Callable[..., Iterator[tuple[int, Tensor]]]] = {
    torch.ops.aten.embedding: _embedding,
    torch.ops.aten.index_select: _along,
    torch.ops.aten.gather: _along,
    torch.ops.aten.index: _index,
}
"""Operations that take rows by their numbers: for each, the number of rows and the numbers."""
