"""Capture residuals: what a direction is estimated from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from capvec.engines.transformers.hooks import record
from capvec.engines.transformers.models import LoadedModel
from capvec.errors import SteeringFault, UsageError
from capvec.pooling import mean_last_of
from capvec.records import Message

OF_THE_ASSISTANT = ("last-assistant", "mean-assistant")
"""Poolings that need to know which tokens the assistant said."""


@dataclass(frozen=True)
class Prepared:
    """A conversation as it is captured."""

    ids: tuple[int, ...]
    """What the model reads: the rendered conversation without what was cut from its left."""
    chosen: tuple[int, ...]
    """Positions in `ids` whose residuals are averaged; at least one."""
    tokens: int
    """Of the rendered conversation, before anything was cut."""
    truncated: int
    """Tokens cut from its left to fit the model's context."""
    truncated_assistant: int
    """How many of those the assistant said; 0 for a pooling that does not ask."""


def prepare(loaded: LoadedModel, messages: Sequence[Message], pooling: str, name: str) -> Prepared:
    """Render a conversation and choose the tokens whose residuals are averaged.

    A conversation that ends with a reply is rendered as it is; any other with the generation prompt, since the model is
    about to speak. One that is longer than the context loses tokens on its left. Then, of what is left:

    * `last`: the last token: the end of the last reply, or the token that the coming reply is drawn from.
    * `last-assistant`: the last token that the assistant said, before the template closes the message.
    * `mean-assistant`: all tokens that the assistant said, in every message. Worked examples at the start of a
      conversation are assistant messages too and count, since a conversation does not mark them.
    * `mean-last:K`: the last K tokens, or all where there are fewer.

    Args:
        loaded: the model.
        messages: the conversation, not empty.
        pooling: one of `capvec.directions.recipe.POOLINGS`, already checked.
        name: what to call the conversation in errors.

    Raises:
        UsageError: the pooling needs the assistant's tokens and there is none.
    """
    prompt, said = messages[-1]["role"] != "assistant", [False]
    if pooling in OF_THE_ASSISTANT:
        rendered = loaded.render_marked(messages, prompt=prompt)
        ids, said = rendered.ids, list(rendered.assistant)
    else:
        ids = tuple(loaded.render(messages, prompt=prompt))
    cut = max(0, len(ids) - loaded.context_length)
    spoken = [position for position, mine in enumerate(said[cut:]) if mine]
    if pooling in OF_THE_ASSISTANT and not spoken:
        why = (
            f"all of it is among the {cut} tokens cut to fit the context of {loaded.context_length}"
            if any(said)
            else "no assistant message of it says anything"
        )
        raise UsageError(f"{name}: no token of the assistant's to pool ({pooling}): {why}; leave it out, or use `last`")
    kept = len(ids) - cut
    chosen = {
        "last": [kept - 1],
        "last-assistant": spoken[-1:],
        "mean-assistant": spoken,
    }.get(pooling, range(max(0, kept - (mean_last_of(pooling) or 0)), kept))
    return Prepared(ids[cut:], tuple(chosen), len(ids), cut, sum(said[:cut]))


@dataclass(frozen=True)
class Limits:
    """How conversations share forward passes on a kind of device, in positions."""

    budget: int
    """Of one batch, padding included; a conversation alone may have more."""
    overhead: int
    """What a forward pass costs beside its positions, as so many of them."""

    @classmethod
    def of(cls, device: torch.device) -> Limits:
        """A GPU is bound by the launches of a pass up to some thousand positions. A CPU is bound by its arithmetic from
        the first hundred on: there a batch gains little, and replies in flight wait for it.
        """
        return cls(16384, 2048) if device.type == "cuda" else cls(2048, 32)


def plan_batches(lengths: Sequence[int], limits: Limits) -> list[list[int]]:
    """Indices of conversations that share a forward pass, longest first.

    Of all ways to cut the conversations, sorted by length, into batches within the budget, the one with the least cost:
    of a batch, the overhead and its positions, padding included. By dynamic programming over where the batches end.

    Args:
        lengths: tokens of each conversation, at least 1.
        limits: of the device.
    """
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    cost, start = [0], [0]  # of the first n conversations: the least cost, and where the last batch begins
    for end in range(1, len(order) + 1):
        options: list[tuple[int, int]] = []
        for first in range(end - 1, -1, -1):
            # The first of a batch is its longest, which the others are padded to.
            positions = (end - first) * lengths[order[first]]
            if options and positions > limits.budget:
                break
            options.append((cost[first] + limits.overhead + positions, first))
        least, first = min(options)
        cost.append(least)
        start.append(first)
    batches: list[list[int]] = []
    end = len(order)
    while end:
        batches.insert(0, order[start[end] : end])
        end = start[end]
    return batches


@torch.inference_mode()
def capture_batch(
    loaded: LoadedModel, batch: Sequence[Prepared], *, padding: Literal["left", "right"] = "left"
) -> Tensor:
    """The residual of every layer, pooled, of conversations in one forward pass, without a cache.

    Beyond what the forward pass itself needs, only `[batch, d_model]` of each layer is kept (`hooks.record`), and
    logits are made for one position of each row, not for all.

    Args:
        loaded: the model.
        batch: conversations; shorter ones are padded.
        padding: the side; the residuals are the same, up to rounding.

    Returns:
        float32 `[batch, n_layers, d_model]` on the CPU.

    Raises:
        SteeringFault: the model did not run through each of its blocks once.
    """
    width = max(len(one.ids) for one in batch)
    starts = [width - len(one.ids) if padding == "left" else 0 for one in batch]
    ids = torch.zeros(len(batch), width, dtype=torch.long)
    real, chosen = torch.zeros(2, len(batch), width, dtype=torch.bool)
    for row, (one, start) in enumerate(zip(batch, starts, strict=True)):
        ids[row, start : start + len(one.ids)] = torch.tensor(one.ids)
        real[row, start : start + len(one.ids)] = True
        chosen[row, start + torch.tensor(one.chosen)] = True
    positions = (real.long().cumsum(dim=1) - 1).clamp(min=0)
    with record(loaded.path, chosen.to(loaded.device)) as kept:
        loaded.model(
            input_ids=ids.to(loaded.device),
            attention_mask=real.long().to(loaded.device),
            position_ids=positions.to(loaded.device),
            use_cache=False,
            logits_to_keep=1,
        )
    if len(kept) != loaded.n_layers:
        raise SteeringFault(f"{len(kept)} block outputs in one forward pass of a model with {loaded.n_layers} layers")
    return torch.stack(kept, dim=1).cpu()
