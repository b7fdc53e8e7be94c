"""Linear layers on a CPU, with the same weights in half the memory.

Decoding reads every weight at every step, so memory decides its speed. Here a float32 input is multiplied by weights
stored in float16, and the products are summed in float32 (FBGEMM's kernel). A weight that was stored in bfloat16 has 8
significant bits, of which float16 has 11, but over a smaller range. Multiplied by a power of two, which changes no bit,
the weights of a layer fit into that range. A layer is packed only if every weight of it fits exactly. A packed model
therefore is the float32 model: its results differ by the order in which terms are summed, as between two machines.

Layers that read the same input, such as an attention's queries, keys and values, are one product. A step of one row has
so little to compute that handing a product to the threads takes as long as a small one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate, pairwise

import torch
from torch import Tensor, nn

_TOP = 15
"""A scaled layer's largest weight lies between 2¹⁴ and 2¹⁵; float16 ends at 65504, just below 2¹⁶."""

SIBLINGS = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
"""Names of layers that a module, in the models of transformers, applies to the same input."""


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


class PackedSibling(nn.Module):
    """One of several layers that are one product."""

    def __init__(self, product: SharedProduct, outputs: slice) -> None:
        """Args:
        product: of all of them.
        outputs: which of its outputs are this layer's.
        """
        super().__init__()
        self.product, self._outputs = product, outputs
        self.in_features, self.out_features = product.linear.in_features, outputs.stop - outputs.start

    @property
    def weight(self) -> Tensor:
        """As `PackedLinear.weight`."""
        return self.product.linear.weight[self._outputs]

    def forward(self, states: Tensor) -> Tensor:
        """float32 `[…, in_features]` to `[…, out_features]`, a view of all outputs."""
        outputs: Tensor = self.product(states)
        return outputs[..., self._outputs]


class SharedProduct(nn.Module):
    """The product of several layers, computed when the first of them is given an input, and kept for the others.

    A layer that is given another input has all computed for that one: no result depends on who asked before.
    """

    def __init__(self, linear: PackedLinear, layers: int) -> None:
        super().__init__()
        self.linear, self._layers = linear, layers
        self._kept: tuple[Tensor, Tensor] | None = None
        """Input and output, until every layer has taken its part."""
        self._taken = 0

    def forward(self, states: Tensor) -> Tensor:
        """The outputs of all layers."""
        if self._kept is None or self._kept[0] is not states:
            self._kept, self._taken = (states, self.linear(states)), 0
        self._taken += 1
        output = self._kept[1]
        if self._taken == self._layers:
            self._kept = None
        return output


def pack(model: nn.Module) -> None:
    """Pack the linear layers of a model in place: those in float32 on a CPU that fit, if this build of torch can."""
    if "fbgemm" not in torch.backends.quantized.supported_engines:
        return
    for parent in list(model.modules()):
        linears = {name: child for name, child in parent.named_children() if type(child) is nn.Linear}
        for names in SIBLINGS:
            if linears.keys() >= set(names):
                for name, sibling in zip(names, packed_siblings([linears[name] for name in names]), strict=False):
                    setattr(parent, name, sibling)
                    del linears[name]
        for name, linear in linears.items():
            if (packed := packed_linear(linear)) is not None:
                setattr(parent, name, packed)


def packed_siblings(layers: Sequence[nn.Linear]) -> list[PackedSibling]:
    """Layers of the same input as one product; none if they cannot be one, or float16 does not hold it."""
    if len({(one.in_features, one.bias is None, one.weight.dtype, one.weight.device) for one in layers}) > 1:
        return []
    biases = [one.bias.detach() for one in layers if one.bias is not None]
    together = nn.Linear(1, 1, bias=bool(biases))
    together.weight = nn.Parameter(torch.cat([one.weight.detach() for one in layers]), requires_grad=False)
    if biases:
        together.bias = nn.Parameter(torch.cat(biases), requires_grad=False)
    packed = packed_linear(together)
    if packed is None:
        return []
    product, ends = SharedProduct(packed, len(layers)), list(accumulate(one.out_features for one in layers))
    return [PackedSibling(product, slice(*ends)) for ends in pairwise([0, *ends])]


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
