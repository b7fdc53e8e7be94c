"""The hooks at one layer in one forward pass: the steer, and the downstream probe that measures what arrived."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from capvec.engines.transformers.hooks.accumulator import Accumulator, Accumulators
from capvec.engines.transformers.hooks.downstream import Terms, ratio
from capvec.engines.transformers.hooks.path import hidden_of
from capvec.errors import SteeringFault


@dataclass
class Site:
    """Moves a block's output, then measures what arrives at the next module.

    Everything but arithmetic on residuals is done on construction, before the forward pass.
    """

    layer: int
    rows: Sequence[Accumulators]
    here: Sequence[Sequence[Accumulator]]
    """The accumulators of each row's steers at this layer."""
    mask: Tensor
    """bool `[batch, positions]`, on the CPU; true where a position is not padding."""
    applies: Tensor
    """bool `[batch, positions, steers]`, on the CPU; rows with fewer steers are padded."""
    names: Mapping[nn.Module, str]
    """Dotted path of every module."""
    unfinished: bool = False
    """As in `steer`."""
    terms: Terms = field(init=False)
    """What the steers ask for."""
    _before: tuple[nn.Module, Tensor] | None = field(default=None, init=False)
    """The block that ran, and its output before the steer."""

    def __post_init__(self) -> None:
        first = next(one for row in self.here for one in row)
        nothing, steers = torch.zeros_like(first.unit), self.applies.shape[-1]
        padded = [[*(one.unit for one in row), *([nothing] * (steers - len(row)))] for row in self.here]
        coefficient = self._of_each(lambda one: one.coefficient)
        projection_weight = self._of_each(lambda one: one.projection_weight)
        moves = self._of_each(lambda one: float(not one.idle)).any(-1)
        keeps = self._of_each(lambda one: float(one.steer.keep_norm)).any(-1) & moves
        still = self.mask & ~moves
        # Computed on the CPU, so that no forward pass waits for the device.
        self._any_applies, self._any_moves, self._any_keeps, self._any_still, self._any_projects = (
            bool(flags.any()) for flags in (self.applies, moves, keeps, still, projection_weight)
        )
        self._passed, self._moved = self.mask.sum(1).tolist(), (self.mask & moves).sum(1).tolist()
        self._counts = self.applies.sum(1).tolist()
        device = first.unit.device
        coefficient, projection_weight = torch.stack((coefficient, projection_weight)).to(device)
        self._moves, keeps, self._still = torch.stack((moves, keeps, still)).to(device)
        self.terms = Terms(
            units=torch.stack([torch.stack(units) for units in padded]),
            coefficient=coefficient,
            projection_weight=projection_weight,
            applied=self.applies.to(device),
            keeps=keeps if self._any_keeps else None,
        )

    def _of_each(self, value: Callable[[Accumulator], float]) -> Tensor:
        """A number of each accumulator where its steer applies, 0 elsewhere: float64 `[batch, positions, steers]`."""
        steers = self.applies.shape[-1]
        rows = [[*(value(one) for one in row), *([0.0] * (steers - len(row)))] for row in self.here]
        return self.applies * torch.tensor(rows, dtype=torch.float64)[:, None, :]

    # ---------------------------------------------------------------------------------------- the steer

    def move(self, module: nn.Module, _args: Any, output: Any) -> Any:
        """The block's forward hook: returns the steered output.

        Raises:
            SteeringFault: the output is not a residual of this batch.
        """
        hidden = hidden_of(output)
        self._check(hidden)
        self._before = module, hidden.detach()
        for row in self.here:
            for one in row:
                one.fired += not self.unfinished
        if not self._any_moves:
            return output
        terms, exact = self.terms, hidden.double()
        along = terms.coefficient
        if self._any_projects:
            along = along - terms.projection_weight * (exact @ terms.units.mT)
        moved = exact + along @ terms.units
        if terms.keeps is not None:
            lengths = [torch.linalg.vector_norm(states, dim=-1) for states in (exact, moved)]
            moved = torch.where(terms.keeps[..., None], moved * ratio(*lengths)[..., None], moved)
        steered = torch.where(self._moves[..., None], moved.to(hidden.dtype), hidden)
        return (steered, *output[1:]) if isinstance(output, tuple) else steered

    def _check(self, hidden: Tensor) -> None:
        expected = (*self.mask.shape, self.terms.units.shape[-1])
        if hidden.shape != expected:
            raise SteeringFault(
                f"block {self.layer} gave a tensor of shape {tuple(hidden.shape)}; expected {expected} "
                "(batch, positions, d_model)"
            )

    # ---------------------------------------------------------------------------------------- the downstream probe

    def probe_input(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """The receiver's forward pre-hook: measures its input.

        Raises:
            SteeringFault: there is no input to measure, or it does not have the shape of the block's output.
        """
        arrived = args[0] if args else kwargs.get("hidden_states")
        if not isinstance(arrived, Tensor):
            raise SteeringFault(f"cannot measure layer {self.layer}: the next module takes no hidden_states")
        self._measure(module, arrived)

    def probe_output(self, module: nn.Module, _args: Any, output: Any) -> None:
        """A forward hook of the block itself, for a last block whose receiver is not known."""
        self._measure(module, hidden_of(output))

    @torch.no_grad()
    def _measure(self, receiver: nn.Module, arrived: Tensor) -> None:
        before, self._before = self._before, None
        if before is None or before[1].shape != arrived.shape:
            raise SteeringFault(f"the residual of layer {self.layer} did not arrive at the next module as it left")
        block, left = before
        was, now = left.double(), arrived.to(left.device).double()
        readings = self.terms.read(was, now, torch.finfo(arrived.dtype).eps) if self._any_applies else None
        leaks = self.leaks(was, now) if self._any_still else None
        places = {"block": self.names.get(block, "?"), "receiver": self.names.get(receiver, "?")}
        for index, (row, here) in enumerate(zip(self.rows, self.here, strict=True)):
            leak = leaks[index] if leaks is not None else None
            row.watch(leak, steered=self._moved[index], unfinished=self.unfinished)
            for number, one in enumerate(here):
                own = readings.of(index, number) if readings is not None else None
                one.add(own, passed=self._passed[index], steered=self._counts[index][number], **places)

    def leaks(self, was: Tensor, now: Tensor) -> Tensor:
        """The largest ‖h_out − h_in‖ of each row over positions that no steer may move, float64 `[batch]`."""
        return torch.where(self._still, torch.linalg.vector_norm(now - was, dim=-1), 0.0).amax(1)
