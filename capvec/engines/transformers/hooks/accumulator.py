"""Accumulators: they sum the measurements of one request over its forward passes and give its receipts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from capvec.engines.transformers.hooks.downstream import Readings, extremes
from capvec.steering import IsolationCheck, Receipt, Steer, vector_hash


@dataclass
class Accumulator:
    """The measurements of one steer of one request. The sums stay on the device; only `receipt` waits for it."""

    steer: Steer
    vector: Tensor
    """v_L, float32 `[d_model]`, on the model's device."""
    unit: Tensor = field(init=False)
    """d_L = v_L / ‖v_L‖, float64 `[d_model]`; zeros for a zero vector."""
    length: float = field(init=False)
    """‖v_L‖."""
    fired: int = 0
    passed: int = 0
    steered: int = 0
    _places: dict[tuple[str, str], None] = field(default_factory=dict)
    """Block and receiver of every pass; a dictionary keeps each pair once, in order."""
    _read: int = 0
    """Passes with readings."""
    _sums: Tensor | None = None
    _least: Tensor | None = None
    _units: Tensor | None = None
    """Sum over those passes."""

    def __post_init__(self) -> None:
        exact = self.vector.double()
        self.length = float(torch.linalg.vector_norm(exact))
        self.unit = exact / (self.length or 1.0)

    @property
    def coefficient(self) -> float:
        """C in the move (c − w·⟨h, d_L⟩)·d_L: α·‖v_L‖, or 0 for `ablate`; `projection_weight` is w."""
        return 0.0 if self.steer.op == "ablate" else self.steer.alpha * self.length

    @property
    def projection_weight(self) -> float:
        """1 where the projection is removed (`ablate`, `set`), 0 for `add`."""
        return 0.0 if self.steer.op == "add" else 1.0

    @property
    def idle(self) -> bool:
        """Whether the steer changes no residual: it adds with α = 0."""
        return self.steer.op == "add" and self.steer.alpha == 0.0

    def add(self, readings: Readings | None, *, passed: int, steered: int, block: str, receiver: str) -> None:
        """Add one forward pass.

        Args:
            readings: of this steer alone, float64 `[4]`, `[12]` and `[d_model]`; None if the pass steered no row.
            passed: positions of the row in this pass.
            steered: those positions that the steer applied to.
            block: dotted path of the module whose output was steered.
            receiver: dotted path of the module in front of which the residual was measured.
        """
        self.passed += passed
        self.steered += steered
        self._places[block, receiver] = None
        if readings is not None:
            sums, least, units = readings
            self._read += 1
            self._sums = sums if self._sums is None else self._sums + sums
            self._least = least if self._least is None else torch.minimum(self._least, least)
            self._units = units if self._units is None else self._units + units

    def receipt(self, forwards: int) -> Receipt:
        """The measurements as a record.

        Args:
            forwards: forward passes made for the request, counted by the caller and not by the hooks.
        """
        blocks, receivers = (", ".join(dict.fromkeys(pair[side] for pair in self._places)) for side in (0, 1))
        counts = Receipt(
            self.steer,
            fired=self.fired,
            forwards=forwards,
            passed=self.passed,
            steered=self.steered,
            block=blocks,
            receiver=receivers,
            vector=self._vector_hash(),
        )
        if self._sums is None or self._least is None or not self.steered:
            return counts
        shift, level, ambient, rounding = (self._sums / self.steered).tolist()
        means = {"shift_mean": shift, "level_mean": level, "ambient_norm": ambient, "rounding": rounding}
        measured: dict[str, Any] = means | extremes(self._least)
        return replace(counts, **measured)

    def _vector_hash(self) -> str:
        """Hash of the vector that was multiplied, averaged over the passes.

        The mean of n equal numbers is off by less than n roundings of float64. Rounding to float32 undoes that for n up
        to millions, and does not undo another vector in one of the passes.
        """
        used = self.unit if self._units is None else self._units / self._read
        return vector_hash((used * self.length).float().cpu().numpy())


@dataclass
class Accumulators:
    """The measurements of one request: an accumulator for each steer, and those of its isolation check."""

    steers: tuple[Accumulator, ...] = ()
    sites: int = 0
    """Sites set up for forward passes that this row took part in, including those set up for other rows."""
    watched: int = 0
    steered: int = 0
    _leak: Tensor | None = None

    def at(self, layer: int) -> tuple[Accumulator, ...]:
        """The accumulators of the steers at a layer."""
        return tuple(one for one in self.steers if one.steer.layer == layer)

    def watch(self, leak: Tensor | None, *, steered: int, unfinished: bool = False) -> None:
        """Add one site of one forward pass.

        Args:
            leak: float64 scalar, the largest ‖h_out − h_in‖ over the row's positions that no steer may move there.
            steered: the row's positions that a steer moves there.
            unfinished: whether the pass counts as one with a later one.
        """
        self.watched += not unfinished
        self.steered += steered
        if leak is not None:
            self._leak = leak if self._leak is None else torch.maximum(self._leak, leak.to(self._leak.device))

    def receipts(self, forwards: int) -> tuple[Receipt, ...]:
        """One for each steer; `forwards` as in `Accumulator.receipt`."""
        return tuple(one.receipt(forwards) for one in self.steers)

    def isolation(self, forwards: int) -> IsolationCheck:
        """What happened where no steer applied; `forwards` as in `Accumulator.receipt`."""
        return IsolationCheck(
            forwards=forwards,
            sites=self.sites,
            watched=self.watched,
            steered=self.steered,
            leak_max=float(self._leak) if self._leak is not None else 0.0,
        )


def accumulators(steers: Sequence[Steer], vectors: Sequence[Tensor]) -> Accumulators:
    """The accumulators of one request; `vectors` are v_L of each steer, float32 `[d_model]`."""
    return Accumulators(tuple(Accumulator(steer, vector) for steer, vector in zip(steers, vectors, strict=True)))
