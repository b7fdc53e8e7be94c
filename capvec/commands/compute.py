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

HEAD = 5
"""Layers of the ranking to print."""
COLUMNS = tuple("layer auc auc_null_p95 cv_auc cv_p_value p_value p_corrected stability_min margin_ratio".split())
"""Columns to print of each: an AUC never without its null."""


EPILOG = """\
The same traces give the same direction as in a sweep.

example: capvec compute --traces traces/trajectories --out vectors
"""


def run(options: argparse.Namespace) -> int:
    """Build it with the functions that a sweep uses."""
    from capvec.directions.study_direction import StudyDirection  # noqa: PLC0415

    recipe, out = recipe_of(vars(options)), Path(options.out)
    if options.activations is not None:
        built, source = _from_file(options, recipe)
    else:
        built, source = _from_traces(options, recipe)
    _write(built, out)
    direction = StudyDirection(built.direction, source, built)
    found = [f"{built.ranking.verdict()}."] if built.ranking.found() else []  # else it is among the caveats
    print("", *_head(built), "", direction.describe(), *found, *direction.caveats(), sep="\n")
    print(f"{out}: dir.pt, dir.safetensors, dir.gguf (hash {built.direction.hash}) and ranking.csv")
    return 0


def _from_traces(options: argparse.Namespace, recipe: Recipe) -> tuple[BuiltDirection, str]:
    from capvec.cache import cache_root  # noqa: PLC0415
    from capvec.directions.build import build_direction  # noqa: PLC0415
    from capvec.directions.capture import capture_traces, engine_identity  # noqa: PLC0415
    from capvec.directions.study_direction import with_metadata  # noqa: PLC0415

    traces, source = traces_of(options.traces, recipe)
    with engine(options.model, options.base_url, Path(options.out) / "engine.log") as client:
        health = client.health()
        built = build_direction(
            traces,
            recipe=recipe,
            model=health.model,
            identity=engine_identity(health),
            capture=lambda chosen: capture_traces(chosen, client, say, recipe.pooling),
            cache=cache_root() / "activations",
            seed=options.seed,
            reference=_reference(options.reference, health.n_layers, health.d_model),
        )
    return with_metadata(built, recipe, health), source


def _from_file(options: argparse.Namespace, recipe: Recipe) -> tuple[BuiltDirection, str]:
    from capvec.directions.activations import ActivationFile  # noqa: PLC0415
    from capvec.directions.build import build_direction  # noqa: PLC0415
    from capvec.directions.capture import engine_identity  # noqa: PLC0415
    from capvec.directions.study_direction import with_metadata  # noqa: PLC0415

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
        reference=_reference(options.reference, file.engine.n_layers, file.engine.d_model),
    )
    return with_metadata(built, recipe, file.engine), str(options.activations)


def _reference(name: str | None, n_layers: int, d_model: int) -> NDArray[np.float32] | None:
    from capvec.directions.files import read_vectors  # noqa: PLC0415 (torch)

    if name is None:
        return None
    path = Path(name)
    try:
        data = path.read_bytes()
        tensors = read_vectors(data, path.suffix.removeprefix("."), n_layers=n_layers, d_model=d_model)
    except (OSError, UsageError) as error:
        raise UsageError(f"--reference {path}: {error}") from error
    vectors: NDArray[np.float32] = tensors["directions"].numpy()
    return vectors


def _write(built: BuiltDirection, folder: Path) -> None:
    """Write the files that `vectors/` of a sweep has."""
    from capvec.directions.files import read_vectors, write_vectors  # noqa: PLC0415 (torch, and only for .pt)

    direction = built.direction
    folder.mkdir(parents=True, exist_ok=True)
    direction.save(folder / "dir.safetensors")
    tensors = read_vectors(direction.to_bytes(), "safetensors", n_layers=direction.n_layers, d_model=direction.d_model)
    for suffix in ("pt", "gguf"):
        (folder / f"dir.{suffix}").write_bytes(write_vectors(tensors, suffix, direction.metadata))
    built.ranking.write_csv(folder / "ranking.csv", built.audit.flags)


def _head(built: BuiltDirection) -> list[str]:
    """The first layers of the ranking, as a table."""
    from capvec.text import align, number  # noqa: PLC0415

    rows = built.ranking.rows[:HEAD]
    cells = [[str(row.layer), *(number(getattr(row, name), 3) for name in COLUMNS[1:])] for row in rows]
    return align([COLUMNS, *cells])
