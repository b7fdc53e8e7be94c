"""The downstream probe's arithmetic: what happened to the residual at one layer, measured where it arrives.

Let h be the block's output, h' what the next module received, and d_k the directions of the row's steers at this layer.
The steers ask for h' = s·(h + Σ_k c_k·d_k), with s = 1 unless a norm is kept. The part of h' outside the span of the
d_k is therefore s times that part of h, for any coefficients c_k. The probe measures s there and divides by it. With h⊥
the part of h that is orthogonal to all d_k,

    q = h⊥ / ‖h⊥‖²        s = ⟨h', q⟩ where a norm is kept (1 if h⊥ = 0), else 1
    level = ⟨h'/s, d⟩      shift = level − ⟨h, d⟩      off-axis = ‖(h'/s − h)⊥‖

Shift and level then follow from the steers alone, whether or not a norm is kept, and the off-axis part must be zero up
to rounding. Rounding h' to its dtype makes errors δ_j of at most ε/2·|h'_j| each. To first order,

    δlevel = ⟨δ, d − level·q⟩/s        off-axis ≤ ‖δ‖/s ≤ ε/2·‖h'‖/s

The second bound holds because s, as the coefficient of h⊥ in h', takes up the part of δ along h⊥.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from capvec.steering import EXTREMES

_COLLINEAR = 1e-6
"""A unit vector whose part outside the span of others is shorter than this adds no direction to it."""
_FLOAT64 = 1e-12
"""Relative error of float64 arithmetic on a residual's norm: some thousand terms of 1e-16 each."""


class Readings(NamedTuple):
    """What the downstream probe reads of every steer at a layer in one forward pass, float64 `[…, batch, steers]`."""

    sums: Tensor
    """Over the steered positions: shift, level, ‖h_in‖, rounding bound."""
    least: Tensor
    """Over the steered positions, the least of what `EXTREMES` names, the largest as the least negative. Infinite where
    no position was steered."""
    units: Tensor
    """d_k as the hook multiplied it, `[batch, steers, d_model]`."""

    def of(self, row: int, number: int) -> Readings:
        """The readings of one steer of one row."""
        return Readings(self.sums[:, row, number], self.least[:, row, number], self.units[row, number])


@dataclass(frozen=True)
class Terms:
    """What the steers of a batch ask for at one layer, on the model's device. Rows with fewer steers are padded."""

    units: Tensor
    """d_k, float64 `[batch, steers, d_model]`."""
    coefficient: Tensor
    """`Accumulator.coefficient`, float64 `[batch, positions, steers]`; 0 where a steer does not apply."""
    projection_weight: Tensor
    """`Accumulator.projection_weight`, as above."""
    applied: Tensor
    """bool `[batch, positions, steers]`."""
    keeps: Tensor | None
    """bool `[batch, positions]`, where a norm is kept; None if none is."""

    def read(self, was: Tensor, now: Tensor, eps: float) -> Readings:
        """Measure residuals before and after.

        Args:
            was: h, float64 `[batch, positions, d_model]`.
            now: h', float64 `[batch, positions, d_model]`.
            eps: machine epsilon of the residual's dtype.
        """
        units, span = self.units.mT, orthonormal(self.units)
        came, squares = was @ units, now.square()
        spread, most = squares @ units.square(), now.abs() @ units.abs()
        if self.keeps is None:
            scale, level = torch.ones_like(came[..., :1]), now @ units
        else:
            scale, q = _rescaling(self.keeps, was, now, span)
            level = now @ units / scale
            spread = spread - 2 * level * ((squares * q) @ units) + level.square() * _total(squares * q.square())
            most = most + level.abs() * _total((now * q).abs())
        shift = level - came
        wanted = (self.coefficient - self.projection_weight * came) @ (self.units @ units)
        rounding, worst = eps * spread.clamp_min(0).sqrt() / scale, eps / 2 * most / scale
        lengths = [torch.linalg.vector_norm(states, dim=-1, keepdim=True) for states in (was, now)]
        off_axis = torch.linalg.vector_norm(_without(now / scale - was, span), dim=-1, keepdim=True)
        of_each_position = (
            lengths[0],
            ratio(lengths[1], lengths[0]),
            ratio(off_axis, eps / 2 * lengths[1] / scale + _FLOAT64 * lengths[0]),
            scale,
        )
        ambient, norm_ratio, off_axis, scale = (numbers.expand_as(level) for numbers in of_each_position)
        error = (shift - wanted).abs()
        sums = torch.stack((shift, level, ambient, rounding))
        both = [signed for values in (shift, level, norm_ratio, scale) for signed in (values, -values)]
        least = (*both, -rounding, -worst, -error, -off_axis)
        return Readings(
            torch.where(self.applied, sums, 0.0).sum(2),
            torch.where(self.applied, torch.stack(least), torch.inf).amin(2),
            self.units,
        )


def _rescaling(keeps: Tensor, was: Tensor, now: Tensor, span: Tensor) -> tuple[Tensor, Tensor]:
    """s, `[batch, positions, 1]`, and q, `[batch, positions, d_model]`: 1 and 0 where no norm is kept, or h⊥ = 0."""
    rest = _without(was, span)
    square = _total(rest.square())
    measured = keeps[..., None] & (square > _FLOAT64 * _total(was.square()))
    q = torch.where(measured, ratio(rest, square), 0.0)
    scale = _total(now * q)
    # A scale that is not positive was no rescaling; 1 leaves it to the shift to show the fault.
    return torch.where(measured & (scale > 0), scale, 1.0), q


def orthonormal(units: Tensor) -> Tensor:
    """An orthonormal basis of each row's directions, by Gram–Schmidt; zeros for a vector that adds no direction.

    Args:
        units: float64 `[batch, steers, d_model]`, each of length 1 or 0.
    """
    basis = units[:, :1]
    for number in range(1, units.shape[1]):
        rest = units[:, number : number + 1]
        for _ in range(2):  # once is not enough in floating point
            rest = _without(rest, basis)
        length = torch.linalg.vector_norm(rest, dim=-1, keepdim=True)
        basis = torch.cat((basis, torch.where(length > _COLLINEAR, rest / length, 0.0)), dim=1)
    return basis


def _without(states: Tensor, span: Tensor) -> Tensor:
    """The part of `[batch, n, d_model]` that is orthogonal to an orthonormal `[batch, steers, d_model]`."""
    return states - (states @ span.mT) @ span


def _total(states: Tensor) -> Tensor:
    return states.sum(-1, keepdim=True)


def extremes(least: Tensor) -> dict[str, float]:
    """The fields of a receipt, from one steer's `Readings.least`."""
    return {
        name: value if name.endswith("_min") else -value for name, value in zip(EXTREMES, least.tolist(), strict=True)
    }


def ratio(above: Tensor, below: Tensor) -> Tensor:
    """`above / below`, and `above` itself where `below` is 0, so that no ratio is infinite."""
    return above / torch.where(below > 0, below, 1.0)
