"""Steering the residual stream.

Layer L's residual h is the output of decoder block L. Of one row of the batch and one position, let k = 1…K be the
steers of that row at that layer that apply to that position, and d_k = v_k / ‖v_k‖ (the zero vector's is zero). Each of
them moves the residual along its own direction, by what it sees in the same h:

    add      Δ_k = α_k·v_k
    ablate   Δ_k = −⟨h, d_k⟩·d_k                       the component along d_k is gone
    set      Δ_k = (α_k·‖v_k‖ − ⟨h, d_k⟩)·d_k          the component along d_k is α_k·‖v_k‖, whatever it was

    h' = h + Σ_k Δ_k
    h' ← h'·‖h‖ / ‖h'‖       where one of them has `keep_norm`; a zero h' stays zero

Ablation is that of Arditi et al., "Refusal in language models is mediated by a single direction" (2024), §2.4: there at
every layer, here at the layers asked for. Since all Δ_k are computed from the same h, the order of steers means
nothing, and two that ablate or set along directions that are not orthogonal leave a component along each.

All of this in float64, rounded once to the residual's dtype: an inner product over 2,560 numbers in float32 is off by
tens of times what rounding the residual is, and a receipt would have to forgive it. A position that no steer applies to
is left bit for bit as it is, and so is one where they only add nothing (α = 0).

The *witness* is a second hook, on whatever module receives the residual next. It measures what really arrives there,
not what the first hook believes that it returned, so a hook in the wrong place, one that runs too late, or a model that
ignores the returned value shows up in the receipt (`witness` has the formulas). It measures every row of the batch:
those that nothing is to happen to must be found as they left, neighbours of a steered one too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from capvec.engines.transformers.hooks.accumulator import Accumulator, Accumulators
from capvec.engines.transformers.hooks.downstream import Terms, ratio
from capvec.engines.transformers.hooks.path import ResidualPath, hidden_of
from capvec.engines.transformers.hooks.positions import steered_at
from capvec.errors import SteeringFault


@contextmanager
def steer(
    path: ResidualPath,
    rows: Sequence[Accumulators],
    mask: Tensor,
    *,
    generated: bool = False,
    assistant: Tensor | None = None,
) -> Iterator[None]:
    """Steer every forward pass inside the context; the hooks are gone afterwards, whatever happened.

    Args:
        path: where the residual goes.
        rows: the meters of each batch row; one without steers is left bit for bit as it is, and is watched.
        mask: bool `[batch, positions]`, true where a position is real and not padding; only those are steered and
            measured. Best on the CPU, as the next one.
        generated: whether the tokens were generated and are fed back; else they are of the prompt.
        assistant: bool `[batch, positions]`, which tokens of the prompt assistant messages say; needed where a steer is
            for those.

    Raises:
        SteeringFault: `assistant` is needed and missing; or, inside the forward pass, when a block's output is not a
            residual of this batch.
    """
    layers = sorted({meter.steer.layer for row in rows for meter in row.steers})
    mask = mask.cpu()
    with ExitStack() as stack:
        for layer in layers:
            here = [row.at(layer) for row in rows]
            site = _Site(layer, rows, here, mask, _applies(here, mask, generated, assistant), path.names)
            block, receiver = path.blocks[layer], path.receiver(layer)
            stack.callback(block.register_forward_hook(site.move).remove)
            if receiver is not None:
                stack.callback(receiver.register_forward_pre_hook(site.witness_input, with_kwargs=True).remove)
            else:
                stack.callback(block.register_forward_hook(site.witness_output).remove)
            for row in rows:
                row.sites += 1
        yield


def _applies(here: Sequence[Sequence[Accumulator]], mask: Tensor, generated: bool, assistant: Tensor | None) -> Tensor:
    """Where each meter's steer applies: bool `[batch, positions, steers]`, on the CPU; rows with fewer are padded."""
    applies = torch.zeros(*mask.shape, max(map(len, here)), dtype=torch.bool)
    for index, row in enumerate(here):
        said = assistant[index].cpu() if assistant is not None else None
        for number, meter in enumerate(row):
            applies[index, :, number] = steered_at(
                meter.steer.positions, mask[index], generated=generated, assistant=said
            )
    return applies


@dataclass
class _Site:
    """The hooks at one layer: moves the block's output, then measures what arrives at the next module.

    Everything that is not arithmetic on residuals happens when it is made, before the forward pass.
    """

    layer: int
    rows: Sequence[Accumulators]
    here: Sequence[Sequence[Accumulator]]
    """Of each row, the meters of its steers at this layer."""
    mask: Tensor
    applies: Tensor
    """bool `[batch, positions, steers]`, on the CPU."""
    names: Mapping[nn.Module, str]
    _before: tuple[nn.Module, Tensor] | None = field(default=None, init=False)
    """The block that ran, and its output before the steer."""

    def __post_init__(self) -> None:
        first = next(meter for row in self.here for meter in row)
        nothing, steers = torch.zeros_like(first.unit), self.applies.shape[-1]
        padded = [[*(meter.unit for meter in row), *([nothing] * (steers - len(row)))] for row in self.here]
        reach, follow = self._of_each(lambda meter: meter.reach), self._of_each(lambda meter: meter.follow)
        moves = self._of_each(lambda meter: float(not meter.idle)).any(-1)
        keeps = self._of_each(lambda meter: float(meter.steer.keep_norm)).any(-1) & moves
        still = self.mask & ~moves
        # Known here and on the CPU, so that no forward pass has to wait for the device to say it.
        self._any_applies, self._any_moves, self._any_keeps, self._any_still, self._any_follows = (
            bool(flags.any()) for flags in (self.applies, moves, keeps, still, follow)
        )
        self._passed, self._moved = self.mask.sum(1).tolist(), (self.mask & moves).sum(1).tolist()
        self._counts = self.applies.sum(1).tolist()
        device = first.unit.device
        reach, follow = torch.stack((reach, follow)).to(device)
        self._moves, keeps, self._still = torch.stack((moves, keeps, still)).to(device)
        self._terms = Terms(
            units=torch.stack([torch.stack(units) for units in padded]),
            reach=reach,
            follow=follow,
            applied=self.applies.to(device),
            keeps=keeps if self._any_keeps else None,
        )

    def _of_each(self, value: Any) -> Tensor:
        """A number of each meter where its steer applies, 0 elsewhere: float64 `[batch, positions, steers]`."""
        steers = self.applies.shape[-1]
        rows = [[*(float(value(meter)) for meter in row), *([0.0] * (steers - len(row)))] for row in self.here]
        return self.applies * torch.tensor(rows, dtype=torch.float64)[:, None, :]

    # ---------------------------------------------------------------------------------------- the steer

    def move(self, module: nn.Module, _args: Any, output: Any) -> Any:
        hidden = hidden_of(output)
        self._check(hidden)
        self._before = module, hidden
        for row in self.here:
            for meter in row:
                meter.fired += 1
        if not self._any_moves:
            return output
        terms, exact = self._terms, hidden.double()
        along = terms.reach
        if self._any_follows:
            along = along - terms.follow * (exact @ terms.units.mT)
        moved = exact + along @ terms.units
        if terms.keeps is not None:
            lengths = [torch.linalg.vector_norm(states, dim=-1) for states in (exact, moved)]
            moved = torch.where(terms.keeps[..., None], moved * ratio(*lengths)[..., None], moved)
        steered = torch.where(self._moves[..., None], moved.to(hidden.dtype), hidden)
        return (steered, *output[1:]) if isinstance(output, tuple) else steered

    def _check(self, hidden: Tensor) -> None:
        expected = (*self.mask.shape, self._terms.units.shape[-1])
        if hidden.shape != expected:
            raise SteeringFault(
                f"block {self.layer} gave a tensor of shape {tuple(hidden.shape)}; expected {expected} "
                "(batch, positions, d_model)"
            )

    # ---------------------------------------------------------------------------------------- the witness

    def witness_input(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        arrived = args[0] if args else kwargs.get("hidden_states")
        if not isinstance(arrived, Tensor):
            raise SteeringFault(f"nothing to measure after layer {self.layer}: the next module takes no hidden_states")
        self._measure(module, arrived)

    def witness_output(self, module: nn.Module, _args: Any, output: Any) -> None:
        self._measure(module, hidden_of(output))

    def _measure(self, receiver: nn.Module, arrived: Tensor) -> None:
        before, self._before = self._before, None
        if before is None or before[1].shape != arrived.shape:
            raise SteeringFault(f"the residual of layer {self.layer} did not arrive at the next module as it left")
        block, left = before
        was, now = left.double(), arrived.double()
        readings = self._terms.read(was, now, torch.finfo(arrived.dtype).eps) if self._any_applies else None
        leaks = self._leaks(was, now) if self._any_still else None
        places = {"block": self.names.get(block, "?"), "receiver": self.names.get(receiver, "?")}
        for index, (row, here) in enumerate(zip(self.rows, self.here, strict=True)):
            row.watch(leaks[index] if leaks is not None else None, steered=self._moved[index])
            for number, meter in enumerate(here):
                own = readings.of(index, number) if readings is not None else None
                meter.add(own, passed=self._passed[index], steered=self._counts[index][number], **places)

    def _leaks(self, was: Tensor, now: Tensor) -> Tensor:
        """The largest ‖h_out − h_in‖ of each row at positions that nothing was to touch, float64 `[batch]`."""
        return torch.where(self._still, torch.linalg.vector_norm(now - was, dim=-1), 0.0).amax(1)
