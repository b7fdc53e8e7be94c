"""Capture the residuals of conversations, from which directions are estimated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from capvec.engines.transformers.hooks import record
from capvec.engines.transformers.loaded import LAST, LoadedModel, call
from capvec.errors import SteeringFault, UsageError
from capvec.pooling import mean_last_of
from capvec.records import Message

OF_THE_ASSISTANT = ("last-assistant", "mean-assistant")
"""Poolings that use the assistant's tokens."""


@dataclass(frozen=True)
class Prepared:
    """A conversation, ready for the forward pass."""

    ids: tuple[int, ...]
    """The rendered conversation, without what was cut from its left."""
    chosen: tuple[int, ...]
    """Positions in `ids` whose residuals are averaged; at least one."""
    tokens: int
    """Of the rendered conversation, before anything was cut."""
    truncated: int
    """Tokens cut from its left to fit the model's context."""
    truncated_assistant: int
    """How many of these are the assistant's; 0 for a pooling that does not use the assistant's tokens."""


def prepare(loaded: LoadedModel, messages: Sequence[Message], pooling: str, name: str) -> Prepared:
    """Render a conversation and choose the tokens whose residuals are averaged.

    A conversation that ends with a reply is rendered as it is; any other is rendered with the generation prompt. A
    conversation longer than the context loses tokens on its left. The pooling then chooses among the rest:

    * `last`: the last token, which is the end of the last reply or the token that the next reply is drawn from;
    * `last-assistant`: the assistant's last token, before the template closes the message;
    * `mean-assistant`: all of the assistant's tokens, in every message, those of worked examples included;
    * `mean-last:K`: the last K tokens, or all if there are fewer.

    Args:
        loaded: the model.
        messages: the conversation, not empty.
        pooling: one of `capvec.pooling.POOLINGS`, already checked.
        name: what to call the conversation in errors.

    Raises:
        UsageError: the chat template cannot render the conversation, or the pooling uses the assistant's tokens and
            there is none.
    """
    prompt, said = messages[-1]["role"] != "assistant", [False]
    try:
        if pooling in OF_THE_ASSISTANT:
            rendered = loaded.render_marked(messages, prompt=prompt)
            ids, said = rendered.ids, list(rendered.assistant)
        else:
            ids = tuple(loaded.render(messages, prompt=prompt))
    except UsageError as error:
        raise UsageError(f"{name}: {error}; leave it out") from error
    cut = max(0, len(ids) - loaded.context_length)
    spoken = [position for position, mine in enumerate(said[cut:]) if mine]
    if pooling in OF_THE_ASSISTANT and not spoken:
        why = (
            f"all of it is among the {cut} tokens cut to fit the context of {loaded.context_length}"
            if any(said)
            else "no assistant message of it says anything"
        )
        raise UsageError(f"{name}: no assistant token to pool ({pooling}): {why}; leave it out, or use `last`")
    kept = len(ids) - cut
    chosen = {
        "last": [kept - 1],
        "last-assistant": spoken[-1:],
        "mean-assistant": spoken,
    }.get(pooling, range(max(0, kept - (mean_last_of(pooling) or 0)), kept))
    return Prepared(ids[cut:], tuple(chosen), len(ids), cut, sum(said[:cut]))


@dataclass(frozen=True)
class Limits:
    """How many conversations share a forward pass on a device, in positions."""

    budget: int
    """Most positions of a batch, padding included; a single conversation may have more."""
    overhead: int
    """The fixed cost of a forward pass, in positions."""

    @classmethod
    def of(cls, device: torch.device) -> Limits:
        """The limits of a device.

        A GPU is bound by kernel launches up to some thousand positions. A CPU is bound by arithmetic from about a
        hundred, so a larger batch gains little there, and running replies wait for it.
        """
        return cls(16384, 2048) if device.type == "cuda" else cls(2048, 32)


def plan_batches(lengths: Sequence[int], limits: Limits) -> list[list[int]]:
    """Indices of conversations that share a forward pass, longest first.

    The cost of a batch is the overhead plus its positions, padding included. Of all ways to cut the conversations,
    sorted by length, into batches within the budget, dynamic programming finds the cheapest.

    Args:
        lengths: tokens of each conversation, at least 1.
        limits: of the device.
    """
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    cost, start = [0], [0]  # for the first n conversations: the least cost, and the start of their last batch
    for end in range(1, len(order) + 1):
        options: list[tuple[int, int]] = []
        for first in range(end - 1, -1, -1):
            # The first of a batch is the longest; the others are padded to its length.
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
        call(
            loaded.model,
            input_ids=ids.to(loaded.device),
            attention_mask=real.long().to(loaded.device),
            position_ids=positions.to(loaded.device),
            use_cache=False,
            logits_to_keep=LAST,
        )
    if len(kept) != loaded.n_layers:
        raise SteeringFault(f"{len(kept)} block outputs in one forward pass of a model with {loaded.n_layers} layers")
    return torch.stack(kept, dim=1).cpu()
