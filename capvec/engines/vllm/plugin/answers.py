"""What the server gets to know of requests: what the device has measured of them, and what is counted beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from capvec.engines.vllm.layout import READINGS
from capvec.engines.vllm.plugin.blocks import Blocks, Place, places
from capvec.engines.vllm.plugin.buffers import Buffers
from capvec.engines.vllm.plugin.reading import Reading
from capvec.engines.vllm.plugin.slots import VECTOR, Slots
from capvec.steering import vector_hash

_UNKNOWN: Mapping[str, Any] = {"faults": ["nothing was measured of it, or it was asked for too late"]}


class Answers:
    """What was measured of the requests of a worker. Each answer is given once."""

    def __init__(self, slots: Slots, buffers: Buffers, blocks: Blocks, *, stage: int = 0) -> None:
        self._slots, self._buffers, self._blocks, self._stage = slots, buffers, blocks, stage
        self.reading = Reading(buffers.device)
        self._used: dict[tuple[int, int], tuple[str, float]] = {}
        """Hash and fingerprint of a bank's row at a site, computed from what the device holds."""

    def forget(self, row: int) -> None:
        """Note that a row of the bank was written."""
        self._used = {place: used for place, used in self._used.items() if place[0] != row}

    def ended(self, requests: Sequence[str]) -> dict[str, Any]:
        """What `receipts` and `captured` answer, of requests that have ended, by vLLM's ids."""
        known = ((name, self._slots.of(name)) for name in requests)
        found = [(name, one.key, one.chosen is not None) for name, one in known if one is not None and one.key]
        answers = self.captured([key for _, key, captured in found if captured])
        answers |= self.receipts([key for _, key, captured in found if not captured])
        return {name: answers[key] for name, key, _ in found}

    def receipts(self, keys: Sequence[str]) -> dict[str, Any]:
        """What was measured of each request, once; `measured` has the meaning of the fields."""
        slots = [self._slots.find(key) for key in keys]
        known = {key: slot for key, slot in zip(keys, slots, strict=True) if slot and self._slots.requests[slot]}
        with self._reading(known.values()):
            answer = dict.fromkeys(keys, _UNKNOWN) | self._receipts(known)
        for key in known:
            self._slots.taken(key)
        return answer

    def _receipts(self, known: Mapping[str, int]) -> dict[str, Any]:
        requests = {slot: one for slot in known.values() if (one := self._slots.requests[slot]) is not None}
        entries = [(slot, *place) for slot, one in requests.items() if not one.faults for place in one.entries]
        watched, readings, rows = self._measured(list(requests), entries)
        found = places(self._blocks, self._buffers.sizes.sites)
        steers: dict[int, list[dict[str, Any]]] = {slot: [] for slot in requests}
        for (slot, site, _), own, row in zip(entries, readings, rows, strict=True):
            steers[slot].append(self._of_steer(own, int(row), site, found[site]))
        return {
            key: {
                "faults": one.faults,
                "stage": self._stage,
                "prompt": one.prompt,
                "cached": one.cached,
                "reached": int(self._slots.reached[slot]),
                "passes": int(self._slots.passes[slot]),
                "again": int(self._slots.again[slot]),
                "watched": watched[number].tobytes(),
                "steers": steers[slot],
            }
            for number, ((key, slot), one) in enumerate(zip(known.items(), requests.values(), strict=True))
        }

    def captured(self, keys: Sequence[str]) -> dict[str, Any]:
        """The mean residuals of each request, once: float32 `[layers, d_model]`, with the layers and the positions. A
        layer that another stage holds has no position here, and zeros.
        """
        answer: dict[str, Any] = {}
        for key in keys:
            slot = self._slots.find(key)
            one = self._slots.requests[slot] if slot else None
            if one is None or one.faults or one.pool < 0:
                faults = one.faults if one is not None else []
                answer[key] = {"faults": faults} if faults else _UNKNOWN
            else:
                answer[key] = self._captured(slot, one.pool)
            if slot:
                self._slots.taken(key)
        return answer

    def _captured(self, slot: int, pool: int) -> dict[str, Any]:
        with self._reading([slot]):
            count = self._buffers.counted[pool]
            mean = self._buffers.pooled[pool] / count.clamp_min(1)[:, None]
            return {
                "faults": [],
                "stage": self._stage,
                "layers": list(self._slots.layers),
                "positions": count.cpu().int().tolist(),
                "residuals": mean.float().cpu().numpy().tobytes(),
            }

    def _reading(self, slots: Iterable[int]) -> AbstractContextManager[None]:
        """In its context the device answers what it has measured of these slots."""
        return self.reading.of(under_way=not self._slots.under_way.isdisjoint(slots))

    def _measured(
        self, slots: Sequence[int], entries: Sequence[tuple[int, int, int]]
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """What was watched of these slots; and of these entries of the table, by slot, site and place, their readings
        and rows of the bank. It is gathered on the device, and copied to the host once.
        """
        buffers, device = self._buffers, self._buffers.device
        where = torch.tensor(slots, dtype=torch.long).to(device)
        slot, site, place = torch.tensor(entries, dtype=torch.long).reshape(-1, 3).T.to(device)
        readings = buffers.readings[slot, site, place]
        parts = buffers.watched[where], readings, buffers.table[slot, site, place, VECTOR]
        table = torch.cat([part.flatten() for part in parts]).cpu().numpy()
        watched, read, rows = np.split(table, np.cumsum([part.numel() for part in parts[:2]]))
        return watched.reshape(parts[0].shape), read.reshape(readings.shape), rows

    def _of_steer(self, readings: NDArray[np.float64], row: int, site: int, place: Place) -> dict[str, Any]:
        used, expected = self._vector(row, site)
        fingerprints = readings[READINGS.index("fingerprint_min")], -readings[READINGS.index("fingerprint_max")]
        same = all(abs(one - expected) <= 1e-9 for one in fingerprints) or not readings[READINGS.index("positions")]
        return {
            "block": place.block,
            "receiver": place.receiver,
            "site": site,
            "vector": used if same else "",
            "readings": readings.tobytes(),
        }

    def _vector(self, row: int, site: int) -> tuple[str, float]:
        """Hash and fingerprint of a vector, computed from the device's copy of it, once after it was put there."""
        if (row, site) not in self._used:
            vector = self._buffers.bank[row, site]
            length = torch.linalg.vector_norm(vector.double())
            unit = vector.double() / torch.where(length > 0, length, 1.0)
            self._used[row, site] = vector_hash(vector.cpu().numpy()), float(unit @ self._buffers.weights)
        return self._used[row, site]
