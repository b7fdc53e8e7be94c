"""`capvec compute`: a direction from traces, with its ranking."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capvec.commands.shared import BUNDLED, add_engine_options, add_recipe_options, engine, say, traces_of
from capvec.directions.recipe import Recipe, parse_recipe
from capvec.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from capvec.directions.build import BuiltDirection
    from capvec.engines.protocol import EngineInfo

HEAD = 5
"""Layers of the ranking that are printed."""
COLUMNS = tuple("layer auc auc_null_p95 cv_auc cv_p_value p_value p_corrected stability_min margin_ratio".split())
"""And what of each: an AUC never without its null."""


def add(commands: Any) -> None:
    """Describe the command."""
    parser = commands.add_parser("compute", help="build a direction from traces and say what it is worth")
    parser.add_argument("--activations", type=Path, help="what `capvec capture` wrote, instead of traces and a model")
    parser.add_argument("--traces", help="folder or JSONL of traces (default: those that come with --contrast)")
    parser.add_argument(
        "--out", type=Path, required=True, help="a folder; gets dir.pt, .safetensors, .gguf, and ranking.csv"
    )
    parser.add_argument("--reference", type=Path, help="a direction file; the ranking has the cosine with it")
    parser.add_argument("--seed", type=int, default=0, help="of the label permutations (default: 0)")
    add_engine_options(parser)
    add_recipe_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Build it with the functions of the sweep: the same traces give the same direction."""
    from capvec.directions.direction import named_direction, save_all  # noqa: PLC0415
    from capvec.directions.study_direction import StudyDirection, with_metadata  # noqa: PLC0415

    recipe = parse_recipe(vars(options))
    if options.reference is not None:
        named_direction("--reference", options.reference)  # an unreadable file is refused before an engine starts
    build = _from_file if options.activations is not None else _from_traces
    built, health, source = build(options, recipe)
    built = with_metadata(built, recipe, health)
    options.out.mkdir(parents=True, exist_ok=True)
    save_all(built.direction, options.out, model_hint=health.model_type or "unknown")
    built.ranking.write_csv(options.out / "ranking.csv", built.audit.flags)
    direction = StudyDirection(built.direction, source, built)
    found = [f"{built.ranking.verdict()}."] if built.ranking.found() else []  # else it is among the caveats
    print("", *_head(built), "", direction.describe(), *found, *direction.caveats(), sep="\n")
    print(f"{options.out}: dir.pt, dir.safetensors, dir.gguf (hash {built.direction.hash}) and ranking.csv")
    return 0


def _from_traces(options: argparse.Namespace, recipe: Recipe) -> tuple[BuiltDirection, EngineInfo, str]:
    from capvec.cache import cache_root  # noqa: PLC0415
    from capvec.directions.build import build_direction  # noqa: PLC0415
    from capvec.directions.capture import capture_traces, engine_identity  # noqa: PLC0415

    traces, source = traces_of(options.traces or BUNDLED, recipe)
    with engine(options.model, options.base_url, options.out / "engine.log") as client:
        health = client.health()
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
        if getattr(options, name) is not None:
            raise UsageError(
                f"--{name.replace('_', '-')} and --activations were both given: the file holds traces and residuals; "
                "drop one"
            )
    file = ActivationFile.load(options.activations)
    if options.pooling is not None and recipe.pooling != file.activations.pooling:
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
        cache=None,  # whatever a file says, it must not become what a later sweep takes for the engine's own
        seed=options.seed,
        reference=_reference(options.reference, file.engine),
    )
    return built, file.engine, str(options.activations)


def _reference(path: Path | None, health: EngineInfo) -> NDArray[np.float32] | None:
    from capvec.directions.direction import named_direction  # noqa: PLC0415

    if path is None:
        return None
    return named_direction("--reference", path, health.n_layers, health.d_model).vectors


def _head(built: BuiltDirection) -> list[str]:
    """The ranking's first layers, in columns."""
    from capvec.text import align, number  # noqa: PLC0415

    rows = built.ranking.rows[:HEAD]
    cells = [[str(row.layer), *(number(getattr(row, name), 3) for name in COLUMNS[1:])] for row in rows]
    return align([COLUMNS, *cells])
