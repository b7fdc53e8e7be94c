"""A loaded model, and a forward pass of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from capvec.engines.transformers.chat_template import ChatTemplate
from capvec.engines.transformers.hooks import ResidualPath
from capvec.engines.transformers.render import Rendered, render_marked
from capvec.records import Message, Thinking


@dataclass(frozen=True)
class LoadedModel:
    """A loaded model, with the parts that steering needs."""

    model: nn.Module
    template: ChatTemplate
    path: ResidualPath
    name: str
    revision: str | None
    d_model: int
    context_length: int
    stop_ids: frozenset[int]

    @property
    def tokenizer(self) -> Any:
        return self.template.tokenizer

    @property
    def n_layers(self) -> int:
        return len(self.path.blocks)

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.model.parameters()).dtype

    def render(self, messages: Sequence[Message], *, prompt: bool, thinking: Thinking | None = None) -> list[int]:
        """Token ids of a conversation, as `ChatTemplate.ids`."""
        return self.template.ids(messages, prompt=prompt, thinking=thinking)

    def render_marked(self, messages: Sequence[Message], *, prompt: bool, thinking: Thinking | None = None) -> Rendered:
        """The same tokens, and which of them are the assistant's; arguments and errors as `render.render_marked`."""
        return render_marked(self.template, messages, prompt=prompt, thinking=thinking)


def forward(model: nn.Module, **inputs: Any) -> Tensor:
    """One forward pass with a cache. Returns the logits of the last position, float32 `[batch, vocab]`."""
    output = model(**inputs, use_cache=True, logits_to_keep=1)
    logits: Tensor = output.logits[:, -1, :].float()
    return logits
