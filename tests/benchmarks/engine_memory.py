"""The engine's memory after many requests at once: `python tests/benchmarks/engine_memory.py [--requests N]`.

Sends N different conversations to an engine at once, each over a connection of its own, and prints the memory of its
process before, at its highest, right after the last reply, and when the engine has been idle for `IDLE_S`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.tiny_models import save_tiny

from capvec.engines.client import EngineClient
from capvec.engines.process import RunningEngine, start_engine
from capvec.engines.protocol import ModelSource


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


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--words", type=int, default=100)
    parser.add_argument("--idle", type=float, default=65.0, help="seconds; more than the engine's IDLE_S")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = ModelSource(str(save_tiny(Path(folder) / "model", "llama")), "tiny")
        with start_engine(source, log_path=Path(folder) / "log") as engine:
            ask(engine, 0, options.words)
            meter = Meter(engine.pid)
            print(f"before: {meter.now():.0f} MB", flush=True)
            started = time.monotonic()
            with meter.watching(), ThreadPoolExecutor(options.requests) as pool:
                list(pool.map(lambda number: ask(engine, number, options.words), range(1, options.requests + 1)))
            seconds = time.monotonic() - started
            print(f"{options.requests} requests in {seconds:.0f} s, highest: {meter.highest:.0f} MB", flush=True)
            print(f"after the last reply: {meter.now():.0f} MB", flush=True)
            time.sleep(options.idle)
            print(f"after {options.idle:.0f} s without work: {meter.now():.0f} MB", flush=True)


if __name__ == "__main__":
    main()
