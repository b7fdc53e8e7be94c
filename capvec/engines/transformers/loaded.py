"""A loaded model, and a forward pass of it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from capvec.engines.chat_template import ChatTemplate
from capvec.engines.render import Rendered, render_marked
from capvec.engines.transformers.hooks import ResidualPath
from capvec.errors import UsageError
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
    context_limit: str = ""
    """Why the context is shorter than asked for, as `context_of` says it."""
    goes_on_from_a_state: bool = False
    """Whether a model whose layers keep states reads several further tokens rightly (`proof.goes_on_from_a_state`)."""
    any_threads: bool = False
    """Whether a step may take any number of threads (`proof.same_in_any_threads`)."""

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

    @cached_property
    def n_embedded(self) -> int | None:
        """How many token ids the model can read; None if its embedding does not say."""
        weight = getattr(self.model.get_input_embeddings(), "weight", None)  # type: ignore[operator]
        return None if weight is None else len(weight)

    def check_ids(self, ids: Sequence[int]) -> None:
        """Check that the model can read all tokens.

        Raises:
            UsageError: it has no embedding for one; a GPU would then fail for every later request too.
        """
        if self.n_embedded is not None and (beyond := max(ids, default=0)) >= self.n_embedded:
            raise UsageError(
                f"the tokenizer of {self.name!r} has {self.tokenizer.decode([beyond])!r} as token {beyond}, and the "
                f"model embeds {self.n_embedded} tokens, from 0 on; resize its embedding to the tokenizer, or leave "
                "this text out"
            )

    @cached_property
    def openings(self) -> tuple[tuple[int, ...], ...]:
        """The tokens with which a prompt opens the reply, in each mode of thinking. Later prompts may have others."""
        found = set()
        for mode in self.thinking_modes:
            opened, closed = (self.render(TALK, prompt=prompt, thinking=mode) for prompt in (True, False))
            same = next((i for i, (a, b) in enumerate(zip(opened, closed, strict=False)) if a != b), len(closed))
            found.add(tuple(opened[same:]))
        return tuple(sorted(found, key=len, reverse=True))

    @property
    def thinking_modes(self) -> tuple[Thinking, ...]:
        """The modes in which the template may be rendered."""
        return ("off", "on", "default") if self.template.info.switch else ("default",)

    def settled(self, tokens: tuple[int, ...]) -> int:
        """How many tokens of a prompt the prompt of the next turn begins with: all but those that open the reply."""
        ends = (opening for opening in self.openings if tokens[len(tokens) - len(opening) :] == opening)
        return len(tokens) - len(next(ends, ()))

    def render(self, messages: Sequence[Message], *, prompt: bool, thinking: Thinking | None = None) -> list[int]:
        """Token ids of a conversation, as `ChatTemplate.ids`."""
        return self.template.ids(messages, prompt=prompt, thinking=thinking)

    def render_marked(self, messages: Sequence[Message], *, prompt: bool, thinking: Thinking | None = None) -> Rendered:
        """The same tokens, and which of them are the assistant's; arguments and errors as `render.render_marked`."""
        return render_marked(self.template, messages, prompt=prompt, thinking=thinking)


TALK: tuple[Message, ...] = (
    {"role": "system", "content": "Act."},
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": "ls"},
    {"role": "user", "content": "ok"},
)
"""A short conversation, with every kind of message."""
LAST = torch.tensor([-1])
"""As `logits_to_keep`: the logits of the last position. For the number 1, Gemma 4 runs some blocks on that position
only, so that the residuals of the others are neither steered nor seen."""


def forward(model: nn.Module, **inputs: Any) -> Tensor:
    """One forward pass with a cache. Returns the logits of the last position, float32 `[batch, vocab]`."""
    return call(model, **inputs, use_cache=True, logits_to_keep=LAST)[:, -1]


def read_on(model: nn.Module, ids: Tensor, start: int, cache: Any, *, every: bool = False) -> Tensor:
    """One forward pass over the next positions of one row, which are appended to its cache.

    Args:
        model: the model.
        ids: int `[1, positions]`.
        start: how many positions the cache has.
        cache: of one row without padding.
        every: whether the logits of all positions are wanted, and not those of the last one alone.

    Returns:
        The logits, float32 `[1, positions or 1, vocab]`.
    """
    end = start + ids.shape[1]
    return call(
        model,
        input_ids=ids,
        attention_mask=torch.ones(1, end, dtype=torch.long, device=ids.device),
        position_ids=torch.arange(start, end, device=ids.device)[None],
        past_key_values=cache,
        use_cache=True,
        **({} if every else {"logits_to_keep": LAST}),
    )


def forward_uncached(model: nn.Module, ids: Tensor) -> Tensor:
    """One forward pass without a cache, over rows without padding.

    Args:
        model: the model.
        ids: int `[batch, positions]`.

    Returns:
        The logits of every position, float32 `[batch, positions, vocab]`.
    """
    positions = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
    rows = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "position_ids": positions}
    return call(model, **rows, use_cache=False)


def cache_keyword(model: nn.Module) -> str:
    """The keyword under which a model takes its cache. Many would swallow another one without a word.

    Raises:
        UsageError: it takes no cache under a keyword that is known here.
    """
    named = inspect.signature(model.forward).parameters
    for keyword in ("past_key_values", "cache_params"):
        if keyword in named:
            return keyword
    raise UsageError(
        f"{type(model).__name__} takes no cache as `past_key_values` or `cache_params`, so this engine cannot decode "
        "it; use a model of another architecture"
    )


def call(model: nn.Module, **inputs: Any) -> Tensor:
    """The logits of a forward pass, float32.

    The cache, `past_key_values`, is passed under the model's own keyword. What the model takes no argument for, such as
    positions in a recurrent one, is left out.
    """
    if "past_key_values" in inputs:
        inputs[cache_keyword(model)] = inputs.pop("past_key_values")
    named = inspect.signature(model.forward).parameters
    if not any(one.kind is inspect.Parameter.VAR_KEYWORD for one in named.values()):
        inputs = {name: value for name, value in inputs.items() if name in named}
    logits: Tensor = model(**inputs).logits
    return logits.float()


@contextmanager
def refusing(model: nn.Module, case: str) -> Iterator[None]:
    """Turn any exception of a model's code, when a check at load runs it, into one sentence.

    Raises:
        UsageError: in place of another exception.
    """
    try:
        yield
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(
            f"{type(model).__name__} cannot be decoded by this engine: {case}, it fails with {type(error).__name__} "
            f"({' '.join(str(error).split())[:200]}); use a model of another architecture (docs/guides/model.md says "
            "which)"
        ) from error
