"""How the engine's threads wait where the cores have other work: `python tests/benchmarks/wait_policy.py`.

Decodes four replies with the bundled agent in processes of their own, with OpenMP's default (spinning) and with
OMP_WAIT_POLICY=PASSIVE (sleeping) in turn, first alone and then beside as many busy loops as there are cores.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from statistics import median

ROUNDS, REPLIES, TOKENS = 3, 4, 40


def decode() -> float:
    """Seconds for the replies, the model already loaded and warm."""
    import time
    from concurrent.futures import Future

    from capvec.engines.transformers.decode import Decoder, Request
    from capvec.engines.transformers.models import load_model
    from capvec.models import resolve_model

    loaded = load_model(resolve_model("pocket").path_or_id)
    prompt = tuple(loaded.render([{"role": "user", "content": "Count the files in the folder. " * 8}], prompt=True))

    def once() -> float:
        decoder, started = Decoder(loaded, prefix_bytes=0), time.monotonic()
        for seed in range(REPLIES):
            decoder.add(Request(prompt, TOKENS, seed, 0.7), Future())
        while decoder.rows:
            decoder.step()
        return time.monotonic() - started

    once()
    return once()


def measure(policy: str | None) -> float:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {"OMP_WAIT_POLICY": policy} if policy else {}
    command = (sys.executable, __file__, "--decode")
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    return float(done.stdout)


def compare(busy: int) -> None:
    with ExitStack() as stack:
        for _ in range(busy):
            loop = stack.enter_context(subprocess.Popen((sys.executable, "-c", "while True: pass")))
            stack.callback(loop.kill)
        pairs = [(measure(None), measure("PASSIVE")) for _ in range(ROUNDS)]
    default, passive = (median(side) for side in zip(*pairs, strict=True))
    ratio = median(left / right for left, right in pairs)
    print(f"{busy} busy loops: default {default:.2f} s, passive {passive:.2f} s, ratio {ratio:.1f}", flush=True)


if __name__ == "__main__":
    if "--decode" in sys.argv:
        print(decode())
    else:
        print(
            f"{os.cpu_count()} cores, {REPLIES} replies of {TOKENS} tokens, median of {ROUNDS}: {Path(__file__).name}"
        )
        compare(0)
        compare(os.cpu_count() or 1)
