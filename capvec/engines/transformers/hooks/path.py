"""The modules that the residual stream passes through."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from capvec.errors import SteeringFault, UsageError


@dataclass(frozen=True)
class ResidualPath:
    """The modules that the residual stream passes through, in order."""

    blocks: Sequence[nn.Module]
    """The decoder blocks; block L's output is the residual of layer L."""
    end: nn.Module | None
    """What receives the last block's output (the final norm), if known."""
    name: str = ""
    """Dotted path of the blocks' list in the model."""
    names: Mapping[nn.Module, str] = field(default_factory=dict)
    """Dotted path of every module of the model, so that a hook reports where it ran, not where it was meant to run."""

    def receiver(self, layer: int) -> nn.Module | None:
        """The module that the residual of `layer` enters next."""
        return self.blocks[layer + 1] if layer + 1 < len(self.blocks) else self.end


def check_order(path: ResidualPath, run: Callable[[], object]) -> None:
    """Check that the blocks run once each, in the order of their numbers: layer numbers mean that order.

    Args:
        path: where the residual goes.
        run: makes one forward pass.

    Raises:
        UsageError: they ran in another order, or not once each.
    """
    ran: list[int] = []
    with ExitStack() as stack:
        for layer, block in enumerate(path.blocks):
            stack.callback(block.register_forward_hook(lambda *_, layer=layer: ran.append(layer)).remove)
        run()
    if ran != list(range(len(path.blocks))):
        raise UsageError(
            f"the blocks of {path.name or 'the model'} ran in the order {ran}; expected each once, from 0 to "
            f"{len(path.blocks) - 1}, the order that layer numbers mean"
        )


def hidden_of(output: Any) -> Tensor:
    """A block's residual, whether it returns a tensor or a tuple that starts with one.

    Raises:
        SteeringFault: it returned neither.
    """
    hidden = output[0] if isinstance(output, tuple) else output
    if not isinstance(hidden, Tensor):
        raise SteeringFault(f"a decoder block returned {type(hidden).__name__}; expected a tensor or a tuple of one")
    return hidden
