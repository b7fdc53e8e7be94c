"""Seconds of some replies of the bundled agent: `python -m support.timed_replies REPLIES TOKENS` in one process."""

from __future__ import annotations

import sys
import time
from concurrent.futures import Future


def main(replies: int, tokens: int) -> float:
    """The model already loaded and warm."""
    from capvec.engines.transformers.decode import Decoder, Request
    from capvec.engines.transformers.models import load_model
    from capvec.models import resolve_model

    loaded = load_model(resolve_model("pocket").path_or_id, packed=True)
    prompt = tuple(loaded.render([{"role": "user", "content": "Count the files in the folder. " * 8}], prompt=True))

    def once() -> float:
        decoder, started = Decoder(loaded, prefix_bytes=0), time.monotonic()
        for seed in range(replies):
            decoder.add(Request(prompt, tokens, seed, 0.7), Future())
        while decoder.rows:
            decoder.step()
        return time.monotonic() - started

    once()
    return once()


if __name__ == "__main__":
    print(main(*map(int, sys.argv[1:])))
