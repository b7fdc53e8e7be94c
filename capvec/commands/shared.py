"""What several commands take and do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capvec.directions.recipe import RECIPE_OPTIONS, Recipe
from capvec.errors import UsageError

if TYPE_CHECKING:
    from capvec.engines.client import EngineClient
    from capvec.records import Trace

MODEL_HELP = "`pocket`, `pocket-base`, a Hugging Face id, or a folder"
BUNDLED = "bundled"


def add_recipe_options(parser: Any, *names: str) -> None:
    """Options that say how a direction is built, with the help texts of the sweep's.

    Args:
        parser: or a group of one.
        names: some of `RECIPE_OPTIONS`; all where none is given.
    """
    for name in names or RECIPE_OPTIONS:
        parser.add_argument(f"--{name.replace('_', '-')}", help=RECIPE_OPTIONS[name])


def add_engine_options(parser: Any) -> None:
    """Which model, and where it runs."""
    parser.add_argument("--model", help=f"{MODEL_HELP} (default: pocket)")
    parser.add_argument("--base-url", help="use a running engine instead of starting one; see `capvec serve`")


def traces_of(named: str, recipe: Recipe) -> tuple[tuple[Trace, ...], str]:
    """What `--traces` names, and what to call it.

    Raises:
        UsageError: there are no such traces, or none bundled for the contrast.
    """
    from capvec.models import bundled_traces  # noqa: PLC0415
    from capvec.traces import read_traces  # noqa: PLC0415

    if named == BUNDLED:
        return read_traces(
            bundled_traces(recipe.contrast), recipe.trace_fields
        ), f"the bundled {recipe.contrast} traces"
    return read_traces(Path(named), recipe.trace_fields), named


@contextmanager
def engine(model: str | None, base_url: str | None, log: Path) -> Iterator[EngineClient]:
    """A client of an engine that serves `model`, or of the one at `base_url`.

    Raises:
        UsageError: the model cannot be loaded, or both were named.
        EngineUnavailable: no engine answers.
    """
    from capvec.engines.client import EngineClient  # noqa: PLC0415
    from capvec.engines.process import client_of  # noqa: PLC0415
    from capvec.engines.protocol import TOKEN_VARIABLE  # noqa: PLC0415
    from capvec.models import POCKET, resolve_model  # noqa: PLC0415

    if base_url is not None:
        if model is not None:
            raise UsageError(f"--model {model} and --base-url {base_url}: the engine there has a model; drop one")
        with EngineClient(base_url, os.environ.get(TOKEN_VARIABLE, "")) as client:
            yield client
        return
    source = resolve_model(model or POCKET)
    log.parent.mkdir(parents=True, exist_ok=True)
    with client_of(source, log) as client:
        yield client


def say(line: str) -> None:
    """One line of progress."""
    print(f"capvec: {line}", flush=True)
