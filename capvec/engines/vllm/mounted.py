"""capvec's endpoints on a running `vllm serve`, below `/capvec`.

vLLM finds `Mounted` through the entry point group `vllm.endpoint_plugins`, where `VLLM_PLUGINS` names it:

    VLLM_PLUGINS=capvec CAPVEC_ENGINE_TOKEN=… vllm serve MODEL --additional-config '{"capvec": {"layers": "all"}}'
    CAPVEC_ENGINE_TOKEN=… pytest -m sweep --base-url http://127.0.0.1:8000/capvec …
"""

from __future__ import annotations

import os
from argparse import Namespace
from typing import TYPE_CHECKING, Any

from capvec.engines.endpoints import build_app
from capvec.engines.protocol import TOKEN_VARIABLE
from capvec.errors import UsageError

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.datastructures import State
    from starlette.types import ASGIApp, Receive, Scope, Send

PREFIX = "/capvec"


class Mounted:
    """An endpoint plugin of vLLM."""

    name = "capvec"
    required_tasks = ("generate",)

    def __init__(self) -> None:
        self._app: ASGIApp | None = None

    def attach_router(self, app: Starlette) -> None:
        """Have the requests below `PREFIX`."""
        app.mount(PREFIX, self._answer)

    async def init_state(self, engine_client: Any, _state: State, _args: Namespace) -> None:
        """Take the model over that the server holds.

        Raises:
            UsageError: there is no token, or the model cannot be steered.
        """
        from capvec.engines.vllm.engine import adopt  # noqa: PLC0415
        from capvec.engines.vllm.server import Engine  # noqa: PLC0415

        token = os.environ.get(TOKEN_VARIABLE)
        if not token:
            raise UsageError(f"capvec's endpoints need a token: set {TOKEN_VARIABLE} before `vllm serve`")
        engine = Engine(await adopt(engine_client), token)
        self._app = build_app(engine, without=("/v1/state",))  # vLLM's steps are not counted here

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self._app is not None, "the server answers before its state is set"
        await self._app({**scope, "path": scope["path"].removeprefix(PREFIX)}, receive, send)
