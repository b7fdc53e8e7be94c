"""What steering and capture cost at the flagship's size on a GPU: `python tests/benchmarks/flagship_gpu.py`.

Qwen3.5-4B's shape with random weights in bfloat16. Decoding: 512-token prompts, 32 new tokens, rows unsteered and each
with a steer of its own, in turn; the fastest of eight rounds, since the host's load only ever adds. Capture: 8
conversations of 2,048 tokens, pooled by hooks, against the plain forward pass and against `output_hidden_states`;
medians of three. After a warm-up each.
"""

from __future__ import annotations

import sys
import time
from concurrent.futures import Future
from pathlib import Path
from statistics import median

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from support.flagship import LAYERS, WIDTH, build_flagship

from capvec.engines.transformers.decode import Decoder, Request
from capvec.engines.transformers.hooks import record
from capvec.steering import Steer

PASSES, ROUNDS, PROMPT, NEW = 3, 8, 512, 32
STEERS = {
    "none": (),
    "add": (Steer(22, "d", 1.0),),
    "ablate": (Steer(22, "d", 1.0, "ablate"),),
    "set, norm kept": (Steer(22, "d", 1.0, "set", "all", True),),
    "add at 4 layers": tuple(Steer(layer, "d", 1.0) for layer in (8, 16, 22, 30)),
}


def decode(loaded, steers, rows):
    """Seconds a decode step, the prompts already computed."""
    generator = torch.Generator().manual_seed(0)
    vectors = tuple(torch.randn(WIDTH, generator=generator).cuda() for _ in steers)
    decoder = Decoder(loaded, prefix_bytes=0)
    for row in range(rows):
        tokens = tuple(torch.randint(1000, (PROMPT,), generator=generator).tolist())
        decoder.add(Request(tokens, NEW, row, 0.7, (), steers, vectors), Future())
    torch.cuda.synchronize()
    started = time.perf_counter()
    steps = 0
    while decoder.rows:
        decoder.step()
        steps += 1
    torch.cuda.synchronize()
    return (time.perf_counter() - started) / steps


@torch.inference_mode()
def forward(loaded, kind, rows=8, length=2048):
    """Seconds, and the peak of memory in GiB above what is allocated before, of one pass."""
    ids = torch.randint(1000, (rows, length), device="cuda")
    chosen = torch.zeros(rows, length, dtype=torch.bool, device="cuda")
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
    return time.perf_counter() - started, (torch.cuda.max_memory_allocated() - before) / 2**30


def main():
    loaded = build_flagship()
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {LAYERS} layers of width {WIDTH}, bfloat16")
    kinds = ("plain", "pooled by hooks", "output_hidden_states")
    passes = {kind: [forward(loaded, kind) for _ in range(PASSES + 1)][1:] for kind in kinds}
    plain = median(seconds for seconds, _ in passes["plain"])
    for kind, runs in passes.items():
        seconds, peak = median(second for second, _ in runs), max(gib for _, gib in runs)
        print(
            f"capture, 8 × 2048 tokens, {kind}: {8 * 2048 / seconds:.0f} tokens/s, {seconds / plain:.2f} of plain, "
            f"{peak:.2f} GiB"
        )
    for rows in (1, 8):
        times = {name: [] for name in STEERS}
        for turn in range(ROUNDS + 1):
            for name, steers in STEERS.items():
                seconds = decode(loaded, steers, rows)
                if turn:
                    times[name].append(seconds)
        plain = min(times["none"])
        for name, seconds in times.items():
            step = min(seconds)
            print(
                f"decode, {rows} rows, {name}: {1000 * step:.1f} ms a step, {rows / step:.0f} tokens/s, "
                f"{step / plain:.2f} of unsteered",
                flush=True,
            )


if __name__ == "__main__":
    main()
