"""Steering the residual stream.

Layer L's residual is the output of decoder block L. A steer adds α·v_L to it, row by row of the batch:

    h_out[i, t] = h_in[i, t] + Σ_k α_ik · v_ik        (summed in float32, rounded once to the residual's dtype)

The *witness* is a second hook, on whatever module receives the residual next. It measures the shift from what really
arrives there, not from what the first hook believes that it returned, so a hook in the wrong place, one that runs too
late, or a model that ignores the returned value shows up in the receipt.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from capvec.engine.hooks.path import ResidualPath, hidden_of
from capvec.errors import SteeringFault
from capvec.records import Receipt, Steer


@dataclass
class Meter:
    """One steer of one request: what it should do, and what was measured so far."""

    steer: Steer
    vector: Tensor
    """v_L, float32 `[d_model]`, on the model's device."""
    expected: float = 0.0
    """⟨Σ_k α_k·v_k, d_L⟩ over every steer of the request at this layer."""
    fired: int = 0
    _sums: Tensor | None = None
    _extremes: Tensor | None = None

    @property
    def unit(self) -> Tensor:
        """d_L = v_L / ‖v_L‖, float32 `[d_model]`; zeros for a zero vector."""
        norm = torch.linalg.vector_norm(self.vector)
        return self.vector / norm if norm > 0 else torch.zeros_like(self.vector)

    def add(self, shift: Tensor, ambient: Tensor, rounding: Tensor) -> None:
        """Take in one forward pass; all three float32 `[positions]`. Stays on the device: no synchronisation here."""
        sums = torch.stack((torch.ones_like(shift).sum(), shift.sum(), ambient.sum(), rounding.sum())).double()
        extremes = torch.stack((shift.min(), -shift.max(), -rounding.max()))
        self._sums = sums if self._sums is None else self._sums + sums
        self._extremes = extremes if self._extremes is None else torch.minimum(self._extremes, extremes)

    def receipt(self, forwards: int) -> Receipt:
        """The measurements as a record.

        Args:
            forwards: forward passes that were made for the request, counted where they are made and not here.
        """
        n, shift, ambient, rounding = self._sums.tolist() if self._sums is not None else (0.0, 0.0, 0.0, 0.0)
        least, most, coarse = self._extremes.tolist() if self._extremes is not None else (0.0, 0.0, 0.0)
        count = max(n, 1.0)
        return Receipt(
            layer=self.steer.layer,
            direction=self.steer.direction,
            alpha=self.steer.alpha,
            fired=self.fired,
            forwards=forwards,
            positions=int(n),
            expected_shift=self.expected,
            shift_mean=shift / count,
            shift_min=least,
            shift_max=-most,
            ambient_norm=ambient / count,
            rounding=rounding / count,
            rounding_max=-coarse,
        )


def meters(steers: Sequence[Steer], vectors: Sequence[Tensor]) -> tuple[Meter, ...]:
    """One meter for each steer of a request, each knowing the shift that all of them together should make at its layer.

    Args:
        steers: the request's steers.
        vectors: v_L of each, float32 `[d_model]`.
    """
    made = tuple(Meter(steer, vector) for steer, vector in zip(steers, vectors, strict=True))
    for meter in made:
        total = sum(other.steer.alpha * other.vector for other in made if other.steer.layer == meter.steer.layer)
        meter.expected = float(torch.dot(torch.as_tensor(total), meter.unit))
    return made


@contextmanager
def steer(path: ResidualPath, rows: Sequence[Sequence[Meter]], mask: Tensor) -> Iterator[None]:
    """Steer every forward pass inside the context; the hooks are gone afterwards, whatever happened.

    Args:
        path: where the residual goes.
        rows: the meters of each batch row; an empty row is left bit for bit as it is, and so is one whose α is 0.
        mask: bool `[batch, positions]`, true where a position is real and not padding; only those are measured.

    Raises:
        SteeringFault: inside the forward pass, when a block's output is not a residual of this batch.
    """
    layers = sorted({meter.steer.layer for row in rows for meter in row})
    with ExitStack() as stack:
        for layer in layers:
            site = _Site(layer, [[meter for meter in row if meter.steer.layer == layer] for row in rows], mask)
            block, receiver = path.blocks[layer], path.receiver(layer)
            stack.callback(block.register_forward_hook(site.add).remove)
            if receiver is not None:
                stack.callback(receiver.register_forward_pre_hook(site.witness_input, with_kwargs=True).remove)
            else:
                stack.callback(block.register_forward_hook(site.witness_output).remove)
        yield


@dataclass
class _Site:
    """The hooks at one layer: adds to the block's output, then measures what arrives at the next module."""

    layer: int
    rows: Sequence[Sequence[Meter]]
    mask: Tensor
    _before: Tensor | None = field(default=None, init=False)

    def add(self, _module: nn.Module, _args: Any, output: Any) -> Any:
        hidden = hidden_of(output)
        self._check(hidden)
        self._before = hidden
        for row in self.rows:
            for meter in row:
                meter.fired += 1
        active = [any(meter.steer.alpha != 0.0 for meter in row) for row in self.rows]
        if not any(active):
            return output
        delta = torch.stack([self._delta(row, hidden) for row in self.rows])[:, None, :]
        chosen = torch.tensor(active, device=hidden.device)[:, None, None]
        steered = torch.where(chosen, (hidden.float() + delta).to(hidden.dtype), hidden)
        return (steered, *output[1:]) if isinstance(output, tuple) else steered

    def witness_input(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        arrived = args[0] if args else kwargs.get("hidden_states")
        if not isinstance(arrived, Tensor):
            raise SteeringFault(f"nothing to measure after layer {self.layer}: the next module takes no hidden_states")
        self._measure(arrived)

    def witness_output(self, _module: nn.Module, _args: Any, output: Any) -> None:
        self._measure(hidden_of(output))

    def _measure(self, arrived: Tensor) -> None:
        before, self._before = self._before, None
        if before is None or before.shape != arrived.shape:
            raise SteeringFault(f"the residual of layer {self.layer} did not arrive at the next module as it left")
        eps = torch.finfo(arrived.dtype).eps
        for index, row in enumerate(self.rows):
            if not row:
                continue
            was, now = (state[index][self.mask[index]].float() for state in (before, arrived))
            ambient = torch.linalg.vector_norm(was, dim=-1)
            for meter in row:
                unit = meter.unit
                meter.add((now - was) @ unit, ambient, eps * torch.linalg.vector_norm(now * unit, dim=-1))

    def _delta(self, row: Sequence[Meter], hidden: Tensor) -> Tensor:
        """Σ α·v of one row, float32 `[d_model]`."""
        total = torch.zeros(hidden.shape[-1], device=hidden.device)
        for meter in row:
            total = total + meter.steer.alpha * meter.vector
        return total

    def _check(self, hidden: Tensor) -> None:
        expected = (*self.mask.shape, next(meter.vector.shape[0] for row in self.rows for meter in row))
        if hidden.shape != expected:
            raise SteeringFault(
                f"block {self.layer} gave a tensor of shape {tuple(hidden.shape)}; expected {expected} "
                "(batch, positions, d_model)"
            )
