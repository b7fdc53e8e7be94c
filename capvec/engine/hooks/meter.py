"""What one steer of one request should do, and what was measured of it: the receipt in the making."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor

from capvec.records import Receipt, Steer


class Readings(NamedTuple):
    """What a witness reads of every steer at a layer in one forward pass, float64 `[…, batch, steers]`."""

    sums: Tensor
    """Over the steered positions: shift, level, ‖h_in‖, rounding bound."""
    least: Tensor
    """Over the steered positions, the least of: shift, −shift, level, −level, norm ratio, −norm ratio, −rounding bound,
    −the most that rounding can do, −error. Infinite where no position was steered."""


@dataclass
class Meter:
    """One steer of one request. Its sums stay on the device: reading them is the only synchronisation."""

    steer: Steer
    vector: Tensor
    """v_L, float32 `[d_model]`, on the model's device."""
    unit: Tensor = field(init=False)
    """d_L = v_L / ‖v_L‖, float64 `[d_model]`; zeros for a zero vector."""
    reach: float = field(init=False)
    """α·‖v_L‖; 0 for `ablate`. The steer moves the residual by (reach − follow·⟨h, d_L⟩)·d_L."""
    follow: float = field(init=False)
    """1 where the projection is taken away (`ablate` and `set`), 0 for `add`."""
    fired: int = 0
    passed: int = 0
    steered: int = 0
    _sums: Tensor | None = None
    _least: Tensor | None = None
    _leak: Tensor | None = None

    def __post_init__(self) -> None:
        exact = self.vector.double()
        norm = float(torch.linalg.vector_norm(exact))
        self.unit = exact / (norm or 1.0)
        self.reach = 0.0 if self.steer.op == "ablate" else self.steer.alpha * norm
        self.follow = 0.0 if self.steer.op == "add" else 1.0

    @property
    def idle(self) -> bool:
        """Whether it leaves every residual as it is, whatever that is: an addition of nothing."""
        return self.steer.op == "add" and self.steer.alpha == 0.0

    def add(self, sums: Tensor, least: Tensor) -> None:
        """Take in the readings of one forward pass, as in `Readings`: float64 `[4]` and `[9]`."""
        self._sums = sums if self._sums is None else self._sums + sums
        self._least = least if self._least is None else torch.minimum(self._least, least)

    def add_leak(self, leak: Tensor) -> None:
        """Take in the largest ‖h_out − h_in‖ of one forward pass at positions that were not to be touched: float64."""
        self._leak = leak if self._leak is None else torch.maximum(self._leak, leak)

    def receipt(self, forwards: int) -> Receipt:
        """The measurements as a record.

        Args:
            forwards: forward passes that were made for the request, counted where they are made and not here.
        """
        counts = Receipt(
            self.steer,
            fired=self.fired,
            forwards=forwards,
            passed=self.passed,
            steered=self.steered,
            leak_max=float(self._leak) if self._leak is not None else 0.0,
        )
        if self._sums is None or self._least is None or not self.steered:
            return counts
        shift, level, ambient, rounding = (self._sums / self.steered).tolist()
        least = self._least.tolist()
        return replace(
            counts,
            shift_mean=shift,
            shift_min=least[0],
            shift_max=-least[1],
            level_mean=level,
            level_min=least[2],
            level_max=-least[3],
            norm_ratio_min=least[4],
            norm_ratio_max=-least[5],
            ambient_norm=ambient,
            rounding=rounding,
            rounding_max=-least[6],
            rounding_worst=-least[7],
            error_max=-least[8],
        )


def meters(steers: Sequence[Steer], vectors: Sequence[Tensor]) -> tuple[Meter, ...]:
    """One meter for each steer of a request.

    Args:
        steers: the request's steers.
        vectors: v_L of each, float32 `[d_model]`.
    """
    return tuple(Meter(steer, vector) for steer, vector in zip(steers, vectors, strict=True))
