"""Ctrl-C, SIGTERM and SIGHUP: the first one stops this process, and those that follow let it finish its work.

What has begun to stop removes containers, ends its engine and writes its reports. A second Ctrl-C in the midst of that
would leave half of it, so it is ignored for `PATIENCE_S`.

Python runs a handler in the main thread, but the system may give the signal to any thread (libraries of linear algebra
have some), and then a wait of the main thread goes on as if none had come. One more thread sees to it that it ends.

A handler may run anywhere, also in a finalizer or a callback from C, where Python drops an exception, and so may code
that catches everything. An exception that was dropped is gone, and one that stops the process is held by what it passes
through. So a stop that is gone and has not arrived is sent again.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType

PATIENCE_S = 60.0
"""Seconds for the work that is left. After these, a signal stops the process once more."""
HEED_S = 0.1
"""Seconds until the main thread is woken for a signal that it has not heeded."""
_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(KeyboardInterrupt):
    """The process was told to stop."""

    def __init__(self, number: int) -> None:
        """Take the signal's number."""
        super().__init__(f"{signal.Signals(number).name}, so the run stops")
        self.number = number


def exit_code(stop: KeyboardInterrupt) -> int:
    """128 and the number of the signal, as a shell has it: 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP."""
    return 128 + (stop.number if isinstance(stop, Stopped) else signal.SIGINT)


@dataclass
class _State:
    """Of this process, since signals are the process's too."""

    since: float | None = None
    """When the first signal came, on the monotonic clock."""
    shields: int = 0
    """Blocks of `finishing` that are under way."""
    held: int | None = None
    """The signal that came in one of them."""
    raised: weakref.ref[Stopped] | None = None
    """The last stop, while something holds it."""
    arrived: bool = False
    """Whether it came to where the process ends for it."""
    terminals: frozenset[int] = frozenset()
    """The devices of the terminals that it was started on."""
    nowhere: int = -1
    """The null device, opened beforehand for a process that is out of descriptors."""
    continued: int = 0
    """Changes whenever it is continued after a stop."""
    heeded: int = 0
    """Signals that the main thread took."""
    waking: bool = False
    """Whether a thread sees to it that it takes them."""


_state = _State()


@contextmanager
def stopping_on_signals() -> Iterator[None]:
    """Raise `Stopped` at the first of these signals; one that is ignored (`nohup`) stays ignored.

    Once a signal came, the handlers stay, so that one more does no harm while the interpreter ends.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread can take signals
        return
    if _state.nowhere < 0:
        _open_standard_files()
        _state.terminals, _state.nowhere = _terminals(), os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    with _waking_main_thread():
        before = {one: signal.getsignal(one) for one in _STOPS}
        continued = signal.signal(signal.SIGCONT, _continue)
        try:
            for one, handler in before.items():
                if handler not in (signal.SIG_IGN, None):
                    signal.signal(one, _stop)
            with _dropping_stops():
                yield
        finally:
            stop_arrived()
            signal.signal(signal.SIGCONT, continued or signal.SIG_DFL)
            if _state.since is None:
                for one, handler in before.items():
                    if handler is not None:
                        signal.signal(one, handler)


@contextmanager
def finishing(*, then_stop: bool = True) -> Iterator[None]:
    """Let the block end before a signal stops the process; with `then_stop` false, the signal is forgotten after it."""
    _state.shields += 1
    try:
        yield
    finally:
        _state.shields -= 1
    if not _state.shields and (number := _state.held) is not None:
        _state.held = None
        if then_stop:
            _raise(number)


def stop_arrived() -> None:
    """Take the last stop for one that ends the process, so that signals that follow let it finish."""
    _state.arrived = True


def times_continued() -> int:
    """A number that is another one after this process was stopped and continued (Ctrl-Z and `fg`, SIGSTOP and SIGCONT).

    Counted in `stopping_on_signals`. What it waited for meanwhile was not stopped, and the clock went on.
    """
    return _state.continued


@contextmanager
def _waking_main_thread() -> Iterator[None]:
    """End the wait of the main thread where another one was given the signal."""
    if _state.waking:
        yield
        return
    ours, pythons = socket.socketpair()
    pythons.setblocking(False)
    before = signal.set_wakeup_fd(pythons.fileno(), warn_on_full_buffer=False)
    waker = threading.Thread(target=_wake, args=(ours, threading.get_ident()), name="capvec-signals", daemon=True)
    with suppress(RuntimeError):  # there may be no more threads; who cannot do without one says so
        waker.start()
    _state.waking = True
    try:
        yield
    finally:
        _state.waking = False
        signal.set_wakeup_fd(before)
        pythons.close()


def _wake(signals: socket.socket, main_thread: int) -> None:
    """Count continuations, and send a signal that stops to the main thread again if it was not heeded or was dropped.

    It ends when the other end is closed.
    """
    with signals:
        while numbers := signals.recv(64):
            if signal.SIGCONT in numbers:
                _state.continued += 1  # the main thread may wait for one that does not wait any more
            heeded = _state.heeded
            time.sleep(HEED_S)
            if _state.heeded == heeded or _was_dropped():
                for number in {one for one in numbers if signal.getsignal(one) is _stop}:
                    signal.pthread_kill(main_thread, number)


os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))  # or a child's signals would wake its parent


def _continue(_number: int, _frame: FrameType | None) -> None:
    _state.continued += 1


def _stop(number: int, _frame: FrameType | None) -> None:
    _state.heeded += 1
    if number == signal.SIGHUP:
        _leave_terminal()
    now = time.monotonic()
    if _state.since is not None and now - _state.since < PATIENCE_S and not _was_dropped():
        return
    _state.since, _state.raised, _state.arrived = now, None, False
    if _state.shields:
        _state.held = number
    else:
        _raise(number)


def _raise(number: int) -> None:
    stop = Stopped(number)
    _state.raised = weakref.ref(stop)
    try:
        raise stop
    finally:
        del stop  # which its traceback would hold for ever


def _was_dropped() -> bool:
    """Whether the last stop is gone and has not arrived."""
    return _state.raised is not None and _state.raised() is None and not _state.arrived


@contextmanager
def _dropping_stops() -> Iterator[None]:
    """Let go of stops that Python drops, which whoever reports such exceptions (pytest does) would hold, or print."""
    before = sys.unraisablehook

    def drop(unraisable: sys.UnraisableHookArgs) -> None:
        if not isinstance(unraisable.exc_value, Stopped):
            before(unraisable)

    sys.unraisablehook = drop
    try:
        yield
    finally:
        sys.unraisablehook = before


def _leave_terminal() -> None:
    """Send to nowhere what is still written to a terminal that is gone, where each write would fail."""
    for descriptor in _open_files():
        with suppress(OSError):
            if os.fstat(descriptor).st_rdev in _state.terminals and not os.isatty(descriptor):
                os.dup2(_state.nowhere, descriptor)


def _open_standard_files() -> None:
    """Open the null device where standard input, output or error is closed, or another file would get its number."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free


def _open_files() -> list[int]:
    """All of them, since pytest keeps copies of standard output."""
    try:
        return [int(name) for name in os.listdir("/dev/fd")]
    except OSError:
        return [0, 1, 2]


def _terminals() -> frozenset[int]:
    """The devices of the terminals that standard output and error are."""
    return frozenset(os.fstat(descriptor).st_rdev for descriptor in (0, 1, 2) if os.isatty(descriptor))
