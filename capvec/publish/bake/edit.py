"""The edit of a model: new values of a few tensors, and what rounding does to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from capvec.publish.bake.writers import Writer


@dataclass(frozen=True)
class Edit:
    """The difference between a baked model and its source."""

    tensors: Mapping[str, Tensor]
    """New values by parameter name, float32."""
    new_biases: tuple[str, ...] = ()
    """Modules that get a bias and had none."""
    unties: bool = False
    """Whether the output head keeps the embedding while the input's is edited."""


def add_bias(shifts: Sequence[tuple[Writer, Tensor]]) -> Edit:
    """Add α·v to the bias of each writer, where a missing bias counts as 0.

    Args:
        shifts: the last writer of each block, with α·v as float32 `[d_model]`.
    """
    tensors = {}
    for writer, shift in shifts:
        bias = writer.bias
        tensors[f"{writer.name}.bias"] = shift.clone() if bias is None else bias + shift
    return Edit(tensors, tuple(writer.name for writer, _ in shifts if writer.bias is None))


def orthogonalise(writers: Sequence[Writer], unit: Tensor) -> Edit:
    """W ← (I − d·dᵀ)·W and b ← (I − d·dᵀ)·b for every writer: Arditi et al. 2024, section 4.

    Args:
        writers: every module that writes into the residual.
        unit: d, float32 `[d_model]`, ‖d‖ = 1.
    """
    tensors = {}
    for writer in writers:
        for name, parameter in writer.module.named_parameters(recurse=False):
            along = writer.output_axis if parameter.ndim == 2 else 0
            tensors[f"{writer.name}.{name}"] = _without(parameter.detach(), unit, along)
    return Edit(tensors, unties=True)


def put(model: nn.Module, edit: Edit) -> None:
    """Give a model the new values. A tied head, which shares a parameter with an edited module, keeps the old one."""
    for name, value in edit.tensors.items():
        module, _, attribute = name.rpartition(".")
        setattr(model.get_submodule(module), attribute, nn.Parameter(value, requires_grad=False))


def lost_bias(edit: Edit, shifts: Sequence[tuple[Writer, Tensor]], dtype: torch.dtype) -> float:
    """The cost of rounding an addition to `dtype`: the largest ‖round(b) − b‖ / ‖α·v‖."""
    return max(
        _length(_rounded(bias, dtype) - bias) / _length(shift)
        for (writer, shift) in shifts
        for bias in (edit.tensors[f"{writer.name}.bias"],)
    )


def left_over(edit: Edit, writers: Sequence[Writer], unit: Tensor, dtype: torch.dtype) -> float:
    """The part of an ablated direction that rounding to `dtype` brings back: the largest ‖dᵀ·round(W′)‖ / ‖dᵀ·W‖.

    Call it before `put`, since it needs the source's weights.
    """
    parts = []
    for writer in writers:
        weight, new = writer.weight, edit.tensors[f"{writer.name}.weight"]
        before, after = (
            _length(torch.tensordot(w, unit, dims=([writer.output_axis], [0]))) for w in (weight, _rounded(new, dtype))
        )
        parts.append(after / before if before else 0.0)
    return max(parts)


def _without(tensor: Tensor, unit: Tensor, axis: int) -> Tensor:
    if tensor.ndim == 1:
        return tensor - (tensor @ unit) * unit
    if axis == 0:
        return tensor - torch.outer(unit, unit @ tensor)
    return tensor - torch.outer(tensor @ unit, unit)


def _rounded(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.to(dtype).float()


def _length(tensor: Tensor) -> float:
    return float(torch.linalg.vector_norm(tensor))
