"""What batching gives a capture of the bundled contrast.

Each batch is timed beside its own conversations one by one, in turn, so that the machine's other work falls on both.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest

from capvec.engines.prepared import Prepared, prepare
from capvec.models import bundled_traces, resolve_model
from capvec.traces import read_traces

pytestmark = pytest.mark.bench


@pytest.mark.usefixtures("torch")
def test_capture(bench):
    from capvec.engines.transformers.capture import Limits, capture_batch, plan_batches
    from capvec.engines.transformers.models import load_model

    sizes = bench.sizes({"model": "pocket", "every": 1, "budget": 0, "overhead": -1}, {"every": 60})
    source = resolve_model(sizes.model)
    loaded = load_model(source.path_or_id, context_length=source.context_length)
    traces = read_traces(bundled_traces("same-model"))[:: sizes.every]
    prepared = [
        prepare(loaded.template, trace.messages, "mean-assistant", trace.id, most=loaded.context_length)
        for trace in traces
    ]
    limits = Limits.of(loaded.device)
    limits = Limits(sizes.budget or limits.budget, limits.overhead if sizes.overhead < 0 else sizes.overhead)
    batches = plan_batches([len(one.ids) for one in prepared], limits)

    def seconds(batches: Sequence[Sequence[Prepared]]) -> float:
        started = time.perf_counter()
        for batch in batches:
            capture_batch(loaded, batch)
        return time.perf_counter() - started

    seconds([prepared[:1]])  # the first pass warms up
    alone = together = padded = 0.0
    for rows in batches:
        batch = [prepared[row] for row in rows]
        together += seconds([batch])
        alone += seconds([[one] for one in batch])
        padded += len(batch) * len(batch[0].ids)
    tokens = sum(len(one.ids) for one in prepared)
    bench.say(f"{source.name} on {loaded.device}, {loaded.dtype}: {len(traces)} traces, {tokens} tokens")
    for kind, took in (("one by one", alone), (f"in {len(batches)} batches within {limits}", together)):
        bench.add(f"{kind}: {took:.1f} s, {tokens / took:.0f} tokens/s", kind=kind, seconds=took, tokens=tokens)
    padding = 1 - tokens / padded
    bench.add(f"ratio {alone / together:.2f}; padding {padding:.1%}", ratio=alone / together, padding=padding)
