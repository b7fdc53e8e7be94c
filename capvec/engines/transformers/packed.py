"""Linear layers on a CPU, with the same weights in half the memory.

Decoding reads every weight at every step, so memory decides its speed. Here a float32 input is multiplied by weights
stored in float16, and the products are summed in float32 (FBGEMM's kernel). A weight that was stored in bfloat16 has 8
significant bits, of which float16 has 11, but over a smaller range. Multiplied by a power of two, which changes no bit,
the weights of a layer fit into that range. A layer is packed only if every weight of it fits exactly. A packed model
therefore is the float32 model: its results differ by the order in which terms are summed, as between two machines.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

_TOP = 15
"""A scaled layer's largest weight lies between 2¹⁴ and 2¹⁵; float16 ends at 65504, just below 2¹⁶."""


class PackedLinear(nn.Module):
    """A linear layer without gradient, whose weights are packed."""

    unscale: Tensor | None
    bias: Tensor | None

    def __init__(self, scaled: Tensor, scale: float, bias: Tensor | None) -> None:
        """Args:
        scaled: the weights times `scale`, float32 `[out_features, in_features]`; float16 must hold them exactly.
        scale: a power of two.
        bias: float32 `[out_features]`, or None.
        """
        super().__init__()
        self.out_features, self.in_features = scaled.shape
        self._packed = torch.ops.quantized.linear_prepack_fp16(scaled, None)
        self.register_buffer("unscale", torch.tensor(1 / scale) if scale != 1.0 else None, persistent=False)
        self.register_buffer("bias", bias, persistent=False)

    @property
    def weight(self) -> Tensor:
        """The weights, float32 `[out_features, in_features]`, unpacked anew each time for code that reads them."""
        scaled, _ = torch.ops.quantized.linear_unpack_fp16(self._packed)
        weight: Tensor = scaled.float()
        return weight if self.unscale is None else weight * self.unscale

    def forward(self, states: Tensor) -> Tensor:
        """float32 `[…, in_features]` to `[…, out_features]`."""
        result: Tensor = torch.ops.quantized.linear_dynamic_fp16(states, self._packed)
        if self.unscale is not None:
            result.mul_(self.unscale)
        return result if self.bias is None else result.add_(self.bias)


def pack(model: nn.Module) -> None:
    """Pack the linear layers of a model in place: those in float32 on a CPU that fit, if this build of torch can."""
    if "fbgemm" not in torch.backends.quantized.supported_engines:
        return
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear and (packed := packed_linear(child)) is not None:
                setattr(parent, name, packed)


def packed_linear(layer: nn.Linear) -> PackedLinear | None:
    """The layer with packed weights; None if it is not in float32 on a CPU, or float16 does not hold its weights."""
    weight = layer.weight.detach()
    if weight.dtype != torch.float32 or weight.device.type != "cpu" or not bool(weight.isfinite().all()):
        return None
    _, exponent = math.frexp(float(weight.abs().max()))
    for scale in (1.0, 2.0 ** min(_TOP - exponent, 100)):
        scaled = weight * scale
        if torch.equal(scaled.half().float(), scaled):
            return PackedLinear(scaled, scale, layer.bias)
    return None
