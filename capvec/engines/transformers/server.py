"""The engine's HTTP side: OpenAI-style chat completions with `steering`, on loopback, behind a bearer token."""

from __future__ import annotations

import asyncio
import hmac
import json
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import uuid4

import safetensors.torch
import torch
from safetensors import SafetensorError
from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from torch import Tensor

from capvec import __version__
from capvec.engines.protocol import DirectionInfo, EngineInfo, GenerationDefaults
from capvec.engines.transformers.capture import Limits, capture_batch, plan_batches, prepare
from capvec.engines.transformers.decode import Completion, Request
from capvec.engines.transformers.models import LoadedModel
from capvec.engines.transformers.scheduler import Scheduler
from capvec.errors import SteeringFault, UsageError
from capvec.pooling import parse_pooling
from capvec.receipts import check_finite
from capvec.records import Message
from capvec.steering import Steer, direction_hash

_KNOWN = frozenset(
    (
        "model",
        "messages",
        "max_tokens",
        "max_completion_tokens",
        "temperature",
        "seed",
        "stop",
        "steering",
        "n",
        "stream",
    )
)
_CAPTURE_KNOWN = frozenset(("conversations", "pooling", "names"))


class RequestError(Exception):
    """A request that cannot be served; `code` is OpenAI's where it has one."""

    def __init__(self, message: str, code: str, status: int = 400) -> None:
        super().__init__(message)
        self.code, self.status = code, status


@dataclass
class Engine:
    """What the endpoints share."""

    loaded: LoadedModel
    scheduler: Scheduler
    token: str
    directions: dict[str, Tensor] = field(default_factory=dict)
    """Content hash to vectors, float32 `[n_layers, d_model]`, on the model's device."""
    defaults: GenerationDefaults = field(default_factory=GenerationDefaults)
    """Of the model; the engine only passes them on."""

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
        )
        return JSONResponse(record.to_json())

    async def models(self, _request: HttpRequest) -> Response:
        return JSONResponse(
            {"object": "list", "data": [{"id": self.loaded.name, "object": "model", "owned_by": "capvec"}]}
        )

    async def chat(self, http: HttpRequest) -> Response:
        body = await _json(http)
        if unknown := set(body) - _KNOWN:
            raise RequestError(
                f"unknown fields {sorted(unknown)}; expected some of {sorted(_KNOWN)}", "unknown_parameter"
            )
        if body.get("stream") or body.get("n", 1) != 1:
            raise RequestError("only n = 1 without stream is served", "unsupported_value")
        request = self._request(body)
        completion = await asyncio.wrap_future(self.scheduler.generate(request))
        return JSONResponse(self._answer(completion))

    async def capture(self, http: HttpRequest) -> Response:
        conversations, pooling, names = _capture_request(await _json(http))
        prepared = [
            prepare(self.loaded, messages, pooling, name) for messages, name in zip(conversations, names, strict=True)
        ]
        residuals = torch.empty(len(prepared), self.loaded.n_layers, self.loaded.d_model)
        for rows in plan_batches([len(one.ids) for one in prepared], Limits.of(self.loaded.device)):
            # The next is queued when this one is done, so that a new reply waits for one batch and not for all.
            work = partial(capture_batch, self.loaded, [prepared[row] for row in rows])
            residuals[rows] = await asyncio.wrap_future(self.scheduler.call(work))
        tensors = {
            "residuals": residuals,
            "tokens": torch.tensor([one.tokens for one in prepared]),
            "truncated": torch.tensor([one.truncated for one in prepared]),
            "truncated_assistant": torch.tensor([one.truncated_assistant for one in prepared]),
        }
        return Response(safetensors.torch.save(tensors), media_type="application/octet-stream")

    async def put_direction(self, http: HttpRequest) -> Response:
        loaded = self.loaded
        vectors = _vectors(await http.body(), loaded.n_layers, loaded.d_model)
        key = direction_hash(vectors.numpy())
        self.directions[key] = vectors.to(loaded.device)
        norms = tuple(float(norm) for norm in torch.linalg.vector_norm(vectors, dim=1))
        return JSONResponse(DirectionInfo(key, loaded.n_layers, loaded.d_model, norms).to_json())

    # ---------------------------------------------------------------------------------------- requests

    def _request(self, body: Mapping[str, Any]) -> Request:
        loaded = self.loaded
        messages, steers = _messages(body.get("messages")), self._steers(body.get("steering") or ())
        tokens, assistant = self._tokens(messages, steers)
        room = loaded.context_length - len(tokens)
        if room < 1:
            raise RequestError(
                f"the prompt has {len(tokens)} tokens, and the model's context {loaded.context_length}: "
                "no room for a reply",
                "context_length_exceeded",
            )
        wanted = body.get("max_completion_tokens", body.get("max_tokens"))
        limit = room if wanted is None else min(room, _whole(wanted, "max_tokens", least=1))
        stop = body.get("stop") or []
        stops = [stop] if isinstance(stop, str) else stop
        if not isinstance(stops, list) or not all(isinstance(text, str) and text for text in stops):
            raise RequestError(f"stop: {stop!r}; expected a text or a list of texts, none empty", "invalid_value")
        return Request(
            tokens=tokens,
            max_tokens=limit,
            seed=_whole(body.get("seed") or 0, "seed"),
            temperature=_number(body.get("temperature", 1.0), "temperature", least=0),
            stop=tuple(stops),
            steers=steers,
            vectors=tuple(self._direction(steer.direction)[steer.layer] for steer in steers),
            assistant=assistant,
        )

    def _tokens(
        self, messages: Sequence[Message], steers: Sequence[Steer]
    ) -> tuple[tuple[int, ...], tuple[bool, ...] | None]:
        """The prompt, and which of its tokens are the assistant's where a steer is for those.

        A template for which that cannot be told serves every other steer.
        """
        if any(steer.positions == "assistant" for steer in steers):
            rendered = self.loaded.render_marked(messages, prompt=True)
            return rendered.ids, rendered.assistant
        return tuple(self.loaded.render(messages, prompt=True)), None

    def _steers(self, raw: Any) -> tuple[Steer, ...]:
        if not isinstance(raw, list | tuple) or not all(isinstance(steer, dict) for steer in raw):
            raise RequestError("steering: expected a list of steers", "invalid_value")
        try:
            steers = tuple(Steer.from_json(steer) for steer in raw)
        except UsageError as error:
            raise RequestError(f"steering: {error}", "invalid_value") from error
        for steer in steers:
            _number(steer.alpha, "steering: alpha")
            if not 0 <= steer.layer < self.loaded.n_layers:
                last = self.loaded.n_layers - 1
                raise RequestError(f"steering: layer {steer.layer}; the model has layers 0 to {last}", "invalid_value")
            self._direction(steer.direction)
        return steers

    def _direction(self, key: str) -> Tensor:
        if key not in self.directions:
            known = ", ".join(self.directions) or "none"
            raise RequestError(
                f"no direction {key}; POST it to /v1/directions first (known: {known})", "not_found", 404
            )
        return self.directions[key]

    def _answer(self, completion: Completion) -> dict[str, Any]:
        check_finite(completion.receipts, completion.isolation)
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": completion.text},
            "finish_reason": completion.finish_reason,
            "steering_receipts": [receipt.to_json() for receipt in completion.receipts],
            "steering_isolation": completion.isolation.to_json(),
            "steering_of_cached": [steer.to_json() for steer in completion.cached_under],
        }
        return {
            "id": f"chatcmpl-{uuid4().hex}",
            "object": "chat.completion",
            "model": self.loaded.name,
            "choices": [choice],
            "usage": {
                "prompt_tokens": completion.prompt_tokens,
                "completion_tokens": completion.completion_tokens,
                "total_tokens": completion.prompt_tokens + completion.completion_tokens,
                "prompt_tokens_details": {"cached_tokens": completion.cached_tokens},
            },
        }


def build_app(engine: Engine) -> Starlette:
    """The ASGI application; every endpoint wants `Authorization: Bearer <token>`."""

    def guarded(endpoint: Callable[[HttpRequest], Awaitable[Response]]) -> Callable[[HttpRequest], Awaitable[Response]]:
        async def call(request: HttpRequest) -> Response:
            given = request.headers.get("authorization", "")
            if not hmac.compare_digest(given.encode(), f"Bearer {engine.token}".encode()):
                return _error("missing or wrong bearer token", "invalid_api_key", 401)
            try:
                return await endpoint(request)
            except RequestError as error:
                return _error(str(error), error.code, error.status)
            except UsageError as error:
                return _error(str(error), "invalid_value", 400)
            except SteeringFault as error:
                return _error(str(error), "steering_fault", 500)
            except Exception as error:  # whatever it is, the client gets JSON that says so
                return _error(f"{type(error).__name__}: {error}", "engine_fault", 500)

        return call

    routes = [
        Route("/health", guarded(engine.health)),
        Route("/v1/models", guarded(engine.models)),
        Route("/v1/chat/completions", guarded(engine.chat), methods=["POST"]),
        Route("/v1/capture", guarded(engine.capture), methods=["POST"]),
        Route("/v1/directions", guarded(engine.put_direction), methods=["POST"]),
    ]
    return Starlette(routes=routes)


def _error(message: str, code: str, status: int) -> JSONResponse:
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return JSONResponse({"error": {"message": message, "type": kind, "code": code}}, status_code=status)


async def _json(http: HttpRequest) -> dict[str, Any]:
    try:
        body = await http.json()
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RequestError(f"the body is not JSON: {error}", "invalid_json") from error
    if not isinstance(body, dict):
        raise RequestError(f"the body is a JSON {type(body).__name__}; expected an object", "invalid_json")
    return body


def _messages(raw: Any) -> tuple[Message, ...]:
    if not isinstance(raw, list) or not raw:
        raise RequestError("messages: expected a list of {role, content}, not empty", "invalid_value")
    for message in raw:
        if not isinstance(message, dict) or not all(isinstance(message.get(key), str) for key in ("role", "content")):
            raise RequestError(f"messages: {str(message)[:80]}: expected text for role and content", "invalid_value")
    if any(_has_surrogate(text) for message in raw for text in message.values()):
        raise RequestError("messages: a lone surrogate is no text; expected Unicode", "invalid_value")
    return tuple({"role": message["role"], "content": message["content"]} for message in raw)


def _capture_request(body: Mapping[str, Any]) -> tuple[list[tuple[Message, ...]], str, list[str]]:
    """Conversations, pooling and names."""
    if unknown := set(body) - _CAPTURE_KNOWN:
        raise RequestError(
            f"unknown fields {sorted(unknown)}; expected some of {sorted(_CAPTURE_KNOWN)}", "unknown_parameter"
        )
    raw = body.get("conversations")
    if not isinstance(raw, list) or not raw:
        raise RequestError("conversations: expected a list of lists of messages", "invalid_value")
    names = body.get("names") or [f"conversation {number}" for number in range(1, len(raw) + 1)]
    if not isinstance(names, list) or len(names) != len(raw) or not all(isinstance(name, str) for name in names):
        raise RequestError(f"names: expected {len(raw)} texts, one for each conversation", "invalid_value")
    return [_messages(conversation) for conversation in raw], parse_pooling(str(body.get("pooling", "last"))), names


def _vectors(data: bytes, n_layers: int, d_model: int) -> Tensor:
    """The tensor `directions` of a safetensors file, float32 `[n_layers, d_model]`."""
    try:
        vectors = safetensors.torch.load(data)["directions"]
    except (SafetensorError, KeyError) as error:
        raise RequestError(
            "the body is not a direction; expected a safetensors file with a tensor `directions`", "invalid_value"
        ) from error
    if tuple(vectors.shape) != (n_layers, d_model) or not vectors.is_floating_point():
        kind = str(vectors.dtype).removeprefix("torch.")
        raise RequestError(
            f"the direction has shape {list(vectors.shape)} and holds {kind}; expected [{n_layers}, {d_model}], the "
            "model's layers and width, in floating point",
            "invalid_value",
        )
    vectors = vectors.float()
    if not torch.isfinite(vectors).all():
        raise RequestError("the direction holds values that are not finite numbers", "invalid_value")
    return vectors


def _has_surrogate(text: Any) -> bool:
    return isinstance(text, str) and any("\ud800" <= letter <= "\udfff" for letter in text)


def _number(value: Any, name: str, least: float | None = None) -> float:
    number = not isinstance(value, bool) and isinstance(value, int | float) and math.isfinite(value)
    if not number or (least is not None and value < least):
        bound = f" of at least {least}" if least is not None else ""
        raise RequestError(f"{name}: {value!r}; expected a finite number{bound}", "invalid_value")
    return float(value)


def _whole(value: Any, name: str, least: int | None = None) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or (least is not None and value < least):
        bound = f" of at least {least}" if least is not None else ""
        raise RequestError(f"{name}: {value!r}; expected a whole number{bound}", "invalid_value")
    return value


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
