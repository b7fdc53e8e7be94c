"""Runs `capvec bake`: from an order to a finished folder, or to none."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import transformers

from capvec import __version__
from capvec.directions.direction import Direction, named_direction
from capvec.engines.protocol import ModelSource
from capvec.engines.transformers.loaded import LoadedModel
from capvec.engines.transformers.models import load_model, stored_dtype
from capvec.errors import UsageError
from capvec.models.source import resolve_model
from capvec.publish.bake.folder import write_folder
from capvec.publish.bake.order import BakeOrder
from capvec.publish.bake.plan import apply, make_plan
from capvec.publish.bake.proof import Reference, conversations, observe, prove
from capvec.publish.bake.record import BAKED, Baked
from capvec.results.lock import LOCK, locked_new
from capvec.storage import write_text, writing


def bake(order: BakeOrder, say: Callable[[str], None]) -> Baked:
    """Write the folder and prove that it matches the hook. On a failure there is no folder.

    Raises:
        UsageError: the order cannot be carried out, for instance because of the architecture.
        BakeMismatch: the folder does not match the hook, and was removed.
    """
    with (
        locked_new(order.out, "--out"),
        tempfile.TemporaryDirectory(dir=order.out.parent, prefix=".baking-") as scratch,
    ):
        made = Path(scratch) / order.out.name
        source = resolve_model(order.model, say)
        reference, finished = _write(order, source, made, say)
        say("loading the folder and running the baked model on the same conversations")
        again = _load(str(made), source)
        baked = finished(architecture=type(again.model).__name__, proof=prove(reference, again))
        write_text(made / BAKED, json.dumps(baked.to_json(), indent=2) + "\n")
        with writing(order.out):
            (order.out / LOCK).unlink()  # only an empty folder can be replaced by another
            os.replace(made, order.out)
    return baked


def _write(
    order: BakeOrder, source: ModelSource, made: Path, say: Callable[[str], None]
) -> tuple[Reference, Callable[..., Baked]]:
    """Run the source under the hook, edit it and save it. It leaves memory before the baked model is loaded.

    Returns:
        The observations of the hooked model, and the record, which lacks `architecture` and `proof`.
    """
    say(f"loading {source.name} in float32")
    loaded = _load(source.path_or_id, source)
    direction, dtype = _direction(order, loaded), stored_dtype(source.path_or_id)
    plan = make_plan(order, loaded, direction, dtype)
    say(f"{order.in_words()}; running the hooked model")
    prompts = conversations(loaded, source.defaults.prompt_style)
    reference = observe(loaded, prompts, plan.hook, plan.rounded)
    apply(plan, loaded, prompts[0])
    say("writing the folder")
    needs_remote_code = write_folder(made, loaded, source, plan.edit, dtype)
    finished = partial(
        Baked,
        model=source.name,
        revision=loaded.revision,
        op=order.op,
        direction=direction.hash,
        direction_file=order.direction.name,
        layers=order.layers,
        alpha=order.alpha,
        alpha_unit=order.alpha_unit,
        stored_alphas=plan.stored_alphas,
        doses=plan.doses,
        changed=tuple(plan.edit.tensors),
        needs_remote_code=needs_remote_code,
        dtype=str(dtype).removeprefix("torch."),
        rounding=plan.rounding,
        versions={"capvec": __version__, "torch": torch.__version__, "transformers": transformers.__version__},
    )
    return reference, finished


def _load(path_or_id: str, source: ModelSource) -> LoadedModel:
    return load_model(path_or_id, label=source.name, context_length=source.context_length, dtype="float32")


def _direction(order: BakeOrder, loaded: LoadedModel) -> Direction:
    """The direction, checked against the model.

    Raises:
        UsageError: the direction does not fit the model, or the model's weights cannot be edited.
    """
    if getattr(loaded.model.config, "quantization_config", None) is not None:
        raise UsageError(
            f"{loaded.name} is quantised, so its weights cannot be edited; bake the model before quantisation"
        )
    last = loaded.n_layers - 1
    for layer in order.layers:
        if layer > last:
            raise UsageError(f"--layer {layer}: {loaded.name} has layers 0 to {last}; expected one of them")
    return named_direction("--direction", order.direction, loaded.n_layers, loaded.d_model)


def report(baked: Baked, out: Path) -> str:
    """What was made and what the proof measured, for a terminal."""
    proof = baked.proof
    cost = f"; in {baked.dtype}, rounding costs {baked.rounding:.1%} of the steer" if baked.rounding > 1e-6 else ""
    load = ", trust_remote_code=True" if baked.needs_remote_code else ""
    return (
        f"{out}: {len(baked.changed)} tensors changed, stored in float32{cost}\n"
        f"proved on {proof.conversations} conversations in float32: max |Δlogit| {proof.difference:.2g} over "
        f"{proof.positions} positions (rounding allows {proof.tolerance:.2g}; without the steer {proof.effect:.2g}), "
        f"{proof.tokens_equal} of {proof.tokens} greedy tokens equal\n"
        f"load it with from_pretrained({str(out)!r}{load}), or run pytest -m sweep --model {out}"
    )
