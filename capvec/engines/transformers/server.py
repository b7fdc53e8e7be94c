"""The endpoints over a model of transformers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Event

import numpy as np
import torch
from numpy.typing import NDArray
from starlette.requests import Request as HttpRequest
from torch import Tensor

from capvec import __version__
from capvec.engines.checks import RequestError
from capvec.engines.endpoints import Endpoints
from capvec.engines.generation import ReplyRequest
from capvec.engines.prepared import Prepared
from capvec.engines.protocol import EngineInfo, GenerationDefaults
from capvec.engines.serving import unless_gone, while_connected
from capvec.engines.transformers.capture import Limits, capture_batch, plan_batches
from capvec.engines.transformers.decode import Request
from capvec.engines.transformers.grammars import Grammar, Grammars
from capvec.engines.transformers.loaded import LoadedModel
from capvec.engines.transformers.scheduler import Scheduler
from capvec.errors import UsageError
from capvec.records import Reply


class Engine(Endpoints):
    """The endpoints, with the model and the thread that uses it."""

    def __init__(
        self, loaded: LoadedModel, scheduler: Scheduler, token: str, defaults: GenerationDefaults | None = None
    ) -> None:
        """Args:
        loaded: the model.
        scheduler: of its requests.
        token: the bearer token.
        defaults: passed on to clients.
        """
        super().__init__(token, info_of(loaded, defaults or GenerationDefaults()), loaded.template)
        self._loaded, self._scheduler = loaded, scheduler
        self._grammars = Grammars(loaded)
        self._grammar_maker = ThreadPoolExecutor(1)
        """A thread of its own: new expressions wait for each other, and nothing else waits for them."""
        self._vectors: dict[str, Tensor] = {}
        """Content hash to vectors, float32 `[n_layers, d_model]`, on the model's device."""

    @property
    def steps(self) -> int:
        return self._scheduler.steps

    async def generate(self, http: HttpRequest, request: ReplyRequest) -> Reply:
        if ends := self._loaded.stop_ids.intersection(request.given):
            raise RequestError(
                f"continuation: it holds {self.template.decode([min(ends)])!r}, which ends a reply; leave it out",
                "invalid_value",
            )
        vectors = tuple(self._vectors[steer.direction][steer.layer] for steer in request.steers)
        asked = {**vars(request), "vectors": vectors, "grammar": await unless_gone(http, self._grammar_of(request))}
        return await while_connected(http, self._scheduler.generate(Request(**asked)))

    async def _grammar_of(self, request: ReplyRequest) -> Grammar | None:
        if not request.grammar:
            return None
        try:
            grammar = self._grammars.known(request.grammar)
            if grammar is None:
                grammar = await self._new_grammar(request.grammar)
        except UsageError as error:
            raise RequestError(str(error), "invalid_value") from error
        if grammar.needs > request.max_tokens:
            full = self.context_length - len(request.tokens) < grammar.needs
            raise RequestError(
                f"there is room for {request.max_tokens} tokens, and the shortest reply that matches the regular "
                f"expression has {grammar.needs}; expected at least as many",
                "context_length_exceeded" if full else "invalid_value",
            )
        return grammar

    async def _new_grammar(self, regex: str) -> Grammar:
        """A grammar that is made now, unless the client leaves."""
        loop, gone = asyncio.get_running_loop(), Event()
        try:
            return await loop.run_in_executor(self._grammar_maker, self._grammars.of, regex, gone.is_set)
        finally:
            gone.set()

    async def residuals(self, http: HttpRequest, prepared: Sequence[Prepared]) -> NDArray[np.float32]:
        found = np.empty((len(prepared), self.info.n_layers, self.info.d_model), np.float32)
        for rows in plan_batches([len(one.ids) for one in prepared], Limits.of(self._loaded.device)):
            # One batch at a time, so that a new reply waits for one and not for all.
            work = partial(capture_batch, self._loaded, [prepared[row] for row in rows])
            with self.counted():
                found[rows] = (await while_connected(http, self._scheduler.call(work))).numpy()
        return found

    async def hold(self, key: str, vectors: NDArray[np.float32]) -> None:
        self._vectors[key] = torch.tensor(vectors, device=self._loaded.device)


def info_of(loaded: LoadedModel, defaults: GenerationDefaults) -> EngineInfo:
    """What clients are told of the engine and its model."""
    return EngineInfo(
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
        defaults=defaults,
        model_type=getattr(loaded.model.config, "model_type", ""),
        template=loaded.template.info,
        context_limit=loaded.context_limit,
    )


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
