"""`python tests/benchmarks/capture.py`: what batching gives a capture of the bundled contrast, on this machine.

Each batch is timed beside its own conversations one by one, in turn, so that the machine's other work falls on
both. Prints tokens per second of both, their ratio, and the share of padding.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

from capvec.engines.prepared import Prepared, prepare
from capvec.engines.transformers.capture import Limits, capture_batch, plan_batches
from capvec.engines.transformers.loaded import LoadedModel
from capvec.engines.transformers.models import load_model
from capvec.models import bundled_traces, resolve_model
from capvec.traces import read_traces


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--every", type=int, default=1, help="take every n-th trace of the contrast (default: all)")
    parser.add_argument("--budget", type=int, help="positions of a batch (default: what the engine takes)")
    parser.add_argument("--overhead", type=int, help="of a forward pass, in positions (default: the same)")
    options = parser.parse_args()
    source = resolve_model(options.model)
    loaded = load_model(source.path_or_id, context_length=source.context_length)
    traces = read_traces(bundled_traces("same-model"))[:: options.every]
    prepared = [
        prepare(loaded.template, trace.messages, "mean-assistant", trace.id, most=loaded.context_length)
        for trace in traces
    ]
    limits = Limits.of(loaded.device)
    limits = Limits(options.budget or limits.budget, limits.overhead if options.overhead is None else options.overhead)
    batches = plan_batches([len(one.ids) for one in prepared], limits)
    capture_batch(loaded, prepared[:1])  # the first pass warms up
    alone = together = padded = 0.0
    for rows in batches:
        batch = [prepared[row] for row in rows]
        together += timed(loaded, [batch])
        alone += timed(loaded, [[one] for one in batch])
        padded += len(batch) * len(batch[0].ids)
    tokens = sum(len(one.ids) for one in prepared)
    print(f"{source.name} on {loaded.device}, {loaded.dtype}: {len(traces)} traces, {tokens} tokens")
    print(f"one by one: {alone:.1f} s, {tokens / alone:.0f} tokens/s")
    print(f"in {len(batches)} batches within {limits}: {together:.1f} s, {tokens / together:.0f} tokens/s")
    print(f"ratio {alone / together:.2f}; padding {1 - tokens / padded:.1%}")


def timed(loaded: LoadedModel, batches: Sequence[Sequence[Prepared]]) -> float:
    started = time.perf_counter()
    for batch in batches:
        capture_batch(loaded, batch)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
