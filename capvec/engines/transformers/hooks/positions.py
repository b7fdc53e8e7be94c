"""Which tokens a steer applies to."""

from __future__ import annotations

from torch import Tensor

from capvec.errors import SteeringFault
from capvec.steering import Positions


def steered_at(positions: Positions, real: Tensor, *, generated: bool, assistant: Tensor | None) -> Tensor:
    """Where a steer applies, in a pass over prompt tokens or in one over tokens that were generated and fed back.

    Args:
        positions: as in `Steer.positions`.
        real: bool, of any shape; true where a position is not padding.
        generated: whether the tokens were generated in reply to this prompt.
        assistant: bool, shaped as `real`; true for prompt tokens of assistant messages.

    Returns:
        bool, shaped as `real`.

    Raises:
        SteeringFault: the steer is for the assistant's tokens, and `assistant` is None.
    """
    if positions == "all":
        return real
    if positions == "prompt":
        return real & (not generated)
    if positions == "generated" or generated:
        return real & generated
    if assistant is None:
        raise SteeringFault("a steer of the assistant's tokens needs to know which tokens of the prompt those are")
    return real & assistant
