"""An engine that is started again, once, where its process ends."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from threading import Event, Lock
from urllib.parse import urlsplit

from capvec.engines.process import RunningEngine, start_engine
from capvec.engines.protocol import ModelSource
from capvec.engines.selection import EngineChoice
from capvec.errors import EngineUnavailable, UsageError


class SupervisedEngine:
    """Serves one model, at one address and with one token, through the death of one process."""

    def __init__(self, source: ModelSource, log_path: Path, choice: EngineChoice | None = None) -> None:
        """Start the engine.

        Args:
            source: the model.
            log_path: file to which the engine's output is appended.
            choice: which engine; transformers if absent.

        Raises:
            UsageError: the model cannot be loaded.
            EngineUnavailable: the process ended, or was not ready in time.
        """
        self._source, self._log_path, self._choice = source, log_path, choice
        self._processes, self._lock, self._closed = ExitStack(), Lock(), Event()
        began = time.monotonic()
        self._running = self._start()
        self.start_s = time.monotonic() - began
        """Seconds that the start took."""
        self.url, self.token = self._running.url, self._running.token
        self._revived = False

    @property
    def ended(self) -> bool:
        """Whether the process has ended."""
        return self._running.process.poll() is not None

    def revive(self) -> None:
        """Start the engine again if its process has ended.

        Raises:
            EngineUnavailable: this is its second end, or it does not start.
        """
        with self._lock:
            if not self.ended or self._closed.is_set():
                return
            code = self._running.process.returncode
            if self._revived:
                raise EngineUnavailable(
                    f"the engine ended twice, at last with exit code {code}; {self._log_path} has what it said"
                )
            self._revived = True
            try:
                self._running = self._start(urlsplit(self.url).port or 0, self.token)
            except UsageError as error:
                raise EngineUnavailable(f"the engine ended with exit code {code}, and cannot start: {error}") from error

    def close(self) -> None:
        """End the engine."""
        self._closed.set()
        with self._lock:
            self._processes.close()

    def _start(self, port: int = 0, token: str = "") -> RunningEngine:
        self._processes.close()
        started = start_engine(
            self._source,
            log_path=self._log_path,
            choice=self._choice,
            port=port,
            token=token,
            cancelled=self._closed,
        )
        return self._processes.enter_context(started)
