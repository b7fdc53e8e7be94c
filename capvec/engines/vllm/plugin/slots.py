"""Requests' slots: what each asks for, what is counted of it outside the graph, and the tokens of the next step.

The hooks are part of a compiled graph, so they read all that differs from step to step from buffers that stay in place.
Every request has a slot, a row of those buffers. Before each step, each token gets one number: its request's slot, the
kind of its position, whether a token is drawn from it, and whether it was computed before. Slot 0 stands for padding.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from capvec.engines.vllm.layout import APPLIES, ASSISTANT, GENERATED, PROMPT
from capvec.engines.vllm.plugin.bank import Bank, Held
from capvec.steering import Steer

KIND, DREW, AGAIN, CHOSEN = 24, 26, 27, 28
"""Bits of a token above its slot: two of the kind, then one each."""
SLOT_MASK = (1 << KIND) - 1

VECTOR, WHERE, COEFFICIENT, WEIGHT, LENGTH, INVERSE = range(6)
"""Columns of a steer in the table: the bank's row, or -1 for none; the kinds of positions as bits, and `KEEPS`; c and w
of its move (c − w·⟨h, d⟩)·d; ‖v‖; and from `INVERSE` on, one for each steer of the site, its row of the pseudo-inverse
of the Gram matrix of their unit vectors, which projects onto their span."""
KEEPS = 1 << 3
"""The steer keeps the norm."""
_COLLINEAR = 1e-12
"""Share of the largest eigenvalue below which directions of a site count as one."""


@dataclass
class Open:
    """A request that has a slot."""

    key: str | None
    """The server's name for it; None for a request that is no one's of capvec."""
    steers: tuple[Steer, ...] = ()
    entries: list[tuple[int, int]] = field(default_factory=list)
    """Site and place in the table of each steer."""
    assistant: NDArray[np.bool_] | None = None
    """Of each prompt token, whether the assistant's; None where no steer asks."""
    prompt: int = 0
    cached: int = 0
    """Prompt tokens that were not computed, because an earlier request had."""
    chosen: NDArray[np.bool_] | None = None
    """Of each prompt token, whether its residuals are captured; None if none are."""
    pool: int = -1
    """Where they are summed; -1 for nowhere."""
    directions: dict[str, Held] = field(default_factory=dict)
    """What its steers name, borrowed from the bank."""
    faults: list[str] = field(default_factory=list)
    """Why it is not steered as asked; then it is not steered at all."""


class Slots:
    """All requests of a worker. Pure bookkeeping: what must be copied to the device is left in `opened` and `table`."""

    def __init__(self, capacity: int, layers: Sequence[int], max_steers: int, bank: Bank, *, pools: int = 0) -> None:
        self.layers = tuple(layers)
        self.site = {layer: site for site, layer in enumerate(self.layers)}
        self.max_steers = max_steers
        self.bank = bank
        self.table = np.zeros((capacity, len(self.layers), max_steers, INVERSE + max_steers))
        self.table[..., VECTOR] = -1
        self.opened: list[int] = []
        """Slots whose buffers must be written before the next step."""
        self.requests: list[Open | None] = [None] * capacity
        self._free = list(range(capacity - 1, 0, -1))
        self._of: dict[str, int] = {}
        """Slot of each of vLLM's request ids; 0 for one that found no slot."""
        self._keys: dict[str, int] = {}
        self._closed: deque[int] = deque()
        """Slots of requests that have ended and whose receipts were not asked for yet, oldest first."""
        self.passes = np.zeros(capacity, dtype=np.int64)
        """Forward passes that each took part in, chunks of a prompt and repeated ones included."""
        self.again = np.zeros(capacity, dtype=np.int64)
        """Positions that were computed a second time."""
        self.reached = np.zeros(capacity, dtype=np.int64)
        """The first position that was never computed."""
        self._prompt = np.zeros(capacity, dtype=np.int64)
        self._spoken = np.zeros(capacity, dtype=bool)
        """Whether something is known of each token of the slot's prompt: the assistant's, or captured."""
        self._pools = list(range(pools))
        self._sites = np.zeros((capacity, len(self.layers)), dtype=bool)
        """Where each slot's request is steered."""
        self._ids: list[str] = []
        self._rows = np.zeros(0, dtype=np.int64)
        self._going_on: NDArray[np.int32] | None = None
        """The numbers of the last step, if they are those of the next one where each of its requests goes on."""

    # ------------------------------------------------------------------------------------------ requests

    def open(self, request: str, asked: Mapping[str, Any], *, prompt: int, cached: int) -> None:
        """Give a request a slot.

        Args:
            request: vLLM's id.
            asked: what came in `extra_args`: `key`; `steers` as JSON; `assistant` and `capture`, lists of [start, end).
            prompt: tokens of the prompt.
            cached: how many of them are not computed.
        """
        self._ids = []
        slot = self._of[request] = self._take()
        if not slot:
            return
        one = self.requests[slot] = Open(asked.get("key"), prompt=prompt, cached=cached)
        self._prompt[slot], self.reached[slot] = prompt, cached
        self.passes[slot] = self.again[slot] = 0
        self.table[slot] = 0
        self.table[slot, ..., VECTOR] = -1
        self._sites[slot] = False
        try:
            one.faults = self._understand(one, asked)
        except Exception as error:  # of this request only; the engine goes on
            one.steers, one.faults = (), [f"not understood: {error}"]
        if not one.faults:
            self._enter(slot, one)
        self._spoken[slot] = one.assistant is not None or one.chosen is not None
        if one.key is not None:
            self._keys[one.key] = slot
        self.opened.append(slot)

    def of(self, request: str) -> Open | None:
        """What is known of a request by vLLM's id; None for one that found no slot."""
        return self.requests[self._of.get(request, 0)]

    def close(self, request: str) -> None:
        """Note that a request has ended. What was measured stays until it is asked for, or its slot is needed."""
        self._ids = []
        slot = self._of.pop(request, 0)
        one = self.requests[slot] if slot else None
        if one is None:
            return
        if one.key is None or self._keys.get(one.key) != slot:
            self._release(slot)
        else:
            self._closed.append(slot)

    @property
    def under_way(self) -> set[int]:
        """The slots of the step that was packed last."""
        return set(self._rows.tolist())

    def find(self, key: str) -> int:
        """The slot of a request by the server's key; 0 if there is none."""
        return self._keys.get(key, 0)

    def taken(self, key: str) -> None:
        """Note that the receipts of a request were given out."""
        slot = self._keys.pop(key)
        if slot in self._closed:
            self._closed.remove(slot)
            self._release(slot)

    def _take(self) -> int:
        if not self._free and self._closed:
            slot = self._closed.popleft()
            one = self.requests[slot]
            if one is not None and one.key is not None:
                self._keys.pop(one.key, None)
            self._release(slot)
        return self._free.pop() if self._free else 0

    def _release(self, slot: int) -> None:
        one, self.requests[slot] = self.requests[slot], None
        for direction in one.directions if one is not None else ():
            self.bank.give_back(direction)
        if one is not None and one.pool >= 0:
            self._pools.append(one.pool)
        self._free.append(slot)

    def _understand(self, one: Open, asked: Mapping[str, Any]) -> list[str]:
        """Read what a request asks for, and say why it cannot be done."""
        one.steers = tuple(Steer.from_json(steer) for steer in asked.get("steers", ()))
        here: Counter[int] = Counter()
        faults: dict[str, None] = {}
        for steer in one.steers:
            held = one.directions.get(steer.direction) or self.bank.borrow(steer.direction)
            if held is not None:
                one.directions[steer.direction] = held
            else:
                faults[f"the direction {steer.direction} is not held; put it first"] = None
            if steer.layer in self.site:
                one.entries.append((self.site[steer.layer], here[steer.layer]))
            else:
                faults[f"layer {steer.layer} has no hook; expected one of {_in_words(self.layers)}"] = None
            here[steer.layer] += 1
            if here[steer.layer] > self.max_steers:
                faults[f"layer {steer.layer} has more than {self.max_steers} steers, the most of `max_steers`"] = None
        if any(steer.positions == "assistant" for steer in one.steers):
            if "assistant" not in asked:
                faults["a steer of the assistant's tokens came without their places"] = None
            one.assistant = _within(asked.get("assistant", ()), one.prompt)
        if "capture" in asked:
            one.chosen = _within(asked["capture"], one.prompt)
            if self._pools:
                one.pool = self._pools.pop()
            else:
                faults["more captures at once than there is room for"] = None
        return list(faults)

    def _enter(self, slot: int, one: Open) -> None:
        """Write the request's steers into its rows of the table."""
        here: dict[int, list[NDArray[np.float64]]] = {}
        for steer, (site, place) in zip(one.steers, one.entries, strict=True):
            held = one.directions[steer.direction]
            length = held.lengths[site]
            here.setdefault(site, []).append(held.vectors[site].astype(np.float64) / (length or 1.0))
            self.table[slot, site, place, :INVERSE] = (
                held.row,
                APPLIES[steer.positions] | (KEEPS if steer.keep_norm else 0),
                0.0 if steer.op == "ablate" else steer.alpha * length,
                0.0 if steer.op == "add" else 1.0,
                length,
            )
        for site, units in here.items():
            self._sites[slot, site] = True
            self.table[slot, site, : len(units), INVERSE : INVERSE + len(units)] = _inverse(units)

    # ------------------------------------------------------------------------------------------ the next step

    def pack(
        self, requests: Sequence[str], computed: NDArray[np.integer[Any]], scheduled: NDArray[np.integer[Any]]
    ) -> NDArray[np.int32]:
        """Count the next step, and give each of its tokens its number.

        Args:
            requests: vLLM's ids, in the order of the batch.
            computed: tokens of each that were computed before.
            scheduled: tokens of each that this step computes.

        Returns:
            The numbers; the same array as before if the step is as the one before.
        """
        rows = self._rows_of(requests)
        reached = self.reached[rows]
        if self._going_on is not None and (scheduled == 1).all() and (computed == reached).all():
            self.reached[rows] = reached + 1
            self.passes[rows] += 1
            return self._going_on
        self.reached[rows] = np.maximum(reached, computed + scheduled)
        self.again[rows] += np.clip(reached - computed, 0, scheduled)
        self.passes[rows] += 1
        of = np.repeat(np.arange(len(rows)), scheduled)
        starts = np.cumsum(scheduled) - scheduled
        at = np.arange(len(of)) - (starts - computed)[of]
        slots, prompt = rows[of], self._prompt[rows][of]
        kinds, chosen = np.where(at < prompt, PROMPT, GENERATED), np.zeros(len(of), dtype=np.int64)
        for index in np.flatnonzero(self._spoken[rows] & (computed < self._prompt[rows])):
            where = slice(starts[index], starts[index] + scheduled[index])
            self._mark(kinds[where], chosen[where], int(rows[index]), int(computed[index]))
        again = at < reached[of]
        drew = (at >= prompt - 1) & ~again
        chosen &= ~again
        packed = (
            slots | kinds << KIND | drew.astype(np.int64) << DREW | again.astype(np.int64) << AGAIN | chosen << CHOSEN
        )
        numbers = np.where(slots > 0, packed, 0).astype(np.int32)
        alike = len(of) == len(rows) and bool(((kinds == GENERATED) & drew & (slots > 0)).all())
        self._going_on = numbers if alike else None
        return numbers

    def steered_sites(self, requests: Sequence[str]) -> NDArray[np.bool_]:
        """Of each site, whether a request of the step is steered there."""
        return np.asarray(self._sites[self._rows_of(requests)].any(0))

    def _rows_of(self, requests: Sequence[str]) -> NDArray[np.int64]:
        if list(requests) != self._ids:
            self._ids, self._going_on = list(requests), None
            self._rows = np.fromiter((self._of.get(one, 0) for one in requests), dtype=np.int64, count=len(requests))
        return self._rows

    def _mark(self, kinds: NDArray[np.int64], chosen: NDArray[np.int64], slot: int, first: int) -> None:
        """Mark the assistant's tokens and those to be captured among a chunk of a prompt that begins at `first`."""
        one = self.requests[slot]
        if one is not None and one.assistant is not None:
            said = one.assistant[first : first + len(kinds)]
            kinds[: len(said)][said] = ASSISTANT
        if one is not None and one.chosen is not None:
            mine = one.chosen[first : first + len(chosen)]
            chosen[: len(mine)] = mine


def _inverse(units: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """The pseudo-inverse of the Gram matrix of vectors of length 1 or 0."""
    if len(units) == 1:
        return np.array([[float(units[0].any())]])
    span = np.stack(units)
    return np.linalg.pinv((span[:, None] * span).sum(-1), rcond=_COLLINEAR, hermitian=True)


def _within(spans: Sequence[Sequence[int]], length: int) -> NDArray[np.bool_]:
    marked = np.zeros(length, dtype=bool)
    for start, end in spans:
        marked[start:end] = True
    return marked


def _in_words(layers: Sequence[int]) -> str:
    return ", ".join(map(str, layers))
