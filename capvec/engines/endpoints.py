"""The endpoints of an engine: `capvec.engines.protocol` over HTTP, behind a bearer token.

Everything is here that engines do alike: checks of requests, rendering, bounds and answers. A subclass of `Endpoints`
generates replies, computes residuals and holds directions.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from math import prod
from time import time
from typing import Any, TypeVar

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.types import ASGIApp

from capvec.engines.answering import Answering, ChatReader, TextReader
from capvec.engines.answers import ChatForm, TextForm
from capvec.engines.chat_requests import ChatRequest, TextRequest, Wanted, parse_chat, parse_text
from capvec.engines.chat_template import ChatTemplate
from capvec.engines.checks import RequestError, shown
from capvec.engines.generation import ReplyRequest
from capvec.engines.prepared import Prepared, prepare
from capvec.engines.prompts import Prompt, Prompts, check_told
from capvec.engines.protocol import DirectionInfo, EngineInfo, EngineState
from capvec.engines.published import Published, with_suffix
from capvec.engines.requests import (
    CaptureRequest,
    parse_capture,
    parse_configs,
    parse_direction,
)
from capvec.engines.serving import BOUNDS, PROBE, Bounds, JsonResponse, LargeResponse, Room, body_of, endpoints
from capvec.engines.tokenizing import about_tokenizer, parse_detokenize, parse_tokenize
from capvec.records import Reply
from capvec.steering import Steer, direction_hash

T = TypeVar("T")
_LARGE_BODY = 1 << 18
"""Bytes of a body that takes milliseconds to parse."""
MODEL = "/v1/models/"
"""What precedes the name of a model in the path of its description."""
MAX_CAPTURE_BYTES, MAX_DIRECTIONS_BYTES = 1 << 30, 1 << 30
"""Most residuals of all answers that are not yet taken, and most directions held, in float32."""


class Endpoints(ABC):
    """The endpoints over one model."""

    def __init__(self, token: str, info: EngineInfo, template: ChatTemplate) -> None:
        """Args:
        token: the bearer token.
        info: of the engine and its model.
        template: of the model.
        """
        self.token, self.info, self.template = token, info, template
        self._prompts = Prompts(template)
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
        return JsonResponse({"object": "list", "data": list(map(self._model, self.published.names))})

    async def model(self, http: HttpRequest) -> Response:
        name = http.scope["path"].removeprefix(MODEL)
        self.published.config(name)
        return JsonResponse(self._model(name))

    def _model(self, name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": self._started, "owned_by": "capvec"}

    async def publish(self, http: HttpRequest) -> Response:
        configs = await _read(http, parse_configs)
        for steer in (steer for config in configs for steer in config.steers):
            self._check_held(steer)
        self.published.publish(configs)
        return await self.models(http)

    async def chat(self, http: HttpRequest) -> Response:
        asked = self._named(self._switched(await _read(http, parse_chat, self.info.n_layers)))
        prompt = self._prompts.of_chat(asked)
        form = ChatForm(self.template, logprobs=asked.logprobs is not None)
        return await Answering(self, http, asked, form, ChatReader(self.template, asked, prompt)).answer([prompt])

    async def complete(self, http: HttpRequest) -> Response:
        asked = self._named_text(await _read(http, parse_text, self.info.n_layers))
        check_told(asked)
        prompts = [self._prompts.of_text(asked, one) for one in asked.prompts]
        form = TextForm(self.template, logprobs=asked.logprobs is not None)
        return await Answering(self, http, asked, form, TextReader(asked.stop)).answer(prompts)

    async def tokenize(self, http: HttpRequest) -> Response:
        tokens = parse_tokenize(await body_of(http), self.template)
        return JsonResponse({"count": len(tokens), "max_model_len": self.context_length, "tokens": tokens})

    async def detokenize(self, http: HttpRequest) -> Response:
        return JsonResponse({"prompt": parse_detokenize(await body_of(http), self.template)})

    async def tokenizer(self, _request: HttpRequest) -> Response:
        return JsonResponse(about_tokenizer(self.template))

    async def capture(self, http: HttpRequest) -> Response:
        asked = await _read(http, parse_capture)
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

    def _switched(self, asked: ChatRequest) -> ChatRequest:
        """The request with its variables of the chat template as what they do: thinking on or off."""
        switch = self.template.info.switch
        if unknown := [name for name in asked.variables if name != switch]:
            has = f"its one switch is {switch}, true or false" if switch else "it has no switch"
            raise RequestError(
                f"chat_template_kwargs: {shown(unknown)}: the model's chat template does not act on it; {has}",
                "unsupported_value",
            )
        return replace(asked, thinking="on" if asked.variables[switch] else "off") if asked.variables else asked

    def _named(self, asked: ChatRequest) -> ChatRequest:
        """The request with the steers and the system text of the config that it names."""
        self.published.check_asked(asked.model, own=asked.own)
        if asked.model is None:
            return asked
        config = self.published.config(asked.model)
        messages = with_suffix(asked.messages, config.system_suffix)
        return replace(asked, steers=config.steers, messages=messages, grammar=config.grammar or asked.grammar)

    def _named_text(self, asked: TextRequest) -> TextRequest:
        self.published.check_asked(asked.model, own=asked.own)
        if asked.model is None:
            return asked
        config = self.published.config(asked.model)
        if config.system_suffix:
            raise RequestError(
                f"model {config.name!r} adds to the system prompt, which a completion has not; ask for a chat",
                "unsupported_value",
            )
        return replace(asked, steers=config.steers, grammar=config.grammar or asked.grammar)

    def request(self, asked: Wanted, prompt: Prompt, seed: int) -> ReplyRequest:
        """A reply to a prompt.

        Raises:
            RequestError: a direction is not held, or the prompt fills the context.
        """
        for steer in asked.steers:
            self._check_held(steer)
        known = len(self.template.tokenizer)
        if beyond := [token for token in asked.shaping.logit_bias if token >= known]:
            raise RequestError(
                f"logit_bias: {beyond[0]} is no token of the model; expected 0 to {known - 1}", "invalid_value"
            )
        room = self.context_length - len(prompt.tokens)
        if room < (len(prompt.given) or asked.max_tokens != 0):
            raise RequestError(
                f"the prompt has {len(prompt.tokens)} tokens, which leaves no room for a reply; expected fewer than "
                f"{self.context_length}, the model's context",
                "context_length_exceeded",
            )
        return ReplyRequest(
            tokens=prompt.tokens,
            max_tokens=len(prompt.given) or (room if asked.max_tokens is None else min(room, asked.max_tokens)),
            seed=seed,
            temperature=asked.temperature,
            stop=asked.stop,
            steers=asked.steers,
            assistant=prompt.assistant,
            shaping=asked.shaping,
            logprobs=asked.logprobs,
            grammar=asked.grammar,
            given=prompt.given,
            echo=prompt.echoed is not None and asked.logprobs is not None,
        )


_READER = ThreadPoolExecutor(1, "capvec-bodies")
"""Parses large bodies one at a time, since each may take ten times its size in memory."""


async def _read(http: HttpRequest, parse: Callable[..., T], *about: int) -> T:
    """The body of a request, parsed; beside the event loop where it is large."""
    body = await body_of(http)
    if len(body) < _LARGE_BODY:
        return parse(body, *about)
    return await asyncio.get_running_loop().run_in_executor(_READER, parse, body, *about)


def build_app(engine: Endpoints, bounds: Bounds = BOUNDS, *, without: Collection[str] = ()) -> ASGIApp:
    """The ASGI application; every endpoint requires `Authorization: Bearer <token>` (but see `PROBE`).

    Args:
        engine: what answers.
        bounds: of the requests.
        without: paths of endpoints that it does not have.
    """
    routes = {
        PROBE: ("GET", engine.health),
        "/v1/state": ("GET", engine.state),
        "/v1/models": ("GET", engine.models),
        MODEL: ("GET", engine.model),
        "/v1/configs": ("POST", engine.publish),
        "/v1/chat/completions": ("POST", engine.chat),
        "/v1/completions": ("POST", engine.complete),
        "/tokenize": ("POST", engine.tokenize),
        "/detokenize": ("POST", engine.detokenize),
        "/tokenizer_info": ("GET", engine.tokenizer),
        "/v1/capture": ("POST", engine.capture),
        "/v1/directions": ("POST", engine.put_direction),
    }
    return endpoints({path: route for path, route in routes.items() if path not in without}, engine.token, bounds)
