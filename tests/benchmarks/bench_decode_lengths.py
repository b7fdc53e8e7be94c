"""One long conversation beside many short ones, decoded by the bundled agent.

Rows of unlike length in one padded batch and in batches of their own, in turn. Only decoding is timed, not the prompts.
"""

from __future__ import annotations

import time
from concurrent.futures import Future
from statistics import median

import pytest
from support.benchmarks import by_turns, ratio

from capvec.models import resolve_model

pytestmark = pytest.mark.bench


@pytest.mark.usefixtures("torch")
def test_decode_lengths(bench, monkeypatch):
    from capvec.engines.transformers import decode
    from capvec.engines.transformers.decode import Decoder, Request
    from capvec.engines.transformers.models import load_model

    sizes = bench.sizes(
        {
            "rounds": 3,
            "tokens": 16,
            "short": 300,
            "rows": (15, 15, 15, 15, 3),
            "longest": (500, 1000, 2000, 6000, 6000),
        },
        {"rounds": 1, "tokens": 5, "short": 30, "rows": (3,), "longest": (200,)},
    )
    loaded = load_model(resolve_model("pocket").path_or_id, packed=True)

    def seconds(rows: int, longest: int, waste: int) -> float:
        """For a token of every row."""
        monkeypatch.setattr(decode, "WASTE", waste)
        decoder = Decoder(loaded, prefix_bytes=0)
        for seed, length in enumerate((longest, *[sizes.short] * rows)):
            decoder.add(Request((500,) * length, sizes.tokens, seed, 0.7), Future())
        decoder.step()  # warm
        started, steps = time.perf_counter(), 0
        while decoder.rows and steps < sizes.tokens - 3:
            decoder.step()
            steps += 1
        return (time.perf_counter() - started) / steps

    for rows, longest in zip(sizes.rows, sizes.longest, strict=True):
        sides = {
            "one batch": lambda rows=rows, longest=longest: seconds(rows, longest, 10**9),
            "apart": lambda rows=rows, longest=longest: seconds(rows, longest, 0),
        }
        found = by_turns(sizes.rounds, sides)
        padding = rows * (longest - sizes.short)
        one, apart, gain = median(found["one batch"]), median(found["apart"]), ratio(*found.values())
        bench.add(
            f"{rows} rows of {sizes.short} and one of {longest}, {padding} of padding: one batch "
            f"{one:.3f} s, apart {apart:.3f} s a token of every row, ratio {gain:.2f}",
            rows=rows, short=sizes.short, longest=longest, one_batch_s=found["one batch"], apart_s=found["apart"],
            ratio=gain,
        )  # fmt: skip
