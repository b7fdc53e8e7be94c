"""`capvec capture`: the residuals of traces, in a file for `capvec compute`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from capvec.commands.shared import engine, say, traces_of
from capvec.directions.recipe import Recipe
from capvec.errors import UsageError
from capvec.plan.options import recipe_of

if TYPE_CHECKING:
    from capvec.records import Trace

EPILOG = """\
Every trace is captured that any contrast could use.

example: capvec capture --traces traces --out activations.safetensors
"""


def run(options: argparse.Namespace) -> int:
    """Capture every trace that a contrast could use, whichever contrast is then computed."""
    from capvec.directions.activations import ActivationFile  # noqa: PLC0415
    from capvec.directions.capture import capture_traces  # noqa: PLC0415

    recipe, out = recipe_of(vars(options)), Path(options.out)
    if out.suffix != ".safetensors":
        raise UsageError(f"--out {out}: expected a name that ends in .safetensors")
    read, source = traces_of(options.traces, recipe)
    traces = _usable(read, recipe, source)
    with engine(options, out.parent / "engine.log") as client:
        health = client.health()
        for line in health.template.adaptations():
            say(line)
        say(f"{len(traces)} of {len(read)} traces of {source}, through {health.model}, pooling {recipe.pooling}")
        activations = capture_traces(traces, client, say, recipe.pooling)
    ActivationFile(traces, activations, health).save(out)
    shape = " × ".join(map(str, activations.residuals.shape))
    print(
        f"{out}: residuals of {shape} (traces, layers, width); next: capvec compute --activations {out} --out vectors"
    )
    return 0


def _usable(read: Sequence[Trace], recipe: Recipe, source: str) -> tuple[Trace, ...]:
    """The traces that any contrast could use. Prints how many are left out, and why.

    Raises:
        UsageError: none is left.
    """
    from capvec.directions.contrast import sift, usable  # noqa: PLC0415

    left, counts = sift(usable(recipe, ""), read)
    for reason, dropped in ((reason, n) for rule in counts for reason, n in rule.dropped.items()):
        say(f"left out: {dropped} {reason}")
    if not left:
        raise UsageError(
            f"--traces: none of the {len(read)} traces of {source} has a reward and comes from an unsteered run; "
            "expected at least one"
        )
    return tuple(left)
