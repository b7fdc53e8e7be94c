"""Ctrl-C before the session: pytest ends without a traceback while plugins and conftest files are imported.

This plugin is loaded before `plugin.py` and imports next to nothing. From the start of the session on, pytest itself
answers Ctrl-C, and of a study `capvec.signals`.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Generator
from contextlib import suppress
from types import FrameType

import pytest


def _end(_number: int, _frame: FrameType | None) -> None:
    """End at once. There is nothing to clean up yet, and of an exception it is not sure who catches it."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(pytest.ExitCode.INTERRUPTED)


def _give_back() -> None:
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


if (
    threading.current_thread() is threading.main_thread()
    and signal.getsignal(signal.SIGINT) is signal.default_int_handler
):
    signal.signal(signal.SIGINT, _end)


@pytest.hookimpl(wrapper=True)
def pytest_sessionstart() -> Generator[None, object, object]:
    _give_back()
    return (yield)


def pytest_unconfigure() -> None:
    _give_back()
