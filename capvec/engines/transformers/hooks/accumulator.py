"""What the steers of one request should do, and what was measured of them: the receipts in the making."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from capvec.engines.transformers.hooks.downstream import Readings
from capvec.steering import IsolationCheck, Receipt, Steer, vector_hash


@dataclass
class Accumulator:
    """One steer of one request. Its sums stay on the device: reading them is the only synchronisation."""

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
    """Block and receiver of every pass, each pair once."""
    _read: int = 0
    """Passes that were read."""
    _sums: Tensor | None = None
    _least: Tensor | None = None
    _units: Tensor | None = None
    """Sum over those passes."""

    def __post_init__(self) -> None:
        exact = self.vector.double()
        self.length = float(torch.linalg.vector_norm(exact))
        self.unit = exact / (self.length or 1.0)

    @property
    def reach(self) -> float:
        """α·‖v_L‖; 0 for `ablate`. The steer moves the residual by (reach − follow·⟨h, d_L⟩)·d_L."""
        return 0.0 if self.steer.op == "ablate" else self.steer.alpha * self.length

    @property
    def follow(self) -> float:
        """1 where the projection is taken away (`ablate` and `set`), 0 for `add`."""
        return 0.0 if self.steer.op == "add" else 1.0

    @property
    def idle(self) -> bool:
        """Whether it leaves every residual as it is, whatever that is: an addition of nothing."""
        return self.steer.op == "add" and self.steer.alpha == 0.0

    def add(self, readings: Readings | None, *, passed: int, steered: int, block: str, receiver: str) -> None:
        """Take in one forward pass.

        Args:
            readings: of this steer alone, float64 `[4]`, `[12]` and `[d_model]`; None where no row was steered in it.
            passed: positions of the row in this pass.
            steered: those that the steer applied to.
            block: dotted path of the module that gave the residual.
            receiver: and of the one that it was measured in front of.
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
            forwards: forward passes that were made for the request, counted where they are made and not here.
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
            stray_max=-least[9],
            scale_min=least[10],
            scale_max=-least[11],
        )

    def _vector_hash(self) -> str:
        """Of the mean over the passes of what was multiplied, not of the vector that it was once made from.

        A mean of n equal numbers is off by less than n roundings of float64, which rounding to float32 undoes for n up
        to millions; another vector in one of the passes it does not.
        """
        used = self.unit if self._units is None else self._units / self._read
        return vector_hash((used * self.length).float().cpu().numpy())


@dataclass
class Accumulators:
    """All that is measured of one request: a meter for each steer, and what must be left alone. None need be steered.

    As a meter, it is read once, at the reply's end.
    """

    steers: tuple[Accumulator, ...] = ()
    sites: int = 0
    """Set up for a forward pass that this row took part in, whichever row they are there for."""
    watched: int = 0
    steered: int = 0
    _leak: Tensor | None = None

    def at(self, layer: int) -> tuple[Accumulator, ...]:
        """The meters of the steers at a layer."""
        return tuple(meter for meter in self.steers if meter.steer.layer == layer)

    def watch(self, leak: Tensor | None, *, steered: int) -> None:
        """Take in one site of one forward pass.

        Args:
            leak: float64 scalar, the largest ‖h_out − h_in‖ of the row's positions that were to be left alone there.
            steered: the row's positions that were not.
        """
        self.watched += 1
        self.steered += steered
        if leak is not None:
            self._leak = leak if self._leak is None else torch.maximum(self._leak, leak)

    def receipts(self, forwards: int) -> tuple[Receipt, ...]:
        """One for each steer; `forwards` as in `Meter.receipt`."""
        return tuple(meter.receipt(forwards) for meter in self.steers)

    def stillness(self, forwards: int) -> IsolationCheck:
        """What happened where nothing was to happen; `forwards` as in `Meter.receipt`."""
        return IsolationCheck(
            forwards=forwards,
            sites=self.sites,
            watched=self.watched,
            steered=self.steered,
            leak_max=float(self._leak) if self._leak is not None else 0.0,
        )


def accumulators(steers: Sequence[Steer], vectors: Sequence[Tensor]) -> Accumulators:
    """What measures one request.

    Args:
        steers: the request's steers; none for one that is to be left alone.
        vectors: v_L of each, float32 `[d_model]`.
    """
    return Accumulators(tuple(Accumulator(steer, vector) for steer, vector in zip(steers, vectors, strict=True)))
