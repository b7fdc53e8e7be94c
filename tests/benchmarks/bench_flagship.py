"""What steering and capture cost at the flagship's size on a GPU.

Qwen3.5-4B's shape with random weights in bfloat16. Decoding: rows unsteered and each with a steer of its own, in turn;
the fastest of the rounds, since the host's load only ever adds. Capture: conversations pooled by hooks, against the
plain forward pass and against `output_hidden_states`; medians. After a warm-up each.
"""

from __future__ import annotations

import time
from concurrent.futures import Future
from statistics import median

import pytest
from support.benchmarks import by_turns, read_bandwidth
from support.flagship import LAYERS, WIDTH, build_flagship

from capvec.steering import Steer

pytestmark = [pytest.mark.bench, pytest.mark.gpu]

STEERS = {
    "none": (),
    "add": (Steer(22, "d", 1.0),),
    "ablate": (Steer(22, "d", 1.0, "ablate"),),
    "set, norm kept": (Steer(22, "d", 1.0, "set", "all", True),),
    "add at 4 layers": tuple(Steer(layer, "d", 1.0) for layer in (8, 16, 22, 30)),
}


@pytest.fixture(scope="module")
def loaded(cuda):  # noqa: ARG001 (it skips where there is none)
    return build_flagship()


def test_flagship_capture(bench, cuda, torch, loaded):
    from capvec.engines.transformers.hooks import record

    sizes = bench.sizes({"rounds": 3, "rows": 8, "length": 2048}, {"rounds": 1, "rows": 2, "length": 256})
    peaks: dict[str, float] = {}

    @torch.inference_mode()
    def forward(kind: str) -> float:
        """Seconds of one pass; `peaks` gets the peak of memory in GiB above what is allocated before it."""
        ids = torch.randint(1000, (sizes.rows, sizes.length), device="cuda")
        chosen = torch.zeros(ids.shape, dtype=torch.bool, device="cuda")
        chosen[:, -64:] = True
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before, started = torch.cuda.memory_allocated(), time.perf_counter()
        if kind == "pooled by hooks":
            with record(loaded.path, chosen):
                loaded.model(input_ids=ids, use_cache=False, logits_to_keep=1)
        else:
            hidden = kind == "output_hidden_states"
            loaded.model(input_ids=ids, use_cache=False, logits_to_keep=1, output_hidden_states=hidden)
        torch.cuda.synchronize()
        seconds = time.perf_counter() - started
        peaks[kind] = max(peaks.get(kind, 0.0), (torch.cuda.max_memory_allocated() - before) / 2**30)
        return seconds

    sides = {kind: lambda kind=kind: forward(kind) for kind in ("plain", "pooled by hooks", "output_hidden_states")}
    by_turns(1, sides)
    found = by_turns(sizes.rounds, sides)
    bench.say(f"{cuda}, torch {torch.__version__}, {LAYERS} layers of width {WIDTH}, bfloat16")
    for kind, seconds in found.items():
        share, speed = median(seconds) / median(found["plain"]), sizes.rows * sizes.length / median(seconds)
        bench.add(
            f"capture, {kind}: {speed:.0f} tokens/s, {share:.2f} of plain, {peaks[kind]:.2f} GiB",
            kind=kind, seconds=seconds, gib=peaks[kind], ratio=share,
        )  # fmt: skip


def test_flagship_decode(bench, cuda, torch, loaded):
    from capvec.engines.transformers.decode import Decoder, Request

    sizes = bench.sizes(
        {"rounds": 8, "rows": (1, 8), "prompt": 512, "new": 32}, {"rounds": 1, "rows": (1,), "prompt": 32, "new": 4}
    )

    def decode(steers: tuple[Steer, ...], rows: int) -> float:
        """Seconds of a step, the prompts already computed."""
        generator = torch.Generator().manual_seed(0)
        vectors = tuple(torch.randn(WIDTH, generator=generator).cuda() for _ in steers)
        decoder = Decoder(loaded, prefix_bytes=0)
        for row in range(rows):
            tokens = tuple(torch.randint(1000, (sizes.prompt,), generator=generator).tolist())
            decoder.add(Request(tokens, sizes.new, row, 0.7, (), steers, vectors), Future())
        torch.cuda.synchronize()
        started, steps = time.perf_counter(), 0
        while decoder.rows:
            decoder.step()
            steps += 1
        torch.cuda.synchronize()
        return (time.perf_counter() - started) / steps

    weights = sum(value.numel() * value.element_size() for value in loaded.model.parameters())
    bound = weights / read_bandwidth("cuda", 2048)
    bench.say(f"{cuda}: {weights / 1e9:.1f} GB of weights, read once in {1000 * bound:.2f} ms")
    for rows in sizes.rows:
        sides = {name: lambda steers=steers, rows=rows: decode(steers, rows) for name, steers in STEERS.items()}
        by_turns(1, sides)
        found = by_turns(sizes.rounds, sides)
        for name, seconds in found.items():
            step, share = min(seconds), min(seconds) / min(found["none"])
            bench.add(
                f"decode, {rows} rows, {name}: {1000 * step:.1f} ms a step, {rows / step:.0f} tokens/s, {share:.2f} of "
                "unsteered",
                rows=rows, steer=name, seconds=seconds, ratio=share, bound_s=bound,
            )  # fmt: skip
