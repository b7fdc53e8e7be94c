"""vLLM engines, each in processes of its own, and what a batch takes in them, for `tests/benchmarks/bench_vllm.py`.

An engine has capvec's plugin, as capvec starts it, or none, with the same settings. Both draw tokens in the same way.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

DIRECTIONS, LENGTH = 16, 3.0
"""Of the rows' steers, each with a strength of its own, and how long each vector is."""
NEW_IN_A_TURN = 136
"""Tokens that a turn adds beside the reply before it."""
TURNS = 3
VOCABULARY = 250


class TimedEngine:
    """An engine in another process. It starts at once; `ready` waits for it."""

    def __init__(
        self, name: str, folder: Path, args: dict[str, Any], log: Path, *, plugin: bool, **environment: str
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self.name, self.plugin, self._log = name, plugin, log
        self._pipe, theirs = context.Pipe()
        given = (str(folder), args, plugin, str(log), theirs, time.time(), environment)
        self._process = context.Process(target=_main, args=given, name=name)
        self._process.start()
        theirs.close()

    def ready(self) -> dict[str, Any]:
        """What the engine is, and the seconds that it took to start."""
        return self._answer()

    def ask(self, what: str, **how: Any) -> Any:
        """What a method of `_Engine` answers."""
        self._pipe.send((what, how))
        return self._answer()

    def close(self) -> None:
        """End it."""
        self._pipe.close()
        self._process.join(30)
        if self._process.is_alive():
            self._process.kill()

    def _answer(self) -> Any:
        try:
            answer = self._pipe.recv()
        except EOFError:
            log = "\n".join(self._log.read_text(errors="replace").splitlines()[-40:])
            raise RuntimeError(f"the engine {self.name} ended; its log ends in:\n{log}") from None
        if isinstance(answer, Exception):
            raise answer
        return answer


def _main(
    folder: str, args: dict[str, Any], plugin: bool, log: str, pipe: Any, started: float, environment: dict[str, str]
) -> None:
    with open(log, "ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    from capvec.engines.vllm.environment import set_variables

    set_variables()
    os.environ.update(environment)
    if not plugin:
        os.environ["VLLM_PLUGINS"] = ""
    asyncio.run(_serve(folder, args, plugin, pipe, started))


async def _serve(folder: str, args: dict[str, Any], plugin: bool, pipe: Any, started: float) -> None:
    engine = await (_steered if plugin else _bare)(folder, args)
    pipe.send({"start_s": time.time() - started, **engine.about})
    while True:
        try:
            what, how = await asyncio.to_thread(pipe.recv)
        except EOFError:
            break
        try:
            pipe.send(await getattr(engine, what)(**how))
        except Exception as error:
            import traceback

            traceback.print_exc()
            sys.stderr.flush()
            pipe.send(RuntimeError(f"{type(error).__name__}: {error}"))
    engine.llm.shutdown()


async def _steered(folder: str, args: dict[str, Any]) -> _Engine:
    from capvec.engines.protocol import GenerationDefaults
    from capvec.engines.vllm.engine import load

    served = await load(folder, label=None, context_length=None, defaults=GenerationDefaults(), arguments=args)
    engine = _Engine(served.llm, served)
    await engine.hold_directions()
    return engine


async def _bare(folder: str, args: dict[str, Any]) -> _Engine:
    """The settings are those with which `capvec.engines.vllm.engine.load` starts vLLM."""
    from vllm import AsyncEngineArgs
    from vllm.usage.usage_lib import UsageContext
    from vllm.v1.engine.async_llm import AsyncLLM

    from capvec.engines.vllm.engine import StepCount, settings
    from capvec.engines.vllm.replicas import Replica

    wanted = AsyncEngineArgs(model=folder, **(settings() | args))
    count = StepCount(Replica(0))
    llm = AsyncLLM.from_engine_args(
        wanted, usage_context=UsageContext.OPENAI_API_SERVER, stat_loggers=[lambda *_: count]
    )
    return _Engine(llm, None)


@dataclass
class _Row:
    """What came of one request."""

    prompt: list[int]
    steers: tuple[Any, ...]
    tokens: list[int]
    cached: int
    receipts_s: float = 0.0
    """From the time at which vLLM's scheduler had the last token to the receipts; without the plugin, to the tokens."""
    found: Any = None
    fault: str = ""
    """Why there are no receipts."""


class _Engine:
    """The methods that another process may ask for. They answer plain numbers."""

    def __init__(self, llm: Any, served: Any) -> None:
        from capvec.engines.vllm.collected import Collected
        from capvec.engines.vllm.engine import StepCount

        self.llm, self._served = llm, served
        self._noise = np.random.default_rng(0)
        self._steps: list[tuple[float, int, int, int]] = []
        """When each step came in, the tokens drawn in it, prompt tokens finished by it, and requests preempted."""
        setattr(StepCount, "record", lambda _, *about, **more: self._record(*about, **more))  # noqa: B010
        self._vectors: dict[str, np.ndarray] = {}
        self.said: list[list[int]] = []
        """The tokens of the last batch's replies."""
        if served is not None:
            call = served.replicas.call_one
            self._receipts = [Collected(partial(call, one, "capvec_receipts")) for one in served.replicas]
            self._pooled = [Collected(partial(call, one, "capvec_captured")) for one in served.replicas]

    @property
    def about(self) -> dict[str, Any]:
        """The settings that matter for time."""
        config = self.llm.vllm_config
        return {
            "batched_tokens": config.scheduler_config.max_num_batched_tokens,
            "prefix_cache": bool(config.cache_config.enable_prefix_caching),
            "block": config.cache_config.block_size,
            "graphs": str(config.compilation_config.cudagraph_mode),
            "layers": self._layers,
        }

    @property
    def _layers(self) -> int:
        return int(self.llm.model_config.get_total_num_hidden_layers())

    def _record(self, _scheduler: Any = None, iteration: Any = None, *_: Any, **__: Any) -> None:
        if iteration is not None:
            drawn, prompts = iteration.num_generation_tokens, iteration.num_prompt_tokens
            self._steps.append((time.perf_counter(), drawn, prompts, iteration.num_preempted_reqs))

    async def hold_directions(self) -> None:
        """Give the ranks the directions of the rows' steers."""
        from capvec.steering import direction_hash

        width = self._served.info.d_model
        for seed in range(DIRECTIONS):
            noise = np.random.default_rng(seed).standard_normal((self._layers, width))
            vectors = (noise * LENGTH / width**0.5).astype("<f4")
            key = direction_hash(vectors)
            assert set(await self._served.replicas.call("capvec_put_direction", key, vectors.tobytes())) == {key}
            self._vectors[key] = vectors

    # ------------------------------------------------------------------------------------------ what can be asked

    async def decode(self, *, rows: int, prompt: int, new: int, layers: Sequence[int] = ()) -> dict[str, Any]:
        """Random prompts, each under steers of its own at these layers."""
        prompts = [self._random(prompt) for _ in range(rows)]
        return await self._batch(prompts, new, layers, [uuid4().hex for _ in prompts])

    async def turns(
        self, *, rows: int, prompt: int, new: int, layers: Sequence[int] = (), reuse: bool = True
    ) -> list[dict[str, Any]]:
        """Conversations of several turns: each adds the reply and more. Without `reuse`, nothing is taken over."""
        prompts = [self._random(prompt) for _ in range(rows)]
        salts = [uuid4().hex for _ in prompts]
        answers = []
        for turn in range(TURNS):
            own = salts if reuse else [f"{salt} {turn}" for salt in salts]
            answer = await self._batch(prompts, new, layers, own)
            pairs = zip(prompts, self.said, strict=True)
            prompts = [[*before, *said, *self._random(NEW_IN_A_TURN)] for before, said in pairs]
            answers.append(answer)
        return answers

    async def prefill(self, *, rows: int, prompt: int, pooled: int = 0) -> dict[str, Any]:
        """The seconds of prompts without a reply, the residuals of their last `pooled` positions captured."""
        prompts = [self._random(prompt) for _ in range(rows)]
        started = time.perf_counter()
        await asyncio.gather(*(self._capture(tokens, pooled) for tokens in prompts))
        return {"seconds": time.perf_counter() - started, "tokens": rows * prompt}

    async def alike(self, *, layers: Sequence[int] = (), new: int = 24) -> dict[str, Any]:
        """Of nine prompts of unlike length under unlike steers, how many have the same tokens in a batch, in the same
        batch again, and alone, greedily.
        """
        prompts = [self._random(40 + 37 * row) for row in range(9)]
        said = []
        for batch in (prompts, prompts, *([one] for one in prompts)):
            offset = prompts.index(batch[0])
            await self._batch(batch, new, layers, [uuid4().hex for _ in batch], offset)
            said.append(self.said)
        together, again, alone = said[0], said[1], [one for (one,) in said[2:]]
        return {
            "again": sum(one == other for one, other in zip(together, again, strict=True)),
            "alone": sum(one == other for one, other in zip(together, alone, strict=True)),
            "of": len(prompts),
        }

    # ------------------------------------------------------------------------------------------ a batch

    async def _batch(
        self, prompts: list[list[int]], new: int, layers: Sequence[int], salts: list[str], offset: int = 0
    ) -> dict[str, Any]:
        self._steps.clear()
        steers = [self._steers(offset + row, layers) for row in range(len(prompts))]
        started = time.perf_counter()
        rows = await asyncio.gather(
            *(self._reply(*one, new) for one in zip(prompts, steers, salts, strict=True)),
        )
        seconds = time.perf_counter() - started
        self.said = [row.tokens for row in rows]
        waits = [1000 * row.receipts_s for row in rows]
        return {
            "seconds": seconds,
            "until_drawn": self._steps[-1][0] - started,
            "step_ms": self._steady_ms(len(prompts)),
            "tokens_s": len(rows) * new / seconds,
            "cached": float(np.mean([row.cached for row in rows])),
            "receipts_ms": [float(np.median(waits)), max(waits)],
            "preempted": sum(step[3] for step in self._steps),
            "faults": sorted({fault for row in rows if (fault := self._fault(row))})[:2],
        }

    def _steady_ms(self, rows: int) -> float | None:
        """Milliseconds of a step in which every row draws a token and no prompt is computed."""
        times = [at for at, drawn, prompts, _ in self._steps if drawn == rows and not prompts]
        return 1000 * (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else None

    async def _reply(self, prompt: list[int], steers: tuple[Any, ...], salt: str, new: int) -> _Row:
        from capvec.engines.vllm import measured
        from capvec.engines.vllm.server import sent_along
        from capvec.errors import SteeringFault

        key = uuid4().hex
        about = {"key": key, "salt": salt, "steers": [steer.to_json() for steer in steers]}
        if self._served is None:
            output = await self._drawn(prompt, salt, key, new, None)
            row = _Row(prompt, steers, list(output.outputs[0].token_ids), output.num_cached_tokens or 0)
            row.receipts_s = time.monotonic() - output.metrics.last_token_ts
            return row
        with self._served.replicas.serving(salt, prompt) as replica:
            output = await self._drawn(prompt, salt, key, new, about, replica.number)
            row = _Row(prompt, steers, list(output.outputs[0].token_ids), output.num_cached_tokens or 0)
            ranks = sent_along(output) or await self._receipts[replica.number].of(key)
            try:
                row.found = measured.receipts(steers, ranks, prompt=prompt, drawn=row.tokens)
            except SteeringFault as fault:
                row.fault = str(fault)
            row.receipts_s = time.monotonic() - output.metrics.last_token_ts
        return row

    async def _capture(self, prompt: list[int], pooled: int) -> None:
        from capvec.engines.vllm import measured
        from capvec.engines.vllm.server import sent_along

        key = uuid4().hex
        if not pooled:
            await self._drawn(prompt, key, key, 1, None)
            return
        about = {"key": key, "capture": [[len(prompt) - pooled, len(prompt)]]}
        info = self._served.info
        with self._served.replicas.serving() as replica:
            output = await self._drawn(prompt, key, key, 1, about, replica.number)
            ranks = sent_along(output) or await self._pooled[replica.number].of(key)
        measured.residuals(ranks, pooled, info.n_layers, info.d_model)

    async def _drawn(
        self, prompt: list[int], salt: str, key: str, new: int, about: dict[str, Any] | None, copy: int = 0
    ) -> Any:
        from vllm import SamplingParams, TokensPrompt
        from vllm.sampling_params import RequestOutputKind

        params = SamplingParams(
            temperature=0.0,
            max_tokens=new,
            ignore_eos=True,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
            extra_args={"capvec": about} if about else None,
        )
        asked = TokensPrompt(prompt_token_ids=prompt, cache_salt=salt)
        async with aclosing(self.llm.generate(asked, params, key, data_parallel_rank=copy)) as outputs:
            async for output in outputs:
                last = output
        return last

    def _random(self, length: int) -> list[int]:
        return self._noise.integers(0, VOCABULARY, length).tolist()

    def _steers(self, row: int, layers: Sequence[int]) -> tuple[Any, ...]:
        from capvec.steering import Steer

        keys = list(self._vectors)
        return tuple(Steer(layer, keys[row % DIRECTIONS], 0.5 + row / 64) for layer in layers)

    def _fault(self, row: _Row) -> str:
        """Why the receipts of a row do not show the steers that were asked for; empty if they do."""
        from capvec.errors import SteeringFault
        from capvec.receipts import check_receipts
        from capvec.records import Reply
        from support.checked import asked

        if row.found is None:
            return row.fault
        vectors = [self._vectors[steer.direction][steer.layer] for steer in row.steers]
        reply = Reply(
            *("", "length", len(row.prompt), len(row.tokens), 0.0),
            receipts=row.found.receipts,
            cached_tokens=row.cached,
            cached_under=row.steers if row.cached else (),
            isolation=row.found.isolation,
        )
        try:
            check_receipts(reply, asked(row.steers, vectors), self._served.info.layout)
        except SteeringFault as fault:
            return str(fault)
        return ""
