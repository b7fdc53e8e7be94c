"""Steering in one worker: the hooks on its model, the buffers, and what happens before each step of vLLM's runner."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from vllm.v1.kv_cache_interface import MambaSpec

import capvec
from capvec.engines.vllm.layout import KEY, READINGS, WATCHED
from capvec.engines.vllm.plugin import ops
from capvec.engines.vllm.plugin.bank import Bank
from capvec.engines.vllm.plugin.blocks import Blocks, Place, find_blocks, hook, places
from capvec.engines.vllm.plugin.buffers import Buffers, Sizes
from capvec.engines.vllm.plugin.prefixes import Prefixes
from capvec.engines.vllm.plugin.slots import Slots
from capvec.errors import UsageError
from capvec.steering import vector_hash

GRAPH = 1
"""Version of the ops' schema: part of the key of vLLM's compile cache."""
BANK_BYTES = 256 * 2**20
"""What the directions may take of the device's memory unless the configuration says how many there are."""
POOL_BYTES = 64 * 2**20
"""What sums of captured residuals may take of it."""
WAITING = 4
"""Slots for each request that can run at once: receipts wait in a slot until the server asks for them."""


@dataclass(frozen=True)
class Settings:
    """Capvec's part of vLLM's `additional_config`."""

    layers: tuple[int, ...]
    max_steers: int
    directions: int

    @classmethod
    def of(cls, given: Mapping[str, Any], n_layers: int, width: int) -> Settings:
        """Check what was given.

        Raises:
            UsageError: an unknown name, or a layer that the model does not have.
        """
        if unknown := set(given) - {"layers", "max_steers", "directions", "graph"}:
            raise UsageError(
                f"capvec's part of additional_config has {', '.join(sorted(unknown))}; expected layers, max_steers, "
                "directions"
            )
        wanted = given.get("layers", "all")
        layers = tuple(range(n_layers)) if wanted == "all" else tuple(sorted({int(layer) for layer in wanted}))
        if not layers or not 0 <= layers[0] <= layers[-1] < n_layers:
            raise UsageError(
                f"capvec's part of additional_config has layers {wanted!r}; expected numbers from 0 to "
                f"{n_layers - 1}, or all"
            )
        fitting = BANK_BYTES // (4 * width * len(layers))
        return cls(layers, int(given.get("max_steers", 4)), int(given.get("directions", min(512, max(8, fitting)))))


class Steering:
    """What a worker needs to steer. Its methods are called between vLLM's steps, in vLLM's own thread."""

    def __init__(self, runner: Any, blocks: Blocks, settings: Settings) -> None:
        config = runner.vllm_config
        self.runner, self.blocks, self.settings = runner, blocks, settings
        scheduler = config.scheduler_config
        captured = config.compilation_config.cudagraph_capture_sizes or [0]
        sizes = Sizes(
            slots=WAITING * scheduler.max_num_seqs + 1,
            sites=len(settings.layers),
            steers=settings.max_steers,
            tokens=max(scheduler.max_num_batched_tokens, *captured) + 1024,
            directions=settings.directions,
            width=config.model_config.get_hidden_size(),
            pools=max(8, POOL_BYTES // (8 * len(settings.layers) * config.model_config.get_hidden_size())),
        )
        self.buffers = Buffers(sizes, config.model_config.dtype, runner.device)
        self.buffers.ids = runner.input_ids.gpu
        self.slots = Slots(
            sizes.slots,
            settings.layers,
            settings.max_steers,
            Bank(settings.directions, settings.layers),
            pools=sizes.pools,
        )
        self._pinned = runner.device.type == "cuda"
        self._tokens = torch.zeros(sizes.tokens, dtype=torch.int32, pin_memory=self._pinned)
        self._where = torch.zeros(scheduler.max_num_seqs, dtype=torch.int64, pin_memory=self._pinned)
        rows = (scheduler.max_num_seqs, *self.buffers.table.shape[1:])
        self._rows = torch.zeros(rows, dtype=torch.float64, pin_memory=self._pinned)
        self._packed: NDArray[np.int32] = np.zeros(0, dtype=np.int32)
        self._used: dict[tuple[int, int], tuple[str, float]] = {}
        """Hash and fingerprint of a bank's row at a site, computed from what the device holds."""
        ops.use(self.buffers)
        hook(blocks, settings.layers)

    # ------------------------------------------------------------------------------------------ before a step

    def update(self, step: Any) -> None:
        """Close the slots of requests that have ended, open those of new ones, and follow the cache's blocks."""
        for request in step.finished_req_ids:
            self.slots.close(request)
            self._prefixes.close(request)
        for request in step.scheduled_new_reqs:
            self._open(request)
        going = step.scheduled_cached_reqs
        for request, blocks, computed in zip(
            going.req_ids, going.new_block_ids, going.num_computed_tokens, strict=True
        ):
            if blocks is not None:
                self._assign(request, blocks, computed, anew=request in going.resumed_req_ids)
        if self.slots.opened:
            self._write_opened()

    def _open(self, request: Any) -> None:
        prompt = len(request.prompt_token_ids or ())
        asked = _asked(request.sampling_params)
        self.slots.open(request.req_id, asked, prompt=prompt, cached=request.num_computed_tokens)
        one = self.slots.of(request.req_id)
        steers, assistant = (one.steers, one.assistant) if one is not None else ((), None)
        self._prefixes.open(request.req_id, steers, prompt=prompt, assistant=assistant)
        self._assign(request.req_id, request.block_ids, request.num_computed_tokens, anew=True)

    def _assign(self, request: str, blocks: Sequence[Sequence[int]], computed: int, *, anew: bool) -> None:
        own = [blocks[number] for number in self._groups]
        same = self._prefixes.assign(request, own, cached=computed if anew else 0, anew=anew)
        one = self.slots.of(request)
        if not same and one is not None:
            one.faults.append("cached tokens that it took over were not computed under its steers")

    @functools.cached_property
    def _groups(self) -> list[int]:
        """The groups of the cache whose blocks hold positions; those of recurrent layers hold states."""
        groups = self.runner.kv_cache_config.kv_cache_groups
        return [number for number, group in enumerate(groups) if not isinstance(group.kv_cache_spec, MambaSpec)]

    @functools.cached_property
    def _prefixes(self) -> Prefixes:
        groups = self.runner.kv_cache_config.kv_cache_groups
        return Prefixes([groups[number].kv_cache_spec.block_size for number in self._groups])

    def _write_opened(self) -> None:
        opened, self.slots.opened = self.slots.opened, []
        count = len(opened)
        self._where.numpy()[:count] = opened
        self._rows.numpy()[:count] = self.slots.table[opened]
        where, rows = (host[:count].to(self.runner.device, non_blocking=True) for host in (self._where, self._rows))
        self.buffers.table[where] = rows
        self.buffers.clear(where)
        pools = [(slot, one.pool) for slot in opened if (one := self.slots.requests[slot]) and one.pool >= 0]
        if pools:
            self.buffers.pool(*torch.tensor(pools).to(self.runner.device).T)

    def fill(self, scheduled: NDArray[np.int32]) -> None:
        """Write the tokens of the next step; those of the step before that it does not reach become padding."""
        batch = self.runner.input_batch
        requests = batch.req_ids[: batch.num_reqs]
        packed = self.slots.pack(requests, batch.num_computed_tokens_cpu[: batch.num_reqs].astype(np.int64), scheduled)
        if packed is self._packed:
            return
        self.buffers.steered = self.slots.steered_sites(requests).tolist()
        width = max(len(packed), len(self._packed))
        host = self._tokens.numpy()
        host[: len(packed)], host[len(packed) : width] = packed, 0
        self.buffers.tokens[:width].copy_(self._tokens[:width], non_blocking=True)
        self._packed = packed

    def idle(self) -> None:
        """Make all tokens padding, for a step that vLLM runs for its own sake."""
        self.buffers.tokens.zero_()
        self.buffers.steered = [True] * self.buffers.sizes.sites
        self._packed = np.zeros(0, dtype=np.int32)

    # ------------------------------------------------------------------------------------------ what the server asks

    def describe(self) -> dict[str, Any]:
        """What this rank is, and holds of the model."""
        config = self.runner.vllm_config
        n_layers = len(self.blocks.modules)
        return {
            "rank": config.parallel_config.rank,
            "pp_rank": 0,
            "tp_rank": config.parallel_config.rank % config.parallel_config.tensor_parallel_size,
            "layers": n_layers,
            "here": [0, n_layers],
            "d_model": self.buffers.sizes.width,
            "dtype": str(self.buffers.stash.dtype).removeprefix("torch."),
            "blocks": self.blocks.name,
            "instrumented": list(self.settings.layers),
            "max_steers": self.settings.max_steers,
            "directions": self.slots.bank.directions,
            "capacity": self.settings.directions,
            "captures": self.buffers.sizes.pools,
            "version": capvec.__version__,
        }

    def put(self, direction: str, data: bytes) -> str:
        """Hold a direction, float32 `[n_layers, d_model]`; the answer is the hash of what arrived.

        Raises:
            UsageError: it has another shape, or another hash.
        """
        width = self.buffers.sizes.width
        values = np.frombuffer(data, dtype="<f4")
        if values.size != len(self.blocks.modules) * width:
            raise UsageError(
                f"a direction of {values.size} numbers; expected {len(self.blocks.modules)} layers of {width}"
            )
        vectors = values.reshape(-1, width)
        found, held = self.slots.bank.put(vectors)
        if held is not None:
            self.buffers.bank[held.row] = torch.from_numpy(held.vectors.copy()).to(self.runner.device)
            self._used = {place: used for place, used in self._used.items() if place[0] != held.row}
        if found != direction:
            self.slots.bank.drop(found)
            raise UsageError(f"a direction with the hash {found} arrived; expected {direction}")
        return found

    def drop(self, direction: str) -> None:
        """Give a direction up as soon as no request uses it."""
        self.slots.bank.drop(direction)

    def receipts(self, keys: Sequence[str]) -> dict[str, Any]:
        """What was measured of each request, once; `measured` has the meaning of the fields."""
        slots = [self.slots.find(key) for key in keys]
        readings, watched, rows = self._measured(slots)
        found = places(self.blocks, self.buffers.sizes.sites)
        answer: dict[str, Any] = {}
        for number, (key, slot) in enumerate(zip(keys, slots, strict=True)):
            one = self.slots.requests[slot] if slot else None
            if one is None:
                answer[key] = {"faults": ["nothing was measured of it, or it was asked for too late"]}
                continue
            answer[key] = {
                "faults": one.faults,
                "prompt": one.prompt,
                "cached": one.cached,
                "reached": int(self.slots.reached[slot]),
                "passes": int(self.slots.passes[slot]),
                "again": int(self.slots.again[slot]),
                "watched": watched[number].tobytes(),
                "steers": [
                    self._of_steer(readings[number, site, place], int(rows[number, site, place]), site, found[site])
                    for site, place in ([] if one.faults else one.entries)
                ],
            }
        for key, slot in zip(keys, slots, strict=True):
            if slot:
                self.slots.taken(key)
        return answer

    def captured(self, keys: Sequence[str]) -> dict[str, Any]:
        """The mean residuals of each request, once: float32 `[layers, d_model]`, with the layers and the positions."""
        answer: dict[str, Any] = {}
        for key in keys:
            slot = self.slots.find(key)
            one = self.slots.requests[slot] if slot else None
            if one is None or one.faults or one.pool < 0:
                faults = one.faults if one is not None else []
                answer[key] = {"faults": faults or ["nothing was captured of it, or it was asked for too late"]}
            else:
                count = self.buffers.counted[one.pool]
                mean = self.buffers.pooled[one.pool] / count.clamp_min(1)[:, None]
                answer[key] = {
                    "faults": [],
                    "layers": list(self.settings.layers),
                    "positions": count.cpu().int().tolist(),
                    "residuals": mean.float().cpu().numpy().tobytes(),
                }
            if slot:
                self.slots.taken(key)
        return answer

    def _measured(self, slots: Sequence[int]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Readings, watches and rows of the bank of these slots: one gather on the device, and one copy to the host."""
        buffers, sizes = self.buffers, self.buffers.sizes
        where = torch.tensor(slots, dtype=torch.long).to(self.runner.device)
        parts = (buffers.readings[where], buffers.watched[where], buffers.table[where][..., 0])
        table = torch.cat([part.flatten(1) for part in parts], dim=1).cpu().numpy()
        each = (len(slots), sizes.sites, sizes.steers)
        readings, rest = np.split(table, [sizes.sites * sizes.steers * len(READINGS)], axis=1)
        watched, rows = np.split(rest, [sizes.sites * len(WATCHED)], axis=1)
        return readings.reshape(*each, -1), watched.reshape(*each[:2], -1), rows.reshape(each)

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
            vector = self.buffers.bank[row, site]
            length = torch.linalg.vector_norm(vector.double())
            unit = vector.double() / torch.where(length > 0, length, 1.0)
            self._used[row, site] = vector_hash(vector.cpu().numpy()), float(unit @ self.buffers.weights)
        return self._used[row, site]


def _asked(params: Any) -> Mapping[str, Any]:
    """Capvec's part of a request; through vLLM's own server it comes as text. What cannot be read asks for no key."""
    asked = (getattr(params, "extra_args", None) or {}).get(KEY) or {}
    if isinstance(asked, str):
        with suppress(json.JSONDecodeError):
            asked = json.loads(asked)
    return asked if isinstance(asked, Mapping) else {"steers": asked}


def install(runner: Any, given: Mapping[str, Any]) -> Steering:
    """Put capvec's hooks on a runner's model, after its weights are loaded and before it is traced.

    Args:
        runner: vLLM's model runner, of its first version.
        given: capvec's part of `additional_config`.

    Raises:
        UsageError: this engine cannot be steered, or not with these settings.
    """
    config = runner.vllm_config
    blocks = find_blocks(runner.model)
    settings = Settings.of(given, len(blocks.modules), config.model_config.get_hidden_size())
    config.additional_config = {
        **config.additional_config,
        KEY: {**given, "layers": list(settings.layers), "graph": f"{capvec.__version__}-{GRAPH}"},
    }
    steering = Steering(runner, blocks, settings)
    _follow(runner, steering)
    return steering


def _follow(runner: Any, steering: Steering) -> None:
    """Let the runner tell of each step: its own methods are called, then capvec's."""
    update, prepare, dummy = runner._update_states, runner._prepare_inputs, runner._dummy_run

    def _update_states(step: Any) -> Any:
        answer = update(step)
        steering.update(step)
        return answer

    def _prepare_inputs(step: Any, scheduled: NDArray[np.int32], *args: Any, **kwargs: Any) -> Any:
        answer = prepare(step, scheduled, *args, **kwargs)
        steering.fill(scheduled)
        return answer

    def _dummy_run(*args: Any, **kwargs: Any) -> Any:
        steering.idle()
        return dummy(*args, **kwargs)

    runner._update_states, runner._prepare_inputs, runner._dummy_run = _update_states, _prepare_inputs, _dummy_run
