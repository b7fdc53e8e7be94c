"""The only thread that uses the model: it accepts requests and advances the batch."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from capvec.engines.transformers.caches import give_back_memory
from capvec.engines.transformers.decode import Decoder, Request, answer, fail
from capvec.engines.transformers.loaded import LoadedModel
from capvec.errors import EngineUnavailable
from capvec.records import Reply

T = TypeVar("T")
Job = Callable[[], None]
IDLE_S = 60.0
"""Seconds without work after which memory is given back. Most commands of an agent take less, and the start of its
conversation is used again after them."""


class Scheduler:
    """Runs requests and other work on the model from one thread, because models keep state between calls."""

    def __init__(self, loaded: LoadedModel, *, max_rows: int, prefix_bytes: int, idle_s: float = IDLE_S) -> None:
        self._decoder = Decoder(loaded, prefix_bytes=prefix_bytes)
        self._max_rows = max_rows
        self._idle_s = idle_s
        self._jobs: queue.Queue[Job | None] = queue.Queue()
        self._step_is_due = False
        self.steps = 0
        """Steps and other jobs done so far."""
        self._thread = threading.Thread(target=self._run, name="decoder", daemon=True)
        self._thread.start()

    def generate(self, request: Request) -> Future[Reply]:
        """Queue a request; its future holds the reply."""
        result: Future[Reply] = Future()
        self._put(lambda: self._decoder.add(request, result), result)
        return result

    def call(self, work: Callable[[], T]) -> Future[T]:
        """Queue other work on the model, such as a capture. Replies wait while it runs and advance before the next."""
        result: Future[T] = Future()

        def job() -> None:
            if not result.set_running_or_notify_cancel():
                return
            self._step_is_due = True
            try:
                answer(result, work())
            except Exception as error:  # for the caller
                fail(result, error)

        self._put(job, result)
        return result

    def close(self) -> None:
        """End the thread after the current work."""
        self._jobs.put(None)
        self._thread.join()

    def _put(self, job: Job, result: Future[Any]) -> None:
        if not self._thread.is_alive():
            result.set_exception(EngineUnavailable("the decoding thread has ended"))
        else:
            self._jobs.put(job)

    def _run(self) -> None:
        while True:
            while self._decoder.rows < self._max_rows and not self._step_is_due:
                try:
                    job = self._jobs.get_nowait() if self._decoder.rows else self._wait()
                except queue.Empty:
                    break
                if job is None:
                    return
                job()
                del job  # and with it the request
            self._step_is_due = False
            self._decoder.step()
            self.steps += 1

    def _wait(self) -> Job | None:
        """The next job; memory is given back if there is none for a while."""
        try:
            return self._jobs.get(timeout=self._idle_s)
        except queue.Empty:
            self._decoder.forget()
            give_back_memory()
            return self._jobs.get()
