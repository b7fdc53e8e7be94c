"""`capvec capture`: the residuals of traces, in a file for `capvec compute`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capvec.commands.shared import BUNDLED, add_engine_options, add_recipe_options, engine, say, traces_of
from capvec.directions.recipe import Recipe, parse_recipe
from capvec.errors import UsageError

if TYPE_CHECKING:
    from capvec.records import Trace


def add(commands: Any) -> None:
    """Describe the command."""
    parser = commands.add_parser("capture", help="write the residuals of traces to a file, for `capvec compute`")
    parser.add_argument(
        "--traces", default=BUNDLED, help="folder or JSONL of traces (default: those that come with --contrast)"
    )
    parser.add_argument("--out", type=Path, required=True, help="the file, .safetensors")
    add_engine_options(parser)
    add_recipe_options(parser, "contrast", "pooling", "trace_fields")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Capture every trace that a contrast could use, whichever contrast is then computed."""
    from capvec.directions.activations import ActivationFile  # noqa: PLC0415
    from capvec.directions.capture import capture_traces  # noqa: PLC0415

    recipe = parse_recipe(vars(options))
    if options.out.suffix != ".safetensors":
        raise UsageError(f"--out {options.out}: expected a name that ends in .safetensors")
    read, source = traces_of(options.traces, recipe)
    traces = _usable(read, recipe, source)
    with engine(options.model, options.base_url, options.out.parent / "engine.log") as client:
        health = client.health()
        say(f"{len(traces)} of {len(read)} traces of {source}, through {health.model}, pooling {recipe.pooling}")
        activations = capture_traces(traces, client, say, recipe.pooling)
    ActivationFile(traces, activations, health).save(options.out)
    shape = " × ".join(map(str, activations.residuals.shape))
    print(f"{options.out}: residuals of {shape} (traces, layers, width); next: capvec compute --activations …")
    return 0


def _usable(read: Sequence[Trace], recipe: Recipe, source: str) -> tuple[Trace, ...]:
    """Those that any contrast could use. Says what is left out.

    Raises:
        UsageError: none is left.
    """
    from capvec.directions.contrast import usable  # noqa: PLC0415

    left = read
    for rule in usable(recipe, ""):
        kept = [trace for trace in left if rule.holds(trace)]
        if len(kept) < len(left):
            say(f"left out: {len(left) - len(kept)} {rule.reason}")
        left = kept
    if not left:
        raise UsageError(f"--traces: {source} holds no trace with a reward from an unsteered run, out of {len(read)}")
    return tuple(left)
