"""How a command ends: its exit code and its one sentence, whatever stopped it."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Callable

from capvec.errors import CapvecError
from capvec.signals import exit_code, stopping_on_signals
from capvec.storage import advice
from capvec.text import one_line, printable


def exit_code_of(command: Callable[[], int]) -> int:
    """Run a command to its end.

    Returns:
        Its own exit code; 2 after an error, which standard error explains; 128 and the signal's number after Ctrl-C,
        SIGTERM or SIGHUP; 141 where nobody reads its output any more.
    """
    accept_any_character()
    try:
        with stopping_on_signals():
            return _code_of(command)
    except KeyboardInterrupt as stop:
        return exit_code(stop)


def _code_of(command: Callable[[], int]) -> int:
    try:
        code = command()
        if sys.stdout is not None:  # it is where standard output is closed
            sys.stdout.flush()
    except CapvecError as error:
        return _say(str(error))
    except BrokenPipeError:
        _drop_output()
        return 128 + signal.SIGPIPE
    except OSError as error:
        if error.filename is None and sys.stdout is not None:  # a write, of the output or of another open file
            _drop_output()
        return _say(refused(error))
    except MemoryError:
        return _say("this process may have no more memory: give it more (`ulimit -v`, or a container's limit)")
    except RuntimeError as error:
        if said := no_more_threads(error):
            return _say(said)
        raise
    return code


def _drop_output() -> None:
    """Have what is still in the buffer of standard output go nowhere; Python would fail to write it when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def no_more_threads(error: RuntimeError) -> str:
    """One sentence where Python could start no thread, as under a limit on processes; empty for any other error."""
    if str(error) != "can't start new thread":
        return ""
    return "this process may start no more threads: raise the limit of processes (`ulimit -u`, or a container's limit)"


def accept_any_character() -> None:
    """Let standard output and error write a character that their encoding lacks as an escape."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def refused(error: OSError) -> str:
    """What the operating system refused, on one line."""
    what = error.filename if error.filename is not None else "a file or the output"
    return one_line(f"{what}: {error.strerror or error}; {advice(error)}")


def _say(message: str) -> int:
    print(f"capvec: {printable(message)}", file=sys.stderr)
    return 2
