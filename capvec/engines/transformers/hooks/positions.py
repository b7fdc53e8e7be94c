"""Which tokens a steer applies to."""

from __future__ import annotations

from torch import Tensor

from capvec.errors import SteeringFault
from capvec.steering import Positions


def steered_at(positions: Positions, real: Tensor, *, generated: bool, assistant: Tensor | None) -> Tensor:
    """Where a steer applies, in a pass over prompt tokens or in one over tokens that were generated and fed back.

    Args:
        positions: `all`; `prompt`, every token of the request's prompt; `generated`, every token fed back after it;
            `assistant`, what assistant messages say in the prompt, and what is generated, which will be one.
        real: bool, of any shape: true where a token is one and not padding.
        generated: whether the tokens were generated in reply to this very prompt.
        assistant: bool, shaped as `real`: of prompt tokens, whether an assistant message says them.

    Returns:
        bool, shaped as `real`.

    Raises:
        SteeringFault: the steer is for the assistant's tokens, and which of the prompt's those are was not said.
    """
    if positions == "all":
        return real
    if positions == "prompt":
        return real & (not generated)
    if positions == "generated" or generated:
        return real & generated
    if assistant is None:
        raise SteeringFault("a steer of the assistant's tokens, but nothing says which tokens of the prompt those are")
    return real & assistant
