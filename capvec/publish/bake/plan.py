"""A steer in both forms, as a hook and as an edit, and the check that both change the residual alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from capvec.directions.direction import Direction
from capvec.engines.transformers.hooks import ablate_writes, accumulators, component, steer, watch
from capvec.engines.transformers.loaded import LoadedModel
from capvec.errors import UsageError
from capvec.publish.bake.edit import Edit, add_bias, left_over, lost_bias, orthogonalise, put
from capvec.publish.bake.order import BakeOrder
from capvec.publish.bake.proof import Hook, Tokens, no_hook
from capvec.publish.bake.writers import all_writers, mlp_writer
from capvec.steering import Steer

LEFT = 1e-4
"""Largest error from rounding, as a fraction of a residual's length. Some hundred writes, each a sum of some thousand
terms rounded to 2⁻²⁴, err by less than 1e-5; a norm after a writer makes a difference of 0.01 to 1."""


@dataclass(frozen=True)
class Plan:
    """Both forms of the steer that `capvec bake` applies."""

    hook: Hook
    edit: Edit
    layers: tuple[int, ...]
    rounded: Sequence[nn.Module]
    """Modules whose outputs the edit and the hook round differently."""
    rounding: float
    """See `Baked.rounding`."""
    unit: Tensor | None = None
    """d of an ablation, float32 `[d_model]`."""
    stored_alphas: tuple[float, ...] = ()
    doses: tuple[float | None, ...] = ()


def make_plan(order: BakeOrder, loaded: LoadedModel, direction: Direction, dtype: torch.dtype) -> Plan:
    """Make both forms of the steer, for a model loaded in float32 whose own dtype is `dtype`.

    Raises:
        UsageError: the direction is zero at a layer, or the architecture has a writer that is not known.
    """
    return (_addition if order.op == "add" else _ablation)(order, loaded, direction, dtype)


def _addition(order: BakeOrder, loaded: LoadedModel, direction: Direction, dtype: torch.dtype) -> Plan:
    alphas = tuple(direction.stored_alpha(order.alpha or 0.0, order.alpha_unit, layer) for layer in order.layers)
    vectors = [torch.tensor(direction.vectors[layer], device=loaded.device) for layer in order.layers]
    steers = [Steer(layer, direction.hash, alpha) for layer, alpha in zip(order.layers, alphas, strict=True)]
    row = accumulators(steers, vectors)
    shifts = [
        (mlp_writer(loaded, layer), alpha * vector)
        for layer, alpha, vector in zip(order.layers, alphas, vectors, strict=True)
    ]
    edit = add_bias(shifts)
    return Plan(
        hook=lambda n: steer(loaded.path, [row], torch.ones(1, n, dtype=torch.bool)),
        edit=edit,
        layers=order.layers,
        rounded=[loaded.path.blocks[layer] for layer in order.layers],
        rounding=lost_bias(edit, shifts, dtype),
        stored_alphas=alphas,
        doses=tuple(direction.dose(alpha, layer) for layer, alpha in zip(order.layers, alphas, strict=True)),
    )


def _ablation(order: BakeOrder, loaded: LoadedModel, direction: Direction, dtype: torch.dtype) -> Plan:
    unit = torch.tensor(direction.unit(order.layers[0]), dtype=torch.float32, device=loaded.device)
    writers = all_writers(loaded)
    edit = orthogonalise(writers, unit)
    modules = [writer.module for writer in writers]
    return Plan(
        hook=lambda _n: ablate_writes(modules, unit),
        edit=edit,
        layers=order.layers,
        rounded=modules,
        rounding=left_over(edit, writers, unit, dtype),
        unit=unit,
    )


@torch.inference_mode()
def apply(plan: Plan, loaded: LoadedModel, tokens: Tokens) -> None:
    """Edit the loaded model, and check on one conversation that the edit reaches the residual unchanged.

    Raises:
        UsageError: it does not: the bias arrives changed after its block, or a residual still has a component along
            the ablated direction.
    """
    before = _residuals(loaded, tokens, plan.hook)
    put(loaded.model, plan.edit)
    after = _residuals(loaded, tokens, no_hook)
    if plan.unit is None:
        first = min(plan.layers)  # up to this layer both are the same numbers
        apart = torch.linalg.vector_norm(after[first] - before[first], dim=-1)
        wrong = float((apart / torch.linalg.vector_norm(before[first], dim=-1)).max())
        found = f"with the bias, the residual after block {first} is wrong by {wrong:.2g} of its length"
    else:
        wrong = component(after, plan.unit)
        found = f"{wrong:.2g} of a residual's length is left along the direction"
    if not wrong <= LEFT:
        raise UsageError(
            f"{type(loaded.model).__name__} cannot be baked: {found}. A module between its linear maps and the "
            "residual changes what they write, such as Gemma's post_feedforward_layernorm or a residual multiplier. "
            "Steer this model by hooks."
        )


def _residuals(loaded: LoadedModel, tokens: Tokens, hook: Hook) -> Tensor:
    """The residual of every layer on one conversation, float32 `[n_layers, 1, positions, d_model]`."""
    ids = torch.tensor([tokens], device=loaded.device)
    with hook(len(tokens)), watch(loaded.path.blocks) as seen:
        loaded.model(input_ids=ids, use_cache=False, logits_to_keep=1)
    return torch.stack(seen)
