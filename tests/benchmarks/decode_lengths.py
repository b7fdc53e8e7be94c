"""One long conversation beside many short ones: `python tests/benchmarks/decode_lengths.py`.

Decodes with the bundled agent, rows of unlike length in one padded batch and in batches of their own, in turn. Only
decoding is timed, not the prompts.
"""

from __future__ import annotations

import os
import time
from concurrent.futures import Future
from pathlib import Path
from statistics import median

from capvec.engines.transformers import decode
from capvec.engines.transformers.decode import Decoder, Request
from capvec.engines.transformers.loaded import LoadedModel
from capvec.engines.transformers.models import load_model
from capvec.models import resolve_model

ROUNDS, TOKENS, SHORT = 3, 16, 300
CASES = ((15, 500), (15, 1000), (15, 2000), (15, 6000), (3, 6000))
"""Short rows, and the length of the long one."""


def seconds(loaded: LoadedModel, rows: int, longest: int, waste: int) -> float:
    """For `TOKENS` tokens of every row."""
    decode.WASTE = waste
    decoder = Decoder(loaded, prefix_bytes=0)
    for seed, length in enumerate((longest, *[SHORT] * rows)):
        decoder.add(Request((500,) * length, TOKENS, seed, 0.7), Future())
    decoder.step()  # warm
    started, steps = time.perf_counter(), 0
    while decoder.rows and steps < TOKENS - 3:
        decoder.step()
        steps += 1
    return (time.perf_counter() - started) / steps


def main() -> None:
    loaded = load_model(resolve_model("pocket").path_or_id)
    print(f"{os.cpu_count()} cores, median of {ROUNDS}, seconds for a token of every row: {Path(__file__).name}")
    for rows, longest in CASES:
        pairs = [(seconds(loaded, rows, longest, 10**9), seconds(loaded, rows, longest, 0)) for _ in range(ROUNDS)]
        one, apart = (median(side) for side in zip(*pairs, strict=True))
        ratio, waste = median(left / right for left, right in pairs), rows * (longest - SHORT)
        print(
            f"{rows} rows of {SHORT} and one of {longest}, {waste} positions of padding: one batch {one:.3f} s, "
            f"apart {apart:.3f} s, ratio {ratio:.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
