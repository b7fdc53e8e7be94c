"""vLLM's CPU build beside the transformers engine: the same requests, by turns, in one run.

Both engines serve the bundled agent, each in a process of its own, which rests while the other works. All rows are
asked at once over HTTP, each steered at the middle layer, and the receipts of every reply are checked. What is counted
are tokens of the replies a second, from the first request to the last answer. Replies are greedy under a strong steer,
so that both engines write as much as they may, and no two prompts of an engine are alike, so that it finds none in its
cache. It needs the environment of `make test-vllm`.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from statistics import median

import numpy as np
import pytest
import safetensors.numpy
from support.benchmarks import by_turns, ratio
from support.checked import asked

from capvec.engines.process import client_of
from capvec.engines.selection import EngineChoice, cuda_devices
from capvec.engines.vllm import versions
from capvec.models import resolve_model
from capvec.receipts import check_receipts
from capvec.steering import Steer

pytestmark = [
    pytest.mark.bench,
    pytest.mark.vllm,
    pytest.mark.skipif(bool(versions.problem()), reason=versions.problem()),
    pytest.mark.skipif(bool(cuda_devices()), reason="vLLM's CPU build is meant, and a CUDA device is here"),
]

CHOICES = {"vllm": EngineChoice("vllm"), "transformers": EngineChoice()}
SENTENCE = "List the files of this folder, count the lines of each, and say which is the longest. "


def test_vllm_cpu(bench, tmp_path):
    sizes = bench.sizes(
        {"model": "pocket", "rounds": 3, "rows": (1, 8, 32), "repeats": 8, "new": 48},
        {"rounds": 1, "rows": (2,), "repeats": 1, "new": 4},
    )
    source, numbers = resolve_model(sizes.model), count()
    with (
        client_of(source, tmp_path / "vllm.log", CHOICES["vllm"]) as fast,
        client_of(source, tmp_path / "transformers.log", CHOICES["transformers"]) as reference,
    ):
        clients = {"vllm": fast, "transformers": reference}
        layouts = {name: client.health().layout for name, client in clients.items()}
        info = fast.health()
        vectors = np.ones((info.n_layers, info.d_model), dtype=np.float32)
        packed, layer = safetensors.numpy.save({"directions": vectors}), info.n_layers // 2
        (key,) = {client.put_direction(packed).hash for client in clients.values()}
        config = asked([Steer(layer, key, 4.0)], [vectors[layer]])

        def speed(name: str, rows: int) -> float:
            """Tokens of replies a second."""

            def answer(number: int) -> int:
                messages = [{"role": "user", "content": f"{number}. {SENTENCE * sizes.repeats}"}]
                reply = clients[name].complete(
                    messages, seed=number, max_tokens=sizes.new, temperature=0, steers=config.steers
                )
                check_receipts(reply, config, layouts[name])
                return reply.completion_tokens

            started = time.perf_counter()
            with ThreadPoolExecutor(rows) as pool:
                tokens = sum(pool.map(answer, [next(numbers) for _ in range(rows)]))
            return tokens / (time.perf_counter() - started)

        for rows in sizes.rows:
            for name in clients:  # a first time, in which vLLM compiles and both allocate
                speed(name, rows)
            found = by_turns(sizes.rounds, {name: lambda name=name, rows=rows: speed(name, rows) for name in clients})
            times = ratio(found["vllm"], found["transformers"])
            bench.add(
                f"{rows:3} rows: vLLM {median(found['vllm']):6.1f} tokens/s, transformers "
                f"{median(found['transformers']):6.1f}, ratio {times:.2f}",
                rows=rows, vllm=found["vllm"], transformers=found["transformers"], ratio=times,
            )  # fmt: skip
