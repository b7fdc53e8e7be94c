"""Capture residuals: what a direction is estimated from."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from capvec.engine.hooks import record
from capvec.engine.models import LoadedModel
from capvec.records import Message


@torch.inference_mode()
def capture_last(loaded: LoadedModel, messages: Sequence[Message]) -> tuple[Tensor, int]:
    """The residual of every layer at the last token of a conversation.

    A conversation that ends with a reply is rendered as it is: its last token ends that reply. Any other is rendered
    with the generation prompt: the model is about to speak, and its last token is the one the reply is drawn from.
    A conversation that is longer than the context loses tokens on its left.

    Returns:
        float32 `[n_layers, d_model]` on the CPU, and the number of tokens that were cut.
    """
    tokens = loaded.render(messages, prompt=messages[-1]["role"] != "assistant")
    cut = max(0, len(tokens) - loaded.context_length)
    ids = torch.tensor([tokens[cut:]], device=loaded.device)
    with record(loaded.path, torch.tensor([ids.shape[1] - 1], device=loaded.device)) as kept:
        loaded.model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False, logits_to_keep=1)
    return torch.cat(kept).cpu(), cut
