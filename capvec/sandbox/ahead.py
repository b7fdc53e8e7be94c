"""Opens what is needed next before its turn, and closes what was used after its turn, in threads of its own."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from threading import Lock
from typing import Generic, Protocol, TypeVar

from capvec.errors import CapvecError


class Checked(Protocol):
    """What may be gone by the time that its turn comes."""

    def check(self) -> None:
        """Raise a `CapvecError` if it is gone."""
        ...


K = TypeVar("K", bound=Hashable)
S = TypeVar("S", bound=Checked)
Opener = Callable[[], AbstractContextManager[S]]


class Ahead(Generic[K, S]):
    """Opens contexts ahead, and closes them behind. What fails ahead is opened anew in its turn."""

    def __init__(self, at_most: int) -> None:
        """Let so many wait for their turn, and as many be about to close; with 0, everything is done in its turn."""
        self._at_most, self._lock, self._closed = at_most, Lock(), False
        self._waiting: dict[K, Future[tuple[S, ExitStack]]] = {}
        self._closing: set[Future[None]] = set()
        self._pool = ThreadPoolExecutor(2 * at_most or 1, thread_name_prefix="ahead")

    def expect(self, key: K, opener: Opener[S], *, only_if: Callable[[], bool]) -> None:
        """Begin to open a context if it may wait. Where too many wait already, the one that waits longest is closed."""
        with self._lock:
            if self._closed or not self._at_most or key in self._waiting:
                return
            while len(self._waiting) >= self._at_most:
                self._discard(self._waiting.pop(next(iter(self._waiting))))
            with suppress(RuntimeError):  # there are no more threads
                self._waiting[key] = self._pool.submit(_opened, opener, only_if)

    @contextmanager
    def open(self, key: K, opener: Opener[S]) -> Iterator[S]:
        """The context that was expected under this key, if it is still as it was opened, or else a new one.

        It is closed behind; after a fault, which it may turn into another one, at once.
        """
        with ExitStack() as stack:
            found = self._take(key, stack)
            yield stack.enter_context(opener()) if found is None else found
            behind = stack.pop_all()
        self._close_behind(behind)

    def close(self) -> None:
        """Close what waits, and come back when all is closed. Nothing is opened ahead any more."""
        with self._lock:
            self._closed = True
            while self._waiting:
                self._discard(self._waiting.popitem()[1])
        self._pool.shutdown()

    def _take(self, key: K, stack: ExitStack) -> S | None:
        """What was expected, from now on closed with the stack; None if it is not there, or no longer as it was."""
        with self._lock:
            future = self._waiting.pop(key, None)
        if future is None:
            return None
        try:
            value, opened = future.result()
        except Exception:  # whatever it was, it is met again in its turn
            return None
        except BaseException:  # this thread is to stop
            self._discard(future)
            raise
        stack.push(opened)
        try:
            value.check()
        except CapvecError:
            self._end(stack.pop_all().close)
            return None
        return value

    def _close_behind(self, stack: ExitStack) -> None:
        if not self._at_most:
            stack.close()
            return
        while True:
            with self._lock:
                self._closing = {one for one in self._closing if not one.done()}
                if len(self._closing) < self._at_most:
                    self._end(stack.close)
                    return
            wait(self._closing, return_when=FIRST_COMPLETED)

    def _discard(self, future: Future[tuple[S, ExitStack]]) -> None:
        def close() -> None:
            future.result()[1].close()

        self._end(close)

    def _end(self, close: Callable[[], None]) -> None:
        """Close something in another thread. What cannot be removed now is removed by the next run, which says so."""
        try:
            self._closing.add(self._pool.submit(close))
        except RuntimeError:  # there are no more threads, or `close` was called
            close()


class _MayNotWaitError(Exception):
    """A context is to be opened in its turn."""


def _opened(opener: Opener[S], only_if: Callable[[], bool]) -> tuple[S, ExitStack]:
    if not only_if():
        raise _MayNotWaitError
    with ExitStack() as stack:
        value = stack.enter_context(opener())
        return value, stack.pop_all()
