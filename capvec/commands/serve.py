"""`capvec serve`: an engine that stands until Ctrl-C."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from capvec.cache import cache_root
from capvec.commands.shared import MODEL_HELP
from capvec.errors import EngineUnavailable


def add(commands: Any) -> None:
    """Describe the command."""
    parser = commands.add_parser("serve", help="run the engine until Ctrl-C, for --base-url")
    parser.add_argument("--model", default="pocket", help=f"{MODEL_HELP} (default: pocket)")
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    parser.add_argument("--log", type=Path, help="takes what it prints (default: engine.log in capvec's cache folder)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Serve; ends by Ctrl-C, or with the engine, which is an error."""
    import psutil  # noqa: PLC0415

    from capvec.engines.process import start_engine  # noqa: PLC0415
    from capvec.engines.protocol import TOKEN_VARIABLE  # noqa: PLC0415
    from capvec.models import resolve_model  # noqa: PLC0415

    source = resolve_model(options.model)
    log = options.log or cache_root() / "engine.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with start_engine(source, log_path=log, port=options.port) as engine:
        print(
            f"serving {source.name}; use it with\n  {TOKEN_VARIABLE}={engine.token} pytest … --base-url {engine.url}",
            flush=True,
        )
        # An engine that died is a zombie until its parent, which is us, asks.
        while psutil.Process(engine.pid).status() != psutil.STATUS_ZOMBIE:
            time.sleep(1)
    raise EngineUnavailable(f"the engine ended by itself; {log} says why")
