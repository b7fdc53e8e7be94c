"""`python -m capvec.studies.calibration.select`: layer and strength of the positive controls from the dev split."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from capvec.exits import exit_code_of


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and select. 0 when both selections will do, 1 when not, else as `exit_code_of`.

    What it needs is imported where signals are handled already, so that Ctrl-C at once shows no traceback either.
    """
    return exit_code_of(lambda: _select(sys.argv[1:] if arguments is None else list(arguments)))


def _select(given: list[str]) -> int:
    from capvec.plan.option_table import PLACES  # noqa: PLC0415 (slow)
    from capvec.plan.options import parse_options, read_options  # noqa: PLC0415 (slow)
    from capvec.studies.calibration.positive_controls import FORMAT, SKILL  # noqa: PLC0415 (slow)
    from capvec.studies.calibration.selection import BUNDLED  # noqa: PLC0415 (slow)
    from capvec.studies.calibration.selection_study import Grid, SelectionStudy, run  # noqa: PLC0415 (slow)

    raw = vars(_parser().parse_args(given)) | {"command_line": [PLACES["select"].command, *given]}
    values = read_options("select", raw)
    layers, alphas = values["layer"], values["alpha"]
    grids = {
        SKILL.name: Grid(layers, alphas),
        FORMAT.name: Grid(values["format_layer"] or layers, values["format_alpha"] or alphas),
    }
    out = BUNDLED if values["out"] is None else Path(values["out"])
    return 0 if run(SelectionStudy(parse_options(raw, "select"), grids, out), jobs=values["jobs"]) else 1


def _parser() -> argparse.ArgumentParser:
    from capvec.plan.option_help import add_arguments  # noqa: PLC0415 (slow)
    from capvec.plan.option_table import PLACES  # noqa: PLC0415 (slow)

    parser = argparse.ArgumentParser(
        prog=PLACES["select"].command, usage="%(prog)s [options]", description=PLACES["select"].summary
    )
    add_arguments(parser, "select")
    return parser


if __name__ == "__main__":
    sys.exit(main())
