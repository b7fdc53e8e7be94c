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
from vllm.distributed.parallel_state import get_pp_group
from vllm.v1.kv_cache_interface import MambaSpec

import capvec
from capvec.engines.vllm.layout import KEY
from capvec.engines.vllm.plugin import ops
from capvec.engines.vllm.plugin.answers import Answers
from capvec.engines.vllm.plugin.bank import Bank
from capvec.engines.vllm.plugin.blocks import Blocks, find_blocks, hook
from capvec.engines.vllm.plugin.buffers import Buffers, Sizes
from capvec.engines.vllm.plugin.prefixes import Prefixes
from capvec.engines.vllm.plugin.slots import Slots
from capvec.engines.vllm.plugin.stages import pass_on
from capvec.errors import UsageError

GRAPH = 2
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
        self.stage = get_pp_group().rank_in_group
        if self.stage == 0:
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
        self.answers = Answers(self.slots, self.buffers, blocks, stage=self.stage)
        ops.use(self.buffers)
        hook(blocks, settings.layers, self.buffers.numbers)

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
        self.answers.reading.mark()
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
        here = self.blocks.here
        return {
            "rank": config.parallel_config.rank,
            "pp_rank": self.stage,
            "tp_rank": config.parallel_config.rank % config.parallel_config.tensor_parallel_size,
            "layers": len(self.blocks.modules),
            "here": [here.start, here.stop],
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
            self.answers.forget(held.row)
        if found != direction:
            self.slots.bank.drop(found)
            raise UsageError(f"a direction with the hash {found} arrived; expected {direction}")
        return found

    def drop(self, direction: str) -> None:
        """Give a direction up as soon as no request uses it."""
        self.slots.bank.drop(direction)


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
    pass_on(runner, steering.buffers, stashed=blocks.here[-1] in settings.layers)
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
