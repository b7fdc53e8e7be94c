"""`capvec compute`: a direction from traces, with its ranking."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from capvec.commands.shared import engine, say, traces_of
from capvec.directions.recipe import Recipe
from capvec.errors import UsageError
from capvec.plan.options import recipe_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from capvec.directions.build import BuiltDirection
    from capvec.engines.protocol import EngineInfo

HEAD = 5
"""Layers of the ranking to print."""
COLUMNS = tuple(
    "layer auc auc_null_p95 cv_auc cv_p_value p_value p_corrected stability_min "
    "margin_ratio margin_ratio_null_p95 margin_ratio_noise".split()
)
"""Columns to print of each: an AUC and a margin never without their null."""


EPILOG = """\
The same traces give the same direction as in a sweep.

example: capvec compute --traces traces/trajectories --out vectors
"""


def run(options: argparse.Namespace) -> int:
    """Build it with the functions that a sweep uses."""
    from capvec.directions.direction import named_direction, save_all  # noqa: PLC0415
    from capvec.directions.study_direction import StudyDirection, with_metadata  # noqa: PLC0415
    from capvec.results.lock import locked  # noqa: PLC0415
    from capvec.storage import writing  # noqa: PLC0415

    recipe, out = recipe_of(vars(options)), Path(options.out)
    if options.reference is not None:
        named_direction("--reference", options.reference)  # an unreadable file is refused before an engine starts
    build = _from_file if options.activations is not None else _from_traces
    with locked(out, "--out"):
        built, health, source = build(options, recipe)
        built = with_metadata(built, recipe, health)
        with writing(out):
            save_all(built.direction, out, model_hint=health.model_type or "unknown")
            built.ranking.write_csv(out / "ranking.csv", built.audit.flags)
    direction = StudyDirection(built.direction, source, built)
    found = [f"{built.ranking.verdict()}."] if built.ranking.found() else []  # else it is among the caveats
    print("", *_head(built), "", direction.describe(), *found, *direction.caveats(), sep="\n")
    print(f"{out}: dir.pt, dir.safetensors, dir.gguf (hash {built.direction.hash}) and ranking.csv")
    return 0


def _from_traces(options: argparse.Namespace, recipe: Recipe) -> tuple[BuiltDirection, EngineInfo, str]:
    from capvec.cache import cache_root  # noqa: PLC0415
    from capvec.directions.build import build_direction  # noqa: PLC0415
    from capvec.directions.capture import capture_traces, engine_identity  # noqa: PLC0415

    traces, source = traces_of(options.traces, recipe)
    with engine(options, Path(options.out) / "engine.log") as client:
        health = client.health()
        limit = (health.context_limit,) if health.context_limit else ()
        for line in (*limit, *health.template.adaptations()):
            say(line)
        built = build_direction(
            traces,
            recipe=recipe,
            model=health.model,
            identity=engine_identity(health),
            capture=lambda chosen: capture_traces(chosen, client, say, recipe.pooling),
            cache=cache_root() / "activations",
            seed=options.seed,
            reference=_reference(options.reference, health),
        )
    return built, health, source


def _from_file(options: argparse.Namespace, recipe: Recipe) -> tuple[BuiltDirection, EngineInfo, str]:
    from capvec.directions.activations import ActivationFile  # noqa: PLC0415
    from capvec.directions.build import build_direction  # noqa: PLC0415
    from capvec.directions.capture import engine_identity  # noqa: PLC0415

    for name in ("traces", "model", "base_url", "trace_fields"):
        if name in options.typed:
            raise UsageError(
                f"--{name.replace('_', '-')} and --activations were both given: the file holds traces and residuals; "
                "drop one"
            )
    file = ActivationFile.load(Path(options.activations))
    if "pooling" in options.typed and recipe.pooling != file.activations.pooling:
        raise UsageError(
            f"--pooling {recipe.pooling}: {options.activations} was captured with {file.activations.pooling}; "
            "capture again, or leave --pooling out"
        )
    built = build_direction(
        file.traces,
        recipe=replace(recipe, pooling=file.activations.pooling),
        model=file.engine.model,
        identity=engine_identity(file.engine),
        capture=file.of,
        cache=None,  # a file's residuals must not pass for the engine's own in a later sweep
        seed=options.seed,
        reference=_reference(options.reference, file.engine),
    )
    return built, file.engine, str(options.activations)


def _reference(name: str | None, health: EngineInfo) -> NDArray[np.float32] | None:
    from capvec.directions.direction import named_direction  # noqa: PLC0415

    if name is None:
        return None
    return named_direction("--reference", name, health.n_layers, health.d_model).vectors


def _head(built: BuiltDirection) -> list[str]:
    """The first layers of the ranking, as a table."""
    from capvec.text import align, number  # noqa: PLC0415

    rows = built.ranking.rows[:HEAD]
    cells = [[str(row.layer), *(number(getattr(row, name), 3) for name in COLUMNS[1:])] for row in rows]
    return align([COLUMNS, *cells])
