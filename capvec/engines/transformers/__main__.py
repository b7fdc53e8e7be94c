"""`python -m capvec.engines.transformers`: serve a model on loopback until standard input ends.

It prints its URL in one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
import threading

from capvec.engines.protocol import TOKEN_VARIABLE, GenerationDefaults
from capvec.errors import CapvecError

MAX_ROWS = 32
"""Replies decoded together."""
PREFIX_BYTES = 1 << 30
"""Memory for reusing the starts of conversations."""


def main() -> int:
    """Serve until standard input ends, so that the engine cannot outlive the process that started it."""
    options = _parser().parse_args()
    token = os.environ.get(TOKEN_VARIABLE)
    if not token:
        print(f"{TOKEN_VARIABLE} is not set; the engine requires a token", file=sys.stderr)
        return 2
    # Standard output is for the ready line; what libraries print goes to the log.
    ready, sys.stdout = sys.stdout, sys.stderr

    # `--help` should not wait for torch.
    from capvec.engines.serving import server as server_of  # noqa: PLC0415
    from capvec.engines.serving import within_files  # noqa: PLC0415
    from capvec.engines.transformers.models import load_model  # noqa: PLC0415
    from capvec.engines.transformers.scheduler import Scheduler  # noqa: PLC0415
    from capvec.engines.transformers.server import Engine, build_app  # noqa: PLC0415

    try:
        loaded = load_model(options.model, label=options.label, context_length=options.context_length)
    except CapvecError as error:
        print(json.dumps({"error": str(error)}), file=ready, flush=True)
        return 1
    scheduler = Scheduler(loaded, max_rows=MAX_ROWS, prefix_bytes=PREFIX_BYTES)
    listener = socket.create_server(("127.0.0.1", options.port))
    bounds = within_files()
    app = build_app(
        Engine(loaded, scheduler, token, defaults=GenerationDefaults.from_json(json.loads(options.defaults))), bounds
    )
    server = server_of(app, bounds)

    def end_with_parent() -> None:
        sys.stdin.buffer.read()
        server.should_exit = True

    threading.Thread(target=end_with_parent, daemon=True).start()
    print(json.dumps({"url": f"http://127.0.0.1:{listener.getsockname()[1]}"}), file=ready, flush=True)
    server.run(sockets=[listener])
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m capvec.engines.transformers", description=__doc__)
    add = parser.add_argument
    add("--model", required=True, help="a folder or a Hugging Face id")
    add("--label", help="what reports call the model (default: the same)")
    add("--context-length", type=int, help="overrides the config's")
    add("--defaults", default="{}", help="JSON: the model's `GenerationDefaults`")
    add("--port", type=int, default=0, help="default: a free one")
    return parser


if __name__ == "__main__":
    sys.exit(main())
