"""What really happened to the residual at one layer: measured where it arrives, not where it was changed.

h is what the block gave, h' what the next module received, and d_k the directions of the row's steers at this layer.
What the steers are to do says that h' = s·(h + Σ_k c_k·d_k), with s = 1 unless a norm is kept. So h', less what lies in
the span of the d_k, is s times as much of h, whatever the strengths c_k are: the witness measures s there, asks nobody
for it, and undoes it. With h⊥ the part of h that is orthogonal to all d_k,

    q = h⊥ / ‖h⊥‖²        s = ⟨h', q⟩ where a norm is kept (1 if h⊥ = 0), else 1
    level = ⟨h'/s, d⟩      shift = level − ⟨h, d⟩      stray = ‖(h'/s − h)⊥‖

Shift and level then follow from the steers alone, norm kept or not, and nothing may be astray. Rounding h' to its dtype
errs by δ_j, at most ε/2·|h'_j| each, and by first order

    δlevel = ⟨δ, d − level·q⟩/s        stray ≤ ‖δ‖/s ≤ ε/2·‖h'‖/s

the latter because s, being the coefficient of h⊥ in h', leaves of δ what is orthogonal to h⊥ too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

_COLLINEAR = 1e-6
"""Of a unit vector, what has to be outside of the span of others to count as another direction."""
_FLOAT64 = 1e-12
"""What arithmetic in float64 may do to a residual, relative to its norm: some thousand terms of 1e-16."""


class Readings(NamedTuple):
    """What a witness reads of every steer at a layer in one forward pass, float64 `[…, batch, steers]`."""

    sums: Tensor
    """Over the steered positions: shift, level, ‖h_in‖, rounding bound."""
    least: Tensor
    """Over the steered positions, the least of: shift, −shift, level, −level, norm ratio, −norm ratio, −rounding bound,
    −the most that rounding can do, −error, −stray, s, −s. Infinite where no position was steered."""
    units: Tensor
    """d_k as the hook multiplied it, `[batch, steers, d_model]`."""

    def of(self, row: int, number: int) -> Readings:
        """What was read of one steer of one row."""
        return Readings(self.sums[:, row, number], self.least[:, row, number], self.units[row, number])


@dataclass(frozen=True)
class Terms:
    """What the steers of a batch are to do at one layer, on the model's device; rows with fewer steers are padded."""

    units: Tensor
    """d_k, float64 `[batch, steers, d_model]`."""
    reach: Tensor
    """float64 `[batch, positions, steers]`, as `Meter.reach`, and as the next one; 0 where a steer does not apply."""
    follow: Tensor
    applied: Tensor
    """bool `[batch, positions, steers]`."""
    keeps: Tensor | None
    """bool `[batch, positions]`, where a norm is kept; None where none is."""

    def read(self, was: Tensor, now: Tensor, eps: float) -> Readings:
        """Measure residuals before and after.

        Args:
            was: h, float64 `[batch, positions, d_model]`.
            now: h', likewise.
            eps: of the dtype that they had.
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
        wanted = (self.reach - self.follow * came) @ (self.units @ units)
        rounding, worst = eps * spread.clamp_min(0).sqrt() / scale, eps / 2 * most / scale
        lengths = [torch.linalg.vector_norm(states, dim=-1, keepdim=True) for states in (was, now)]
        astray = torch.linalg.vector_norm(_without(now / scale - was, span), dim=-1, keepdim=True)
        of_each_position = (
            lengths[0],
            ratio(lengths[1], lengths[0]),
            ratio(astray, eps / 2 * lengths[1] / scale + _FLOAT64 * lengths[0]),
            scale,
        )
        ambient, grown, stray, scale = (numbers.expand_as(level) for numbers in of_each_position)
        error = (shift - wanted).abs()
        sums = torch.stack((shift, level, ambient, rounding))
        least = (shift, -shift, level, -level, grown, -grown, -rounding, -worst, -error, -stray, scale, -scale)
        return Readings(
            torch.where(self.applied, sums, 0.0).sum(2),
            torch.where(self.applied, torch.stack(least), torch.inf).amin(2),
            self.units,
        )


def _rescaling(keeps: Tensor, was: Tensor, now: Tensor, span: Tensor) -> tuple[Tensor, Tensor]:
    """s, `[batch, positions, 1]`, and q, `[batch, positions, d_model]`: 1 and 0 where no norm is kept, or h⊥ = 0.

    Args:
        keeps: bool `[batch, positions]`.
        was: h, float64 `[batch, positions, d_model]`.
        now: h', likewise.
        span: of the directions, an orthonormal basis.
    """
    rest = _without(was, span)
    square = _total(rest.square())
    measured = keeps[..., None] & (square > _FLOAT64 * _total(was.square()))
    q = torch.where(measured, ratio(rest, square), 0.0)
    scale = _total(now * q)
    # What is no positive multiple of h⊥ was not rescaled; then the shift has to say so.
    return torch.where(measured & (scale > 0), scale, 1.0), q


def orthonormal(units: Tensor) -> Tensor:
    """An orthonormal basis of each row's directions, by Gram and Schmidt; zeros in place of what adds nothing.

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
    """What of `[batch, n, d_model]` is orthogonal to an orthonormal `[batch, steers, d_model]`."""
    return states - (states @ span.mT) @ span


def _total(states: Tensor) -> Tensor:
    return states.sum(-1, keepdim=True)


def ratio(above: Tensor, below: Tensor) -> Tensor:
    """`above / below`; `above` itself where `below` is 0, so that nothing becomes infinite."""
    return above / torch.where(below > 0, below, 1.0)
