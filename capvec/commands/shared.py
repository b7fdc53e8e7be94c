"""What several commands do."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from capvec.directions.recipe import Recipe
from capvec.plan.options import engine_args_of

if TYPE_CHECKING:
    from capvec.engines.client import EngineClient
    from capvec.records import Trace


def traces_of(path: str | None, recipe: Recipe) -> tuple[tuple[Trace, ...], str]:
    """Read the traces at `path`, or those bundled for the contrast.

    Returns:
        The traces, and their source in words.

    Raises:
        UsageError: there are no such traces, or none bundled for the contrast.
    """
    from capvec.models import bundled_traces  # noqa: PLC0415
    from capvec.traces import read_traces  # noqa: PLC0415

    if path is None:
        bundled = read_traces(bundled_traces(recipe.contrast), recipe.trace_fields)
        return bundled, f"the bundled {recipe.contrast} traces"
    return read_traces(Path(path), recipe.trace_fields, say), path


@contextmanager
def engine(options: Namespace, log: Path) -> Iterator[EngineClient]:
    """A client of the running engine at `--base-url`, or of a new one that serves `--model`.

    Raises:
        UsageError: the model cannot be loaded.
        EngineUnavailable: no engine answers.
    """
    from capvec.engines.client import EngineClient  # noqa: PLC0415
    from capvec.engines.process import client_of  # noqa: PLC0415
    from capvec.engines.protocol import TOKEN_VARIABLE  # noqa: PLC0415
    from capvec.engines.selection import choose  # noqa: PLC0415
    from capvec.models import resolve_model  # noqa: PLC0415

    if options.base_url is not None:
        with EngineClient(options.base_url, os.environ.get(TOKEN_VARIABLE, "")) as client:
            yield client
        return
    source = resolve_model(options.model)
    choice = choose(options.engine, engine_args_of(options.engine_arg), source.path_or_id)
    say(f"the engine: {choice.in_words}")
    log.parent.mkdir(parents=True, exist_ok=True)
    with client_of(source, log, choice) as client:
        yield client


def say(line: str) -> None:
    """Print one line of progress."""
    print(f"capvec: {line}", flush=True)
