"""`capvec capture`: the residuals of traces, in a file for `capvec compute`."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capvec.commands.shared import BUNDLED, add_engine_options, add_recipe_options, engine, say, traces_of
from capvec.directions.recipe import parse_recipe
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
    from capvec.sweep.captures import capture_traces  # noqa: PLC0415

    recipe = parse_recipe(vars(options))
    if options.out.suffix != ".safetensors":
        raise UsageError(f"--out {options.out}: expected a name that ends in .safetensors")
    read, source = traces_of(options.traces, recipe)
    traces = usable(read, source)
    with engine(options.model, options.base_url, options.out.parent / "engine.log") as client:
        health = client.health()
        say(f"{len(traces)} of {len(read)} traces of {source}, through {health.model}, pooling {recipe.pooling}")
        activations = capture_traces(traces, client, say, recipe.pooling)
    ActivationFile(traces, activations, health).save(options.out)
    shape = " × ".join(map(str, activations.residuals.shape))
    print(f"{options.out}: residuals of {shape} (traces, layers, width); next: capvec compute --activations …")
    return 0


def usable(traces: Sequence[Trace], source: str) -> tuple[Trace, ...]:
    """Those that a contrast could use: with a reward, and from no steered config. Says what is left out.

    Raises:
        UsageError: none is left.
    """
    from capvec.records import Config  # noqa: PLC0415

    reasons = {
        trace.id: "without a reward" if trace.reward is None else "from a steered config"
        for trace in traces
        if trace.reward is None or trace.config != Config.BASELINE
    }
    for reason, count in Counter(reasons.values()).items():
        say(f"left out: {count} {reason}")
    left = tuple(trace for trace in traces if trace.id not in reasons)
    if not left:
        raise UsageError(f"--traces: {source} holds no trace with a reward from an unsteered run, out of {len(traces)}")
    return left
