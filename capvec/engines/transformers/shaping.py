"""Logits as `Shaping` changes them before a token is drawn, for all rows of a batch at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from capvec.engines.generation import PLAIN, Shaping


class Shaped(NamedTuple):
    """A row of the batch: how it is shaped, and by what."""

    shaping: Shaping
    temperature: float
    """0 draws the most likely token, which no filter removes."""
    prompt: Sequence[int]
    reply: Sequence[int]
    """Its tokens so far."""


def shaped(logits: Tensor, rows: Sequence[Shaped]) -> Tensor:
    """The logits from which the rows draw, before the temperature divides them; removed tokens have −∞.

    A row's own logits alone decide its result.

    Args:
        logits: float32 `[rows, vocab]`; left as they are.
        rows: one for each row of the logits.
    """
    chosen = [index for index, row in enumerate(rows) if row.shaping != PLAIN]
    if not chosen:
        return logits
    asked = [rows[index] for index in chosen]
    some = _filtered(_penalised(_biased(logits[chosen], asked), asked), asked)
    result = logits.clone()
    result[chosen] = some
    return result


def _biased(logits: Tensor, rows: Sequence[Shaped]) -> Tensor:
    for index, row in enumerate(rows):
        within = {token: bias for token, bias in row.shaping.logit_bias.items() if token < logits.shape[1]}
        if within:
            logits[index, list(within)] += torch.tensor(list(within.values()), device=logits.device)
    return logits


def _penalised(logits: Tensor, rows: Sequence[Shaped]) -> Tensor:
    frequency = _column(logits, rows, lambda shaping: shaping.frequency_penalty)
    presence = _column(logits, rows, lambda shaping: shaping.presence_penalty)
    repetition = _column(logits, rows, lambda shaping: shaping.repetition_penalty)
    if bool((repetition != 1).any()):
        seen = torch.stack([_counts(logits, (*row.prompt, *row.reply)) for row in rows]) > 0
        logits = torch.where(seen, torch.where(logits > 0, logits / repetition, logits * repetition), logits)
    if bool((frequency != 0).any() or (presence != 0).any()):
        counts = torch.stack([_counts(logits, row.reply) for row in rows])
        logits = logits - frequency * counts - presence * (counts > 0)
    return logits


def _filtered(logits: Tensor, rows: Sequence[Shaped]) -> Tensor:
    """Without the tokens that `min_p`, then `top_k`, then `top_p` remove."""
    temperature = _column(logits, rows, lambda _: 1.0)
    temperature[:, 0] = torch.tensor([row.temperature or 1.0 for row in rows], device=logits.device)
    least = _column(logits, rows, lambda shaping: shaping.min_p)
    if bool((least > 0).any()):
        shares = torch.softmax(logits / temperature, dim=-1)
        logits = logits.masked_fill(shares < least * shares.amax(dim=-1, keepdim=True), -torch.inf)
    most = [row.shaping.top_k or logits.shape[1] for row in rows]
    if min(most) < logits.shape[1]:
        ordered = logits.topk(min(max(k for k in most if k < logits.shape[1]), logits.shape[1])).values
        last = torch.tensor([[min(k, ordered.shape[1]) - 1] for k in most], device=logits.device)
        limited = torch.tensor([[k < logits.shape[1]] for k in most], device=logits.device)
        logits = logits.masked_fill(limited & (logits < ordered.gather(1, last)), -torch.inf)
    share = _column(logits, rows, lambda shaping: shaping.top_p)
    if bool((share < 1).any()):
        ordered, order = torch.sort(logits, dim=-1)
        removed = torch.softmax(ordered / temperature, dim=-1).cumsum(dim=-1) <= 1 - share
        removed[:, -1] = False  # the most likely token stays
        removed &= share < 1
        logits = logits.masked_fill(removed.scatter(1, order, removed), -torch.inf)
    return logits


def _column(logits: Tensor, rows: Sequence[Shaped], value: Callable[[Shaping], float]) -> Tensor:
    """A value of each row, `[rows, 1]`."""
    return torch.tensor([[value(row.shaping)] for row in rows], dtype=logits.dtype, device=logits.device)


def _counts(logits: Tensor, tokens: Sequence[int]) -> Tensor:
    """How often each token of the vocabulary is among these, `[vocab]`."""
    vocabulary = logits.shape[1]
    known = torch.tensor([token for token in tokens if token < vocabulary], dtype=torch.long)
    return torch.bincount(known, minlength=vocabulary).to(logits.device, logits.dtype)
