"""The directions that a worker holds: which rows of the device's bank are whose."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from capvec.steering import direction_hash


@dataclass
class Held:
    """A direction in the bank."""

    row: int
    vectors: NDArray[np.float32]
    """v_L of the instrumented layers, `[sites, d_model]`."""
    lengths: list[float]
    """‖v_L‖ of each."""
    users: int = 0
    """Requests that are steered by it now."""
    dropped: bool = False
    """Whether it leaves as soon as nobody uses it."""


class Bank:
    """Rows for `capacity` directions.

    A full bank gives up the one whose last use is longest ago, among those that no request uses. A row that a running
    request reads is never written.
    """

    def __init__(self, capacity: int, layers: Sequence[int]) -> None:
        self.capacity = capacity
        self._layers = list(layers)
        self._held: OrderedDict[str, Held] = OrderedDict()
        self._free = list(range(capacity - 1, -1, -1))

    def __contains__(self, direction: str) -> bool:
        return direction in self._held and not self._held[direction].dropped

    @property
    def directions(self) -> list[str]:
        """Hashes of those that a steer may name."""
        return [direction for direction in self._held if direction in self]

    def put(self, vectors: NDArray[np.float32]) -> tuple[str, Held | None]:
        """Hold a direction.

        Args:
            vectors: of all layers, `[n_layers, d_model]`.

        Returns:
            Its hash, and where to write it; None if it is there already, and its row must not be written.

        Raises:
            MemoryError: all rows are in use.
        """
        direction = direction_hash(vectors)
        if direction in self._held:
            self._held[direction].dropped = False
            self._held.move_to_end(direction)
            return direction, None
        if not self._free:
            self._evict()
        here = np.ascontiguousarray(vectors[self._layers])
        lengths = np.linalg.norm(here.astype(np.float64), axis=1).tolist()
        held = self._held[direction] = Held(self._free.pop(), here, lengths)
        return direction, held

    def drop(self, direction: str) -> None:
        """Give a direction up, at once or when the last request that uses it has ended."""
        if held := self._held.get(direction):
            held.dropped = True
            self._leave(direction)

    def borrow(self, direction: str) -> Held | None:
        """A direction for a request; None if it is not held. To be given back by `give_back`."""
        if direction not in self:
            return None
        held = self._held[direction]
        held.users += 1
        self._held.move_to_end(direction)
        return held

    def give_back(self, direction: str) -> None:
        """End one use."""
        self._held[direction].users -= 1
        self._leave(direction)

    def _leave(self, direction: str) -> None:
        held = self._held[direction]
        if held.dropped and not held.users:
            self._free.append(self._held.pop(direction).row)

    def _evict(self) -> None:
        idle = next((direction for direction, held in self._held.items() if not held.users), None)
        if idle is None:
            raise MemoryError(
                f"all {self.capacity} directions of the bank are in use; start vLLM with a larger `directions` in "
                "capvec's part of --additional-config"
            )
        self._free.append(self._held.pop(idle).row)
