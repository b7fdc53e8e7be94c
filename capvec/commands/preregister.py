"""`capvec preregister`: a claim, and how a sweep tests it, in a file with a hash."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from capvec.plan.options import SweepOptions, parse_options

if TYPE_CHECKING:
    from capvec.results.preregistration import RegisteredDirection, RegisteredModel

EPILOG = """\
No model is loaded. Give a sweep the same options and --preregistration FILE:
its report begins with every departure. Make the hash known before the sweep.
A layer that --layer auto leaves to the ranking is registered as auto; pytest
-m sweep --plan --write-preregistration FILE registers the one that it finds.

example: capvec preregister --alpha 4 --layer 22 --tasks full --attempts 8 \\
           --gate "improves(steered-L22-a4)" \\
           --hypothesis "The vector solves more." claim.json
"""


def run(options: argparse.Namespace) -> int:
    """Write the file, and print its hash."""
    from capvec.results.gates import check_names  # noqa: PLC0415 (slow)
    from capvec.results.preregistration import check_new, preregister  # noqa: PLC0415
    from capvec.studies.sweep import SweepStudy  # noqa: PLC0415

    path = Path(options.FILE)
    check_new(path)
    asked = parse_options(options.typed, "preregister")
    model = replace(_model(asked.model), engine=None if asked.engine == "auto" else asked.engine)
    study, direction = SweepStudy(_with_layer(asked)), _direction(asked, model.name)
    configs = study.config_names()
    if asked.gate is not None:
        check_names(asked.gate, configs)
    registered = preregister(study.options, configs, study.tasks, model=model, direction=direction)
    registered.write(path)
    print(f"{path}: {registered.hash}")
    return 0


def _model(name: str) -> RegisteredModel:
    """The model by its name, and by its commit or what its folder holds; nothing is made or fetched."""
    from capvec.engines.model_files import folder_digest, hub_commit  # noqa: PLC0415
    from capvec.models.source import POCKET, POCKET_BASE, resolve_model  # noqa: PLC0415
    from capvec.results.preregistration import RegisteredModel  # noqa: PLC0415

    if name in {POCKET, POCKET_BASE}:
        return RegisteredModel(name)
    source = resolve_model(name)
    return RegisteredModel(source.name, folder_digest(Path(source.path_or_id)) or hub_commit(source.path_or_id))


def _with_layer(asked: SweepOptions) -> SweepOptions:
    """The options, with the layer that the direction's file names where none was."""
    from capvec.directions.direction import named_direction  # noqa: PLC0415

    if asked.direction is None or asked.layers is not None:
        return asked
    layer = named_direction("--direction", asked.direction).layer
    return asked if layer is None else replace(asked, layers=((layer,),))


def _direction(asked: SweepOptions, model: str) -> RegisteredDirection:
    """The direction of the file, or the traces that it will be built from, and how."""
    from capvec.commands.shared import traces_of  # noqa: PLC0415
    from capvec.directions.contrast import select_contrast  # noqa: PLC0415
    from capvec.directions.direction import named_direction  # noqa: PLC0415
    from capvec.results.preregistration import RegisteredDirection  # noqa: PLC0415

    if asked.direction is not None:
        return RegisteredDirection(named_direction("--direction", asked.direction).hash)
    traces, _ = traces_of(asked.traces, asked.recipe)
    return RegisteredDirection(None, select_contrast(asked.recipe, traces, model).hash, asked.recipe)
