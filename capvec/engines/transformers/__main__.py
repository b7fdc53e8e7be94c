"""`python -m capvec.engines.transformers`: serve a model on loopback until standard input ends.

It prints its URL in one line of JSON.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor

from capvec.engines.protocol import GenerationDefaults
from capvec.engines.startup import Parent, ReadyLine, bind, parser_of, token_or_exit, url_of
from capvec.errors import CapvecError
from capvec.programs import lasting_imports

MAX_ROWS = 32
"""Replies decoded together."""
PREFIX_BYTES = 1 << 30
"""Memory for reusing the starts of conversations."""


def main() -> int:
    """Serve until standard input ends."""
    options = parser_of("capvec.engines.transformers", __doc__).parse_args()
    token, ready, parent = token_or_exit(), ReadyLine(), Parent()

    # `--help` should not wait for torch.
    with lasting_imports():
        from capvec.engines.connections import server as server_of  # noqa: PLC0415
        from capvec.engines.connections import within_files  # noqa: PLC0415
        from capvec.engines.endpoints import build_app  # noqa: PLC0415
        from capvec.engines.transformers.attention import use_these_sums  # noqa: PLC0415
        from capvec.engines.transformers.models import load_model  # noqa: PLC0415
        from capvec.engines.transformers.scheduler import Scheduler  # noqa: PLC0415
        from capvec.engines.transformers.server import Engine  # noqa: PLC0415

    try:
        listener = bind(options.host, options.port)
        use_these_sums()
        # In a thread that ends: OpenMP's threads that it would leave count too, and where there are more of them than
        # cores, those of the scheduler's thread hardly spin before they sleep. A step then takes half as long again.
        with ThreadPoolExecutor(1) as loading:
            model = loading.submit(
                load_model, options.model, label=options.label, context_length=options.context_length, packed=True
            )
            loaded = model.result()
    except CapvecError as error:
        ready.write(error=str(error))
        return 1
    scheduler = Scheduler(loaded, max_rows=MAX_ROWS, prefix_bytes=PREFIX_BYTES)
    engine = Engine(loaded, scheduler, token, GenerationDefaults.from_json(json.loads(options.defaults)))
    if options.receipts is not None:
        engine.published.record(options.receipts)
    bounds = within_files()
    server = server_of(build_app(engine, bounds), bounds)
    parent.ends(server)
    listener.listen()
    ready.write(url=url_of(listener))
    server.run(sockets=[listener])
    return 0


if __name__ == "__main__":
    sys.exit(main())
