"""The engine's memory after many requests at once.

Sends different conversations to an engine at once, each over a connection of its own, and says the memory of its
process before, at its highest, right after the last reply, and when the engine has been idle for longer than `IDLE_S`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psutil
import pytest

from capvec.engines.client import EngineClient
from capvec.engines.process import RunningEngine, start_engine
from capvec.engines.protocol import ModelSource

pytestmark = pytest.mark.bench


class Meter:
    """The memory of a process, in MB, and its highest value."""

    def __init__(self, pid: int) -> None:
        self._process, self.highest = psutil.Process(pid), 0.0

    def now(self) -> float:
        used: float = self._process.memory_info().rss / 1e6
        self.highest = max(self.highest, used)
        return used

    @contextmanager
    def watching(self) -> Iterator[None]:
        over = threading.Event()

        def watch() -> None:
            while not over.wait(0.1):
                self.now()

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def ask(engine: RunningEngine, number: int, words: int) -> None:
    with EngineClient(engine.url, engine.token) as client:
        talk = [{"role": "user", "content": f"{number} " + "x y z " * words}]
        client.complete(talk, seed=number, max_tokens=4, temperature=1.0)


@pytest.mark.usefixtures("torch")
def test_engine_memory(bench, tmp_path):
    from support.tiny_models import save_tiny

    sizes = bench.sizes({"requests": 1000, "words": 100, "idle": 65.0}, {"requests": 12, "words": 10, "idle": 0.5})
    source = ModelSource(str(save_tiny(tmp_path / "model", "llama")), "tiny")
    with start_engine(source, log_path=tmp_path / "log") as engine:
        ask(engine, 0, sizes.words)
        meter = Meter(engine.pid)

        def note(when: str, used: float) -> None:
            bench.add(f"{when}: {used:.0f} MB", when=when, mb=used)

        note("before", meter.now())
        started = time.monotonic()
        with meter.watching(), ThreadPoolExecutor(sizes.requests) as pool:
            list(pool.map(lambda number: ask(engine, number, sizes.words), range(1, sizes.requests + 1)))
        note(f"highest, {sizes.requests} requests in {time.monotonic() - started:.0f} s", meter.highest)
        note("after the last reply", meter.now())
        time.sleep(sizes.idle)
        note(f"after {sizes.idle:g} s without work", meter.now())
