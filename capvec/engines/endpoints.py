"""The endpoints of an engine: `capvec.engines.protocol` over HTTP, behind a bearer token.

Everything is here that engines do alike: checks of requests, rendering, bounds and answers. A subclass of `Endpoints`
generates replies, computes residuals and holds directions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from math import prod
from secrets import randbits
from time import time
from typing import Any
from uuid import uuid4

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.types import ASGIApp

from capvec.engines.chat_template import ChatTemplate
from capvec.engines.prepared import Prepared, prepare
from capvec.engines.protocol import DirectionInfo, EngineInfo, EngineState
from capvec.engines.published import Answered, Published, with_suffix
from capvec.engines.render import render_marked
from capvec.engines.requests import (
    CaptureRequest,
    ChatRequest,
    RequestError,
    parse_capture,
    parse_chat,
    parse_configs,
    parse_direction,
)
from capvec.engines.serving import BOUNDS, Bounds, JsonResponse, LargeResponse, Room, body_of, endpoints
from capvec.errors import UsageError
from capvec.receipts import check_finite
from capvec.records import Reply
from capvec.steering import Steer, direction_hash

MAX_CAPTURE_BYTES, MAX_DIRECTIONS_BYTES = 1 << 30, 1 << 30
"""Most residuals of all answers that are not yet taken, and most directions held, in float32."""


@dataclass(frozen=True)
class ReplyRequest:
    """One reply to generate."""

    tokens: tuple[int, ...]
    """The rendered prompt."""
    max_tokens: int
    """At most what the model's context has room for."""
    seed: int
    temperature: float
    stop: tuple[str, ...]
    steers: tuple[Steer, ...]
    """Their directions are held."""
    assistant: tuple[bool, ...] | None
    """Of each prompt token, whether it belongs to an assistant message; None where no steer asks."""


class Endpoints(ABC):
    """The endpoints over one model."""

    def __init__(self, token: str, info: EngineInfo, template: ChatTemplate) -> None:
        """Args:
        token: the bearer token.
        info: of the engine and its model.
        template: of the model.
        """
        self.token, self.info, self.template = token, info, template
        self.directions: dict[str, None] = {}
        """Hashes of those that the engine holds, in the order of their arrival."""
        self.published = Published(info)
        """What clients can ask for by name."""
        self.room = Room(MAX_CAPTURE_BYTES, "residuals")
        """For the residuals of captures."""
        self._started = int(time())
        self.requests = 0
        """Chats and captures that were begun and not answered."""

    @property
    def context_length(self) -> int:
        """Most tokens of prompt and reply together."""
        return self.info.context_length

    @property
    def most_captured(self) -> int:
        """Most tokens of a conversation whose residuals are captured."""
        return self.context_length

    @property
    def most_directions(self) -> int:
        """How many directions the engine has room for."""
        return MAX_DIRECTIONS_BYTES // (4 * self.info.n_layers * self.info.d_model)

    # ---------------------------------------------------------------------------------------- what engines do

    @property
    @abstractmethod
    def steps(self) -> int:
        """Steps of the batch so far."""

    @abstractmethod
    async def generate(self, http: HttpRequest, request: ReplyRequest) -> Reply:
        """The reply, thought and answer in its text; it is given up when the client leaves.

        Raises:
            SteeringFault: it could not be steered.
            ClientDisconnect: the client left.
        """

    @abstractmethod
    async def residuals(self, http: HttpRequest, prepared: Sequence[Prepared]) -> NDArray[np.float32]:
        """The pooled residuals of conversations, float32 `[n, n_layers, d_model]`; raises as `generate`."""

    @abstractmethod
    async def hold(self, key: str, vectors: NDArray[np.float32]) -> None:
        """Keep a direction, float32 `[n_layers, d_model]`, under its hash."""

    # ---------------------------------------------------------------------------------------- endpoints

    async def health(self, _request: HttpRequest) -> Response:
        return JsonResponse(self.info.to_json())

    async def state(self, _request: HttpRequest) -> Response:
        return JsonResponse(EngineState(tuple(self.directions), self.requests, self.steps).to_json())

    async def models(self, _request: HttpRequest) -> Response:
        about = {"object": "model", "created": self._started, "owned_by": "capvec"}
        return JsonResponse({"object": "list", "data": [{"id": name, **about} for name in self.published.names]})

    async def publish(self, http: HttpRequest) -> Response:
        configs = parse_configs(await body_of(http))
        for steer in (steer for config in configs for steer in config.steers):
            self._check_held(steer)
        self.published.publish(configs)
        return await self.models(http)

    async def chat(self, http: HttpRequest) -> Response:
        asked = self._named(parse_chat(await body_of(http), self.info.n_layers))
        request = self._request(asked)
        with self.counted():
            reply = await self.generate(http, request)
        said = self.template.split(reply.text, request.tokens)
        reply = replace(reply, text=said.answer, thought=said.thought)
        answered = Answered(f"chatcmpl-{uuid4().hex}", 0, int(time()), request.seed)
        if asked.model is not None:
            self.published.check(asked.model, reply, answered)
        return JsonResponse(self._answer(reply, answered, asked.model or self.info.model))

    async def capture(self, http: HttpRequest) -> Response:
        asked = parse_capture(await body_of(http))
        shape = len(asked.conversations), self.info.n_layers, self.info.d_model
        if (size := 4 * prod(shape)) > MAX_CAPTURE_BYTES:
            raise RequestError(
                f"{shape[0]} conversations have {size:,} bytes of residuals; expected at most {MAX_CAPTURE_BYTES:,}, "
                "so send fewer at once",
                "request_too_large",
                413,
            )
        with ExitStack() as cleanup:
            self.room.take(size)
            cleanup.callback(self.room.give, size)
            content = await self._captured(http, asked)
            return LargeResponse(content, ended=cleanup.pop_all().close)

    async def _captured(self, http: HttpRequest, asked: CaptureRequest) -> bytes:
        """A safetensors file of residuals `[conversations, n_layers, d_model]` and what belongs to them."""
        prepared = [
            prepare(self.template, messages, asked.pooling, name, most=self.most_captured)
            for messages, name in zip(asked.conversations, asked.names, strict=True)
        ]
        tensors = {
            "residuals": await self.residuals(http, prepared),
            "tokens": np.array([one.tokens for one in prepared]),
            "truncated": np.array([one.truncated for one in prepared]),
            "truncated_assistant": np.array([one.truncated_assistant for one in prepared]),
        }
        return safetensors.numpy.save(tensors)

    async def put_direction(self, http: HttpRequest) -> Response:
        info = self.info
        vectors = parse_direction(await body_of(http), info.n_layers, info.d_model)
        key = direction_hash(vectors)
        if len(self.directions.keys() | {key}) > self.most_directions:
            raise RequestError(
                f"the engine holds {len(self.directions)} directions, and has no room for another; start another "
                "engine",
                "too_many_directions",
                413,
            )
        await self.hold(key, vectors)
        self.directions[key] = None
        norms = tuple(np.linalg.norm(vectors.astype(np.float64), axis=1).tolist())
        return JsonResponse(DirectionInfo(key, info.n_layers, info.d_model, norms).to_json())

    # ---------------------------------------------------------------------------------------- requests

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count a request while it waits for the model."""
        self.requests += 1
        try:
            yield
        finally:
            self.requests -= 1

    def _check_held(self, steer: Steer) -> None:
        if steer.direction not in self.directions:
            known = ", ".join(list(self.directions)[-20:]) or "none"
            raise RequestError(
                f"no direction {steer.direction[:80]!r}; POST it to /v1/directions first (last known: {known})",
                "not_found",
                404,
            )

    def _named(self, asked: ChatRequest) -> ChatRequest:
        """The request with the steers and the system text of the config that it names."""
        if asked.model is None:
            return asked
        config = self.published.config(asked.model)
        return replace(asked, steers=config.steers, messages=with_suffix(asked.messages, config.system_suffix))

    def _request(self, asked: ChatRequest) -> ReplyRequest:
        for steer in asked.steers:
            self._check_held(steer)
        tokens, assistant = self._tokens(asked)
        room = self.context_length - len(tokens)
        if room < 1:
            raise RequestError(
                f"the prompt has {len(tokens)} tokens, which leaves no room for a reply; expected fewer than "
                f"{self.context_length}, the model's context",
                "context_length_exceeded",
            )
        return ReplyRequest(
            tokens=tokens,
            max_tokens=room if asked.max_tokens is None else min(room, asked.max_tokens),
            seed=randbits(31) if asked.seed is None else asked.seed,
            temperature=asked.temperature,
            stop=asked.stop,
            steers=asked.steers,
            assistant=assistant,
        )

    def _tokens(self, asked: ChatRequest) -> tuple[tuple[int, ...], tuple[bool, ...] | None]:
        # Marked only where a steer needs it: some chat templates do not reveal which tokens are the assistant's.
        try:
            if any(steer.positions == "assistant" for steer in asked.steers):
                rendered = render_marked(self.template, asked.messages, prompt=True, thinking=asked.thinking)
                return rendered.ids, rendered.assistant
            return tuple(self.template.ids(asked.messages, prompt=True, thinking=asked.thinking)), None
        except UsageError as error:  # the user of an agent did not write its conversation
            raise RequestError(str(error), "template_fault") from error

    def _answer(self, reply: Reply, answered: Answered, model: str) -> dict[str, Any]:
        check_finite(reply.receipts, reply.isolation)
        choice = {
            "index": answered.index,
            "logprobs": None,
            "message": {"role": "assistant", "content": reply.text, "reasoning_content": reply.thought or None},
            "thought_tags": self.template.tags.to_json() if self.template.tags.open in reply.text else None,
            "finish_reason": reply.finish_reason,
            "steering_receipts": [receipt.to_json() for receipt in reply.receipts],
            "steering_isolation": reply.isolation.to_json() if reply.isolation is not None else None,
            "steering_of_cached": [steer.to_json() for steer in reply.cached_under],
        }
        return {
            "id": answered.id,
            "object": "chat.completion",
            "created": answered.created,
            "model": model,
            "choices": [choice],
            "usage": {
                "prompt_tokens": reply.prompt_tokens,
                "completion_tokens": reply.completion_tokens,
                "total_tokens": reply.prompt_tokens + reply.completion_tokens,
                "prompt_tokens_details": {"cached_tokens": reply.cached_tokens},
            },
        }


def build_app(engine: Endpoints, bounds: Bounds = BOUNDS, *, without: Collection[str] = ()) -> ASGIApp:
    """The ASGI application; every endpoint requires `Authorization: Bearer <token>`.

    Args:
        engine: what answers.
        bounds: of the requests.
        without: paths of endpoints that it does not have.
    """
    routes = {
        "/health": ("GET", engine.health),
        "/v1/state": ("GET", engine.state),
        "/v1/models": ("GET", engine.models),
        "/v1/configs": ("POST", engine.publish),
        "/v1/chat/completions": ("POST", engine.chat),
        "/v1/capture": ("POST", engine.capture),
        "/v1/directions": ("POST", engine.put_direction),
    }
    return endpoints({path: route for path, route in routes.items() if path not in without}, engine.token, bounds)
