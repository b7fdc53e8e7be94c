"""The writes into the residual stream, and removing a direction from each of them.

A decoder's residual is a sum: the token's embedding (and a learned position's, where there is one), and what each
attention and each MLP adds. Ablation *at every write* is the hook form of weight orthogonalisation (Arditi et al. 2024,
"Refusal in language models is mediated by a single direction", section 4): with every write orthogonal to d, so is
every residual. A sweep's `--op ablate` is another operation: it removes d from the residual after one block, whichever
module wrote it. Earlier blocks have read d and later blocks may write it again, which no edit of weights reproduces.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from capvec.engines.transformers.hooks.path import hidden_of


@contextmanager
def ablate_writes(writers: Sequence[nn.Module], unit: Tensor) -> Iterator[None]:
    """Make w ← w − ⟨w, d⟩·d of the output w of every writer, at every position, computed in float32.

    Args:
        writers: the modules whose outputs are added to the residual.
        unit: d, float32 `[d_model]`, ‖d‖ = 1.
    """

    def remove(_module: nn.Module, _args: Any, output: Tensor) -> Tensor:
        write = output.float()
        return (write - (write @ unit)[..., None] * unit).to(output.dtype)

    with ExitStack() as stack:
        for writer in writers:
            stack.callback(writer.register_forward_hook(remove).remove)
        yield


@contextmanager
def watch(blocks: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """Collect the whole output of each block; for short texts only.

    Yields:
        A list that holds, after one forward pass, one float32 `[batch, positions, d_model]` for each block, in order.

    Raises:
        SteeringFault: in the forward pass, if a block returns neither a tensor nor a tuple of one.
    """
    seen: list[Tensor] = []

    def keep(_module: nn.Module, _args: Any, output: Any) -> None:
        seen.append(hidden_of(output).float())

    with ExitStack() as stack:
        for block in blocks:
            stack.callback(block.register_forward_hook(keep).remove)
        yield seen


@contextmanager
def jitter(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Round each module's output once more, up or down at random: h ← h·(1 ± ε), with ε of its dtype.

    It measures what rounding alone does to results computed from these outputs.
    """
    random = torch.Generator().manual_seed(0)

    def shake(_module: nn.Module, _args: Any, output: Any) -> Any:
        hidden = hidden_of(output)
        signs = torch.randint(0, 2, hidden.shape, generator=random).to(hidden) * 2 - 1
        shaken = hidden * (1 + torch.finfo(hidden.dtype).eps * signs)
        return (shaken, *output[1:]) if isinstance(output, tuple) else shaken

    with ExitStack() as stack:
        for module in modules:
            stack.callback(module.register_forward_hook(shake).remove)
        yield


def component(states: Tensor, unit: Tensor) -> float:
    """The share of d left in residuals: the largest |⟨h, d⟩| over a position's largest ‖h‖ in that layer or before.

    The denominator is the largest earlier residual because rounding errors scale with it.

    Args:
        states: float32 `[n_layers, batch, positions, d_model]`.
        unit: d, float32 `[d_model]`, ‖d‖ = 1.
    """
    largest = torch.linalg.vector_norm(states, dim=-1).cummax(dim=0).values
    return float(((states @ unit).abs() / largest).max())
