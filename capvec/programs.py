"""Programs of this package, as processes of their own."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TypeVar

_Found = TypeVar("_Found")
_LOOKS = 100
"""Through an environment that is being changed."""

BRIEF_WAITS = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "3000"}
"""OpenMP's threads wait for each other many times a token. By default they spin for a millisecond or more, which slows
what else runs on the same cores. If they sleep at once, waking them takes longer than most operations. GNU's OpenMP,
which is that of torch on Linux, spins for so many turns (some ten microseconds) and then sleeps; others sleep. The
benchmark `wait_policy` has the figures."""


def python(module: str, *arguments: str) -> tuple[str, ...]:
    """The command that runs a module by this interpreter.

    The working directory stays off its path (`-P`), since what a user was given may lie there: a file `json.py` of it
    would run in the library's place.

    Args:
        module: its full name.
        arguments: of the command line.
    """
    return (sys.executable, "-P", "-m", module, *arguments)


def brief_waits(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables for a process that will import torch, so that its threads wait briefly; none if the user set one."""
    return {} if BRIEF_WAITS.keys() & environment.keys() else BRIEF_WAITS


def looked_up(look: Callable[[], _Found]) -> _Found:
    """What a look through all of the environment finds, which pytest changes in another thread.

    Args:
        look: is repeated where a variable was taken away meanwhile.
    """
    for _ in range(_LOOKS):
        with suppress(KeyError, RuntimeError):
            return look()
    return look()


@contextmanager
def no_search_for_garbage() -> Iterator[None]:
    """Without Python's search for cycles of objects, which it makes after every so many new ones.

    For work that makes many objects and few cycles: among the records of 100,000 trials the search takes a seventh of a
    report's time.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextmanager
def lasting_imports() -> Iterator[None]:
    """Imports whose modules stay until the process ends, as at the start of a program.

    A large package makes objects by the hundred thousand and hardly any garbage: torch and transformers take a fifth of
    their time for the search. It is left out here, and later ones, the last of which is at the end of the process, pass
    over what there is now.
    """
    with no_search_for_garbage():
        try:
            yield
        finally:
            gc.freeze()
