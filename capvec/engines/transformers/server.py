"""The engine's endpoints: `capvec.engines.protocol` over HTTP, behind a bearer token."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from math import prod
from typing import Any
from uuid import uuid4

import numpy as np
import safetensors.torch
import torch
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.types import ASGIApp
from torch import Tensor

from capvec import __version__
from capvec.engines.prepared import prepare
from capvec.engines.protocol import DirectionInfo, EngineInfo, EngineState, GenerationDefaults
from capvec.engines.requests import (
    CaptureRequest,
    ChatRequest,
    RequestError,
    parse_capture,
    parse_chat,
    parse_direction,
)
from capvec.engines.serving import (
    BOUNDS,
    Bounds,
    JsonResponse,
    LargeResponse,
    Room,
    body_of,
    endpoints,
    while_connected,
)
from capvec.engines.transformers.capture import Limits, capture_batch, plan_batches
from capvec.engines.transformers.decode import Request
from capvec.engines.transformers.loaded import LoadedModel
from capvec.engines.transformers.scheduler import Scheduler
from capvec.errors import UsageError
from capvec.receipts import check_finite
from capvec.records import Reply
from capvec.steering import direction_hash

MAX_CAPTURE_BYTES, MAX_DIRECTIONS_BYTES = 1 << 30, 1 << 30
"""Most residuals of all answers that are not yet taken, and most directions held, in float32."""


@dataclass
class Engine:
    """The endpoints and their shared state."""

    loaded: LoadedModel
    scheduler: Scheduler
    token: str
    directions: dict[str, Tensor] = field(default_factory=dict)
    """Content hash to vectors, float32 `[n_layers, d_model]`, on the model's device."""
    defaults: GenerationDefaults = field(default_factory=GenerationDefaults)
    """Passed on to clients."""
    requests: int = 0
    """Chats and captures that were begun and not answered."""
    room: Room = field(default_factory=lambda: Room(MAX_CAPTURE_BYTES, "residuals"))
    """For the residuals of captures."""

    # ---------------------------------------------------------------------------------------- endpoints

    async def health(self, _request: HttpRequest) -> Response:
        loaded = self.loaded
        record = EngineInfo(
            model=loaded.name,
            revision=loaded.revision,
            architecture=type(loaded.model).__name__,
            n_layers=loaded.n_layers,
            d_model=loaded.d_model,
            context_length=loaded.context_length,
            dtype=str(loaded.dtype).removeprefix("torch."),
            device=_device_name(loaded.device),
            engine=__version__,
            blocks=loaded.path.name,
            defaults=self.defaults,
            model_type=getattr(loaded.model.config, "model_type", ""),
            template=loaded.template.info,
            context_limit=loaded.context_limit,
        )
        return JsonResponse(record.to_json())

    async def state(self, _request: HttpRequest) -> Response:
        return JsonResponse(EngineState(tuple(self.directions), self.requests, self.scheduler.steps).to_json())

    async def models(self, _request: HttpRequest) -> Response:
        return JsonResponse(
            {"object": "list", "data": [{"id": self.loaded.name, "object": "model", "owned_by": "capvec"}]}
        )

    async def chat(self, http: HttpRequest) -> Response:
        request = self._request(parse_chat(await body_of(http), self.loaded.n_layers))
        with self._counted():
            reply = await while_connected(http, self.scheduler.generate(request))
        said = self.loaded.template.split(reply.text, request.tokens)
        return JsonResponse(self._answer(replace(reply, text=said.answer, thought=said.thought)))

    async def capture(self, http: HttpRequest) -> Response:
        asked = parse_capture(await body_of(http))
        shape = len(asked.conversations), self.loaded.n_layers, self.loaded.d_model
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
            content = await self._captured(http, asked, shape)
            return LargeResponse(content, ended=cleanup.pop_all().close)

    async def _captured(self, http: HttpRequest, asked: CaptureRequest, shape: tuple[int, int, int]) -> bytes:
        """A safetensors file of residuals `[conversations, n_layers, d_model]` and what belongs to them."""
        prepared = [
            prepare(self.loaded, messages, asked.pooling, name)
            for messages, name in zip(asked.conversations, asked.names, strict=True)
        ]
        residuals = torch.empty(shape)
        for rows in plan_batches([len(one.ids) for one in prepared], Limits.of(self.loaded.device)):
            # One batch at a time, so that a new reply waits for one and not for all.
            work = partial(capture_batch, self.loaded, [prepared[row] for row in rows])
            with self._counted():
                residuals[rows] = await while_connected(http, self.scheduler.call(work))
        tensors = {
            "residuals": residuals,
            "tokens": torch.tensor([one.tokens for one in prepared]),
            "truncated": torch.tensor([one.truncated for one in prepared]),
            "truncated_assistant": torch.tensor([one.truncated_assistant for one in prepared]),
        }
        return safetensors.torch.save(tensors)

    async def put_direction(self, http: HttpRequest) -> Response:
        loaded = self.loaded
        vectors = parse_direction(await body_of(http), loaded.n_layers, loaded.d_model)
        key = direction_hash(vectors)
        held = vectors.nbytes * len(self.directions.keys() | {key})
        if held > MAX_DIRECTIONS_BYTES:
            raise RequestError(
                f"the engine holds {len(self.directions)} directions, and has no room for another within "
                f"{MAX_DIRECTIONS_BYTES:,} bytes; start another engine",
                "too_many_directions",
                413,
            )
        self.directions[key] = torch.tensor(vectors, device=loaded.device)
        norms = tuple(np.linalg.norm(vectors.astype(np.float64), axis=1).tolist())
        return JsonResponse(DirectionInfo(key, loaded.n_layers, loaded.d_model, norms).to_json())

    # ---------------------------------------------------------------------------------------- requests

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """Count a request while it waits for the model."""
        self.requests += 1
        try:
            yield
        finally:
            self.requests -= 1

    def _request(self, asked: ChatRequest) -> Request:
        loaded = self.loaded
        vectors = tuple(self._direction(steer.direction)[steer.layer] for steer in asked.steers)
        tokens, assistant = self._tokens(asked)
        room = loaded.context_length - len(tokens)
        if room < 1:
            raise RequestError(
                f"the prompt has {len(tokens)} tokens, which leaves no room for a reply; expected fewer than "
                f"{loaded.context_length}, the model's context",
                "context_length_exceeded",
            )
        return Request(
            tokens=tokens,
            max_tokens=room if asked.max_tokens is None else min(room, asked.max_tokens),
            seed=asked.seed,
            temperature=asked.temperature,
            stop=asked.stop,
            steers=asked.steers,
            vectors=vectors,
            assistant=assistant,
        )

    def _tokens(self, asked: ChatRequest) -> tuple[tuple[int, ...], tuple[bool, ...] | None]:
        # Marked only where a steer needs it: some chat templates do not reveal which tokens are the assistant's.
        try:
            if any(steer.positions == "assistant" for steer in asked.steers):
                rendered = self.loaded.render_marked(asked.messages, prompt=True, thinking=asked.thinking)
                return rendered.ids, rendered.assistant
            return tuple(self.loaded.render(asked.messages, prompt=True, thinking=asked.thinking)), None
        except UsageError as error:  # the user of an agent did not write its conversation
            raise RequestError(str(error), "template_fault") from error

    def _direction(self, key: str) -> Tensor:
        if key not in self.directions:
            known = ", ".join(list(self.directions)[-20:]) or "none"
            raise RequestError(
                f"no direction {key[:80]!r}; POST it to /v1/directions first (last known: {known})", "not_found", 404
            )
        return self.directions[key]

    def _answer(self, reply: Reply) -> dict[str, Any]:
        check_finite(reply.receipts, reply.isolation)
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": reply.text, "reasoning_content": reply.thought or None},
            "finish_reason": reply.finish_reason,
            "steering_receipts": [receipt.to_json() for receipt in reply.receipts],
            "steering_isolation": reply.isolation.to_json() if reply.isolation is not None else None,
            "steering_of_cached": [steer.to_json() for steer in reply.cached_under],
        }
        return {
            "id": f"chatcmpl-{uuid4().hex}",
            "object": "chat.completion",
            "model": self.loaded.name,
            "choices": [choice],
            "usage": {
                "prompt_tokens": reply.prompt_tokens,
                "completion_tokens": reply.completion_tokens,
                "total_tokens": reply.prompt_tokens + reply.completion_tokens,
                "prompt_tokens_details": {"cached_tokens": reply.cached_tokens},
            },
        }


def build_app(engine: Engine, bounds: Bounds = BOUNDS) -> ASGIApp:
    """The ASGI application; every endpoint requires `Authorization: Bearer <token>`."""
    routes = {
        "/health": ("GET", engine.health),
        "/v1/state": ("GET", engine.state),
        "/v1/models": ("GET", engine.models),
        "/v1/chat/completions": ("POST", engine.chat),
        "/v1/capture": ("POST", engine.capture),
        "/v1/directions": ("POST", engine.put_direction),
    }
    return endpoints(routes, engine.token, bounds)


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
