"""The `capvec` command: set-up, a standing engine, and each step from tasks to a direction. Sweeps are pytest's."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from capvec import __version__
from capvec.commands import bake, capture, collect, compute, doctor, export, report, serve, setup
from capvec.errors import CapvecError

COMMANDS = (doctor, setup, serve, collect, capture, compute, report, export, bake)
"""In the order of `capvec --help`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 when it did what it should, 1 when the doctor found something missing, 2 on an error."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = _parser().parse_args(given, argparse.Namespace(command_line=["capvec", *given]))
    try:
        return int(options.run(options))
    except CapvecError as error:
        print(f"capvec: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="capvec",
        description="Behavioural evaluation of steering vectors. A sweep is a pytest run: pytest -m sweep --alpha 4",
    )
    parser.add_argument("--version", action="version", version=f"capvec {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
