"""A request that gives its blocks of the cache up for another, and is computed again, is counted once."""

from __future__ import annotations

import pytest
from support.vllm_models import Asked, engine, prompt, save_tiny, vectors

from capvec.steering import Steer

pytestmark = pytest.mark.vllm

BLOCKS, ROWS, PROMPT, NEW = 8, 5, 100, 60
"""Of 128 positions each, and one is vLLM's own: rows that have grown beyond a block do not fit together."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("qwen3"), "qwen3")


@pytest.mark.parametrize(
    "options",
    [
        {"enable_prefix_caching": False},
        {"enable_prefix_caching": True},
        {"pipeline_parallel_size": 2, "distributed_executor_backend": "mp"},
    ],
    ids=["computed anew", "from the prefix cache", "in two stages"],
)
def test_preempted_requests_have_the_tokens_and_receipts_of_those_that_ran_alone(
    folder, options, plugin_found, monkeypatch
):
    monkeypatch.syspath_prepend(plugin_found)
    with engine(folder, num_gpu_blocks_override=BLOCKS, block_size=128, **options) as steered:
        a, b = steered.put(vectors(0)), steered.put(vectors(1))
        steers = (
            (Steer(1, a, 4.0),),
            (Steer(2, a, -3.0, "add", "generated"), Steer(0, b, 2.0, "add", "prompt")),
            (Steer(1, b, 1.0, "ablate"),),
            (),
            (Steer(3, b, 3.0, "set", "all", True), Steer(1, a, 2.0, "add", "assistant")),
        )
        rows = [Asked(prompt(n, PROMPT), steers[n], salt=f"row {n}", assistant=((5, 20),)) for n in range(ROWS)]
        together = steered.run(rows, new=NEW)
        assert any(answer.measured.apart.recomputed for answer in together)
        alone = [
            steered.run([Asked(one.tokens, one.steers, f"{one.salt}, alone", one.assistant)], new=NEW)[0]
            for one in rows
        ]
        for one, other in zip(together, alone, strict=True):
            steered.check(one)
            assert one.tokens == other.tokens
            mine, theirs = one.measured, other.measured
            assert theirs.apart.recomputed == 0
            counts = [[(r.fired, r.forwards, r.passed, r.steered) for r in each.receipts] for each in (mine, theirs)]
            assert counts[0] == counts[1]
            assert mine.isolation.watched == theirs.isolation.watched
