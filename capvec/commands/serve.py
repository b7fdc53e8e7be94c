"""`capvec serve`: an engine that runs until Ctrl-C."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from capvec.cache import cache_root
from capvec.errors import EngineUnavailable
from capvec.plan.options import engine_args_of

EPILOG = "It prints the address and the token to use it with."


def run(options: argparse.Namespace) -> int:
    """Serve until Ctrl-C.

    Raises:
        EngineUnavailable: the engine ended by itself.
    """
    import psutil  # noqa: PLC0415

    from capvec.engines.process import start_engine  # noqa: PLC0415
    from capvec.engines.protocol import TOKEN_VARIABLE  # noqa: PLC0415
    from capvec.engines.selection import choose  # noqa: PLC0415
    from capvec.models import resolve_model  # noqa: PLC0415

    source = resolve_model(options.model)
    choice = choose(options.engine, engine_args_of(options.engine_arg), source.path_or_id)
    log = cache_root() / "engine.log" if options.log is None else Path(options.log)
    log.parent.mkdir(parents=True, exist_ok=True)
    with start_engine(source, log_path=log, choice=choice, port=options.port) as engine:
        print(
            f"serving {source.name} with {choice.in_words}; use it with\n"
            f"  {TOKEN_VARIABLE}={engine.token} pytest … --base-url {engine.url}",
            flush=True,
        )
        # An engine that ended is a zombie until its parent, this process, asks for its status.
        while psutil.Process(engine.pid).status() != psutil.STATUS_ZOMBIE:
            time.sleep(1)
    raise EngineUnavailable(f"the engine ended by itself; {log} says why")
