"""`python -m capvec.engines.vllm`: serve a model with vLLM on loopback until standard input ends.

It prints its URL in one line of JSON, and ends with exit code 3 where vLLM's processes died or stand still.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys

from capvec.engines.protocol import GenerationDefaults
from capvec.engines.startup import Parent, ReadyLine, bind, parser_of, token_or_exit, url_of
from capvec.engines.vllm.environment import set_variables
from capvec.engines.vllm.forked import import_ahead
from capvec.engines.vllm.health import trouble
from capvec.errors import CapvecError

BROKEN = 3
"""Exit code."""
ANSWERED_S = 2.0
"""Seconds in which requests are still told that vLLM died."""


def main() -> int:
    """Serve until standard input ends."""
    parser = parser_of("capvec.engines.vllm", __doc__)
    parser.add_argument("--args", default="{}", help="JSON: arguments of vLLM's engine")
    options = parser.parse_args()
    token, ready, parent = token_or_exit(), ReadyLine(), Parent()
    return asyncio.run(_serve(options, token, ready, parent))


async def _serve(options: argparse.Namespace, token: str, ready: ReadyLine, parent: Parent) -> int:
    set_variables()
    import_ahead()

    # After its variables are set; `--help` should not wait for it either.
    from capvec.engines.connections import server as server_of  # noqa: PLC0415
    from capvec.engines.connections import within_files  # noqa: PLC0415
    from capvec.engines.endpoints import build_app  # noqa: PLC0415
    from capvec.engines.vllm.engine import load  # noqa: PLC0415
    from capvec.engines.vllm.server import Engine  # noqa: PLC0415

    try:
        listener = bind(options.host, options.port)
        served = await load(
            options.model,
            label=options.label,
            context_length=options.context_length,
            defaults=GenerationDefaults.from_json(json.loads(options.defaults)),
            arguments=json.loads(options.args),
        )
    except CapvecError as error:
        ready.write(error=str(error))
        return 1
    engine = Engine(served, token)
    if options.receipts is not None:
        engine.published.record(options.receipts)
    bounds = within_files()
    server = server_of(build_app(engine, bounds), bounds)
    parent.ends(server)
    listener.listen()
    ready.write(url=url_of(listener))
    serving = asyncio.ensure_future(server.serve(sockets=[listener]))
    why = await trouble(serving, engine)
    if why:
        print(f"the engine ends: {why}", file=sys.stderr, flush=True)
        server.should_exit = True
        await asyncio.wait({serving}, timeout=ANSWERED_S)
    served.llm.shutdown()
    return BROKEN if why else 0


if __name__ == "__main__":
    sys.exit(main())
