"""Where the residual stream goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from capvec.errors import SteeringFault


@dataclass(frozen=True)
class ResidualPath:
    """The modules that the residual stream passes through, in order."""

    blocks: Sequence[nn.Module]
    """The decoder blocks; block L's output is the residual of layer L."""
    end: nn.Module | None
    """What receives the last block's output (the final norm), if known."""
    name: str = ""
    """Dotted path of the blocks' list in the model."""

    def receiver(self, layer: int) -> nn.Module | None:
        """The module that the residual of `layer` enters next."""
        return self.blocks[layer + 1] if layer + 1 < len(self.blocks) else self.end


def hidden_of(output: Any) -> Tensor:
    """A block's residual, whether it returns a tensor or a tuple that starts with one."""
    hidden = output[0] if isinstance(output, tuple) else output
    if not isinstance(hidden, Tensor):
        raise SteeringFault(f"a decoder block returned {type(hidden).__name__}; expected a tensor or a tuple of one")
    return hidden
