"""The `capvec` command: set-up, a standing engine, and each step from tasks to a direction. Sweeps are pytest's."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from capvec.signals import exit_code, stopping_on_signals


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    What it needs is imported where signals are handled already, so that Ctrl-C at once shows no traceback either.

    Args:
        arguments: of the command; those of this process if None.
    """
    try:
        with stopping_on_signals():
            from capvec.commands.command_line import run_command  # noqa: PLC0415 (slow)

            return run_command(sys.argv[1:] if arguments is None else list(arguments))
    except KeyboardInterrupt as stop:
        return exit_code(stop)


if __name__ == "__main__":
    sys.exit(main())
