"""The endpoints over a model in vLLM."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request as HttpRequest
from vllm import SamplingParams, TokensPrompt
from vllm.sampling_params import RequestOutputKind

from capvec.engines.checks import RequestError
from capvec.engines.endpoints import Endpoints
from capvec.engines.generation import Drawn, ReplyRequest, seed_of_32_bits
from capvec.engines.prepared import Prepared
from capvec.engines.serving import unless_gone
from capvec.engines.vllm import measured
from capvec.engines.vllm.collected import Collected, Measured
from capvec.engines.vllm.engine import ServedModel
from capvec.engines.vllm.layout import KEY
from capvec.engines.vllm.replicas import Replica, Replicas
from capvec.engines.vllm.replies import Ending, salt_of, shares_prefixes, spans
from capvec.errors import EngineUnavailable, SteeringFault
from capvec.receipts import check_finite
from capvec.records import Reply

SHAPED = ("top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty")
"""Fields of `Shaping` that vLLM's sampling parameters have under the same names."""


class Engine(Endpoints):
    """The endpoints, with the model."""

    def __init__(self, served: ServedModel, token: str) -> None:
        """Args:
        served: the model.
        token: the bearer token.
        """
        super().__init__(token, served.info, served.template)
        self._served = served
        self._epoch = 0
        """Part of every salt."""
        call = served.replicas.call_one
        self._receipts = [Collected(partial(call, replica, "capvec_receipts")) for replica in served.replicas]
        self._pooled = [Collected(partial(call, replica, "capvec_captured")) for replica in served.replicas]
        self._room = [asyncio.Semaphore(served.captures) for _ in served.replicas]
        """For conversations whose residuals are summed in the ranks of each copy of the model."""

    @property
    def replicas(self) -> Replicas:
        """The copies of the model."""
        return self._served.replicas

    @property
    def steps(self) -> int:
        return sum(replica.steps for replica in self.replicas)

    @property
    def died(self) -> str:
        """Which of vLLM's processes has ended, by its name; empty if all are there."""
        if not self._served.llm.errored:
            return ""
        processes = self._served.llm.engine_core.resources.engine_manager
        return getattr(processes, "failed_proc_name", None) or "one of them"

    @property
    def most_captured(self) -> int:
        return self.context_length - 1  # vLLM keeps room for a token of a reply

    @property
    def most_directions(self) -> int:
        return self._served.directions

    async def generate(self, http: HttpRequest, request: ReplyRequest) -> Reply:
        if request.echo or not request.max_tokens:
            raise RequestError(
                "echo: together with logprobs, or with 0 for max_tokens, it needs --engine transformers",
                "unsupported_value",
            )
        if request.given:
            raise RequestError("continuation: it needs --engine transformers", "unsupported_value")
        if request.grammar:
            raise RequestError(
                "structured_outputs: capvec does not constrain replies in vLLM; use --engine transformers",
                "invalid_value",
            )
        return await unless_gone(http, self._reply(request))

    async def residuals(self, http: HttpRequest, prepared: Sequence[Prepared]) -> NDArray[np.float32]:
        with self.counted():
            found = await unless_gone(http, _all_of(*map(self._residual, prepared)))
        return np.stack(found)

    async def hold(self, key: str, vectors: NDArray[np.float32]) -> None:
        held = set(await self.replicas.call("capvec_put_direction", key, vectors.tobytes()))
        if held != {key}:
            raise EngineUnavailable(f"the direction {key} arrived as {', '.join(sorted(held))} in vLLM's ranks")

    # ---------------------------------------------------------------------------------------- replies

    async def _reply(self, request: ReplyRequest) -> Reply:
        key, salt = uuid4().hex, f"{self._epoch}.{salt_of(request.steers)}"
        about: dict[str, Any] = {"key": key, "salt": salt, "steers": [steer.to_json() for steer in request.steers]}
        if request.assistant is not None:
            about["assistant"] = spans(request.assistant)
        reused = request.tokens if shares_prefixes(request.steers) else ()
        with self.replicas.serving(salt, reused) as replica:
            receipts = self._receipts[replica.number]
            try:
                ending, ranks = await self._draw(request, key, salt, about, replica)
            except BaseException:
                receipts.discard(key)
                raise
            ranks = ranks or await receipts.of(key)
        try:
            found = measured.receipts(request.steers, ranks, prompt=request.tokens, drawn=ending.tokens)
            check_finite(found.receipts, found.isolation)
        except SteeringFault:
            await self._forget()
            raise
        return Reply(
            text=ending.text,
            finish_reason="stop" if ending.stopped else "length",
            prompt_tokens=len(request.tokens),
            completion_tokens=len(ending.tokens),
            model_s=0.0,  # the client measures it
            cached_tokens=found.cached_tokens,
            cached_under=request.steers if found.cached_tokens else (),
            receipts=found.receipts,
            isolation=found.isolation,
        )

    async def _forget(self) -> None:
        """Have keys and values that were computed wrongly serve no other reply, neither as a prefix nor as remains."""
        self._epoch += 1
        await self.replicas.call("capvec_scrub")

    async def _draw(
        self, request: ReplyRequest, key: str, salt: str, about: Mapping[str, Any], replica: Replica
    ) -> tuple[Ending, Sequence[Measured]]:
        """Draw tokens until the reply ends; with what the ranks measured, if that came with the last one.

        vLLM ends it at a stop token and at the last token. At a stop string it ends here: the request is given up, and
        what runs past the end belongs to no reply.
        """
        params = SamplingParams(
            temperature=request.temperature,
            seed=seed_of_32_bits(request.seed),
            max_tokens=request.max_tokens,
            stop_token_ids=sorted(self._served.stop_ids),
            ignore_eos=True,  # stop_token_ids has all of them
            detokenize=False,
            output_kind=RequestOutputKind.DELTA if request.stop or request.listener else RequestOutputKind.FINAL_ONLY,
            logprobs=request.logprobs,
            logit_bias=dict(request.shaping.logit_bias) or None,
            extra_args={KEY: dict(about)},
            **{name: getattr(request.shaping, name) for name in SHAPED},
        )
        if request.steers and not shares_prefixes(request.steers):
            params.skip_reading_prefix_cache = True
        prompt = TokensPrompt(prompt_token_ids=list(request.tokens), cache_salt=salt)
        ending = Ending(self.template, self._served.stop_ids, request)
        drawing = self._served.llm.generate(prompt, params, key, data_parallel_rank=replica.number)
        async with aclosing(drawing) as outputs:
            async for output in outputs:
                (choice,) = output.outputs
                if self._take(ending, choice, request):
                    break
        if not ending.ended:
            raise EngineUnavailable(f"vLLM ended a reply after {len(ending.tokens)} tokens: {choice.finish_reason}")
        return ending, sent_along(output)

    def _take(self, ending: Ending, choice: Any, request: ReplyRequest) -> bool:
        """Take the tokens of a step, and tell the listener of them; whether the reply ends with one of them."""
        for number, token in enumerate(choice.token_ids):
            ended = ending.take(token)
            if request.listener is not None and token not in self._served.stop_ids:
                request.listener(_told(token, choice.logprobs[number] if choice.logprobs else {}, request.logprobs))
            if ended:
                return True
        return False

    async def _residual(self, one: Prepared) -> NDArray[np.float32]:
        """The pooled residual of every layer, float32 `[n_layers, d_model]`."""
        with self.replicas.serving() as replica:
            async with self._room[replica.number]:
                return await self._residual_of(one, replica)

    async def _residual_of(self, one: Prepared, replica: Replica) -> NDArray[np.float32]:
        key = uuid4().hex
        chosen = np.zeros(len(one.ids), bool)
        chosen[list(one.chosen)] = True
        params = SamplingParams(
            temperature=0.0,
            max_tokens=1,
            ignore_eos=True,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
            extra_args={KEY: {"key": key, "capture": spans(chosen.tolist())}},
        )
        params.skip_reading_prefix_cache = True
        prompt = TokensPrompt(prompt_token_ids=list(one.ids), cache_salt=key)
        pooled = self._pooled[replica.number]
        drawing = self._served.llm.generate(prompt, params, key, data_parallel_rank=replica.number)
        try:
            async with aclosing(drawing) as outputs:
                async for output in outputs:
                    ranks = sent_along(output)
        except BaseException:
            pooled.discard(key)
            raise
        ranks = ranks or await pooled.of(key)
        found: NDArray[np.float32] = measured.residuals(ranks, len(one.chosen), self.info.n_layers, self.info.d_model)
        return found


def sent_along(output: Any) -> Sequence[Measured]:
    """What the ranks measured of a request, where an output of vLLM brings it."""
    found: Sequence[Measured] = (output.kv_transfer_params or {}).get(KEY, ())
    return found


def _told(token: int, logprobs: Mapping[int, Any], most: int | None) -> Drawn:
    """What a listener is told of a token, from vLLM's log-probability of it and of the likeliest ones."""
    if most is None:
        return Drawn(token)
    ranked = sorted(logprobs.items(), key=lambda pair: pair[1].rank or 0)
    top = tuple((int(other), float(one.logprob)) for other, one in ranked if one.rank and one.rank <= most)
    return Drawn(token, float(logprobs[token].logprob), top)


async def _all_of(*works: Any) -> list[Any]:
    return list(await asyncio.gather(*works))
