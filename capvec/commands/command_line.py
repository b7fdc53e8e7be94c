"""The command line of `capvec`: its commands and their help."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from capvec import __version__
from capvec.commands import (
    bake,
    capture,
    check,
    collect,
    compute,
    doctor,
    export,
    judge,
    preregister,
    report,
    serve,
    setup,
)
from capvec.exits import accept_any_character, exit_code_of
from capvec.plan.option_help import add_arguments
from capvec.plan.option_table import PLACES
from capvec.plan.options import read_options, typed

COMMANDS = {
    "doctor": doctor,
    "setup": setup,
    "serve": serve,
    "check": check,
    "preregister": preregister,
    "collect": collect,
    "capture": capture,
    "compute": compute,
    "report": report,
    "judge": judge,
    "export": export,
    "bake": bake,
}
"""Name → its module, in the order of `capvec --help`."""
DESCRIPTION = """\
Does a steering vector make a model better at a task, or does it only change
how the model talks? A sweep answers that, and is started through pytest:

  pytest -n 4 -m sweep --alpha 4    (its options: pytest --help)

The commands below prepare a sweep, do its steps one by one, and use its results.
"""
EPILOG = """\
capvec COMMAND --help lists the options of a command.
exit codes: 0 done; 1 done, and something is missing or failed; 2 an error,
which standard error explains; 130 stopped by Ctrl-C, 143 by SIGTERM, 129 by
SIGHUP
"""


def run_command(given: Sequence[str]) -> int:
    """Run the command that these arguments name. Returns the exit code, as `EPILOG` lists them."""
    accept_any_character()  # before a help text is printed

    def run() -> int:
        parser = _parser()
        if not given:
            parser.print_help(sys.stderr)
            return 2
        raw = vars(parser.parse_args(given))
        command = raw.pop("command")
        values = read_options(command, raw)
        options = argparse.Namespace(**values, typed=typed(raw), command_line=["capvec", *given])
        return int(COMMANDS[command].run(options))

    return exit_code_of(run)


class _Parser(argparse.ArgumentParser):
    """A parser whose help text is an error where it cannot be written; argparse passes over that."""

    def _print_message(self, message: str, file: Any = None) -> None:
        file = file or sys.stderr
        file.write(message)
        file.flush()


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="capvec",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"capvec {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command", title="commands")
    for name, module in COMMANDS.items():
        summary = PLACES[name].summary
        command = commands.add_parser(
            name,
            help=summary,
            description=summary,
            epilog=module.EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        add_arguments(command, name)
    return parser
