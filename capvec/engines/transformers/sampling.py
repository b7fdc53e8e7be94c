"""Sampling that does not depend on the other rows of the batch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from capvec.engines.generation import seed_of_32_bits
from capvec.errors import EngineUnavailable


class Sampler(Protocol):
    """Draws the tokens of one reply."""

    def draw(self, logits: Tensor) -> int:
        """The next token, for float32 logits `[vocab]`."""


class RowSampler:
    """Draws the tokens of one reply from its own generator.

    The Gumbel-max trick: argmax(logits/T + g), with g_i = −log(−log u_i) and u_i uniform, is a draw from
    softmax(logits/T) (Gumbel, 1954; Maddison et al., "A* sampling", 2014, §2). One vector of noise per token comes from
    the row's own generator, so a draw does not depend on the other rows of the batch.
    """

    def __init__(self, seed: int, temperature: float) -> None:
        """Args:
        seed: any integer.
        temperature: 0 takes the most likely token.
        """
        self._temperature = temperature
        # On the CPU, so that a seed gives the same noise on every device; its generator drops what is beyond 32 bits.
        self._generator = torch.Generator().manual_seed(seed_of_32_bits(seed))

    def draw(self, logits: Tensor) -> int:
        """The next token, for float32 logits `[vocab]`.

        Raises:
            EngineUnavailable: a logit is NaN or ∞, or all are −∞.
        """
        scores = logits
        if self._temperature != 0.0:
            uniform = torch.rand(logits.shape, generator=self._generator, dtype=torch.float32)
            noise = -torch.log(-torch.log(uniform.clamp_(1e-20, 1 - 2**-24)))
            scores = logits / self._temperature + noise.to(logits.device)
        best = scores.argmax()  # a NaN if there is one, else an ∞ if there is one
        token, logit = torch.stack((best.float(), logits[best])).tolist()  # one transfer; float32 holds integers to 2²⁴
        _check_finite(logit)
        return int(token)


class GivenTokens:
    """Gives tokens one after the other, whatever the model would draw."""

    def __init__(self, tokens: Sequence[int]) -> None:
        self._left = iter(tokens)

    def draw(self, logits: Tensor) -> int:
        """The next token; raises as `RowSampler.draw`."""
        _check_finite(float(logits.max()))
        return next(self._left)


def _check_finite(logit: float) -> None:
    """Raise where the largest logit says that no token can be drawn."""
    if not math.isfinite(logit):
        raise EngineUnavailable(
            f"the model's largest logit is {logit}, so no token can be drawn: a weight is NaN or infinite, or the "
            "model overflows in its dtype"
        )
