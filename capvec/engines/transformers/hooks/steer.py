"""Steering the residual stream.

Layer L's residual h is the output of decoder block L. For one row of the batch and one position, let k = 1…K be the
steers of that row at that layer that apply to that position, and d_k = v_k / ‖v_k‖ (zero for a zero vector). Each steer
moves the residual along its own direction, by an amount computed from the same h:

    add      Δ_k = α_k·v_k
    ablate   Δ_k = −⟨h, d_k⟩·d_k                       removes the component along d_k
    set      Δ_k = (α_k·‖v_k‖ − ⟨h, d_k⟩)·d_k          makes the component along d_k α_k·‖v_k‖

    h' = h + Σ_k Δ_k
    h' ← h'·‖h‖ / ‖h'‖       where one of them has `keep_norm`; a zero h' stays zero

Ablation follows Arditi et al. (2024), "Refusal in language models is mediated by a single direction", §2.4. They ablate
at every layer; here the request chooses the layers. Since all Δ_k are computed from the same h, the order of steers has
no effect, and two steers that ablate or set along directions that are not orthogonal leave a component along each.

The arithmetic is in float64 and is rounded once to the residual's dtype: an inner product over 2,560 numbers in float32
is off by tens of times the rounding error of the residual, and a receipt would have to tolerate it. A position without
a steer keeps its bits, and so does one whose steers only add with α = 0.

The *downstream probe* is a second hook, on the module that receives the residual next. It measures what arrives there
and not what the first hook returned. A hook in the wrong place, a hook that runs too late and a model that ignores the
returned value therefore show up in the receipt (formulas: `hooks.downstream`). The probe measures every row of the
batch: positions without a steer must arrive unchanged, in rows beside a steered row too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor

from capvec.engines.transformers.hooks.accumulator import Accumulator, Accumulators
from capvec.engines.transformers.hooks.path import ResidualPath
from capvec.engines.transformers.hooks.positions import steered_at
from capvec.engines.transformers.hooks.site import Site


@contextmanager
def steer(
    path: ResidualPath,
    rows: Sequence[Accumulators],
    mask: Tensor,
    *,
    generated: bool = False,
    assistant: Tensor | None = None,
    unfinished: bool = False,
) -> Iterator[None]:
    """Steer the forward passes inside the context. Its hooks are removed at the end, after an exception too.

    The steer runs before all other hooks of the block and the probe after all other pre-hooks of the receiver, so that
    what another hook does in between is measured.

    Args:
        path: the residual stream's modules.
        rows: the accumulators of each batch row. A row without steers keeps its bits and is measured too.
        mask: bool `[batch, positions]`, true where a position is real and false for padding; only real positions are
            steered and measured. Keep it and `assistant` on the CPU, where they are read.
        generated: whether the tokens were generated and are fed back; otherwise they belong to the prompt.
        assistant: bool `[batch, positions]`, which prompt tokens belong to assistant messages; required by a steer at
            those positions.
        unfinished: whether a later pass reads the rest of the same prompt. It counts as one pass with that one.

    Raises:
        SteeringFault: `assistant` is required and missing; or, inside the forward pass, a block's output is not a
            residual of this batch.
    """
    layers = sorted({one.steer.layer for row in rows for one in row.steers})
    mask = mask.cpu()
    with ExitStack() as stack:
        for layer in layers:
            here = [row.at(layer) for row in rows]
            site = Site(layer, rows, here, mask, _applies(here, mask, generated, assistant), path.names, unfinished)
            block, receiver = path.blocks[layer], path.receiver(layer)
            stack.callback(block.register_forward_hook(site.move, prepend=True).remove)
            if receiver is not None:
                stack.callback(receiver.register_forward_pre_hook(site.probe_input, with_kwargs=True).remove)
            else:
                stack.callback(block.register_forward_hook(site.probe_output).remove)
            for row in rows:
                row.sites += not unfinished
        yield


def _applies(here: Sequence[Sequence[Accumulator]], mask: Tensor, generated: bool, assistant: Tensor | None) -> Tensor:
    """Where each steer applies: bool `[batch, positions, steers]`, on the CPU; rows with fewer steers are padded."""
    applies = torch.zeros(*mask.shape, max(map(len, here)), dtype=torch.bool)
    for index, row in enumerate(here):
        said = assistant[index].cpu() if assistant is not None else None
        for number, one in enumerate(row):
            applies[index, :, number] = steered_at(
                one.steer.positions, mask[index], generated=generated, assistant=said
            )
    return applies
