"""What replies are drawn after: the tokens of a conversation or of a text."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from capvec.engines.chat_requests import ChatRequest, TextRequest
from capvec.engines.chat_template import ChatTemplate
from capvec.engines.checks import RequestError, shown
from capvec.engines.render import render_marked
from capvec.engines.tools import in_words, knows_tools, opening
from capvec.errors import UsageError


@dataclass(frozen=True)
class Prompt:
    """What replies are drawn after."""

    tokens: tuple[int, ...]
    assistant: tuple[bool, ...] | None
    """Of each token, whether it is the assistant's; None where no steer asks."""
    begun: str = ""
    """Its end, where that is the beginning of the reply: a call that must come."""
    echoed: str | None = None
    """Its text, where the answer begins with it."""
    given: tuple[int, ...] = ()
    """The tokens of the reply, where none is drawn."""


class Prompts:
    """Makes the prompts of one model."""

    def __init__(self, template: ChatTemplate) -> None:
        self._template = template

    def of_chat(self, asked: ChatRequest) -> Prompt:
        """The prompt of a conversation.

        Raises:
            RequestError: the chat template cannot render it, or does not show what is asked for.
        """
        known = bool(asked.tools) and self._knows_tools
        native = known or (any("tool_calls" in one for one in asked.messages) and self._knows_tools)
        messages = asked.messages if native else in_words(asked.messages, asked.tools)
        try:
            marked = any(steer.positions == "assistant" for steer in asked.steers)
            tokens, assistant = self._tokens(replace(asked, messages=messages), marked=marked, native=native)
        except UsageError as error:  # the user of an agent did not write its conversation
            raise RequestError(str(error), "template_fault") from error
        begun = opening(self._template, asked.tools, known=known)
        ids = self._ids(begun)
        assistant = (*assistant, *(True for _ in ids)) if assistant is not None else None
        return Prompt((*tokens, *ids), assistant, begun, given=self._ids(asked.continuation))

    def of_text(self, asked: TextRequest, prompt: str | tuple[int, ...]) -> Prompt:
        """The prompt of a completion.

        Raises:
            RequestError: it has no token, or one that the model does not know.
        """
        tokenizer = self._template.tokenizer
        tokens = tuple(map(int, tokenizer(prompt)["input_ids"])) if isinstance(prompt, str) else prompt
        if not tokens or max(tokens) >= len(tokenizer):
            raise RequestError(
                f"prompt: {shown(prompt)}; expected one token or more, of the model's {len(tokenizer)}", "invalid_value"
            )
        marked = any(steer.positions == "assistant" for steer in asked.steers)
        echoed = (prompt if isinstance(prompt, str) else self._template.decode(prompt)) if asked.echo else None
        return Prompt(tokens, (False,) * len(tokens) if marked else None, echoed=echoed)

    @cached_property
    def _knows_tools(self) -> bool:
        """Whether the chat template tells the model of tools."""
        return knows_tools(self._template)

    def _ids(self, text: str) -> tuple[int, ...]:
        return tuple(map(int, self._template.tokenizer(text, add_special_tokens=False)["input_ids"])) if text else ()

    def _tokens(
        self, asked: ChatRequest, *, marked: bool, native: bool
    ) -> tuple[tuple[int, ...], tuple[bool, ...] | None]:
        # Marked only where a steer needs it: some chat templates do not reveal which tokens are the assistant's.
        if not marked:
            ids = self._template.ids(
                asked.messages, prompt=True, thinking=asked.thinking, tools=asked.tools.listed * native
            )
            return tuple(ids), None
        if native:
            raise RequestError(
                "tools: the chat template renders them, and which tokens are then the assistant's is not known; ask "
                "for a model that is steered at other positions",
                "unsupported_value",
            )
        rendered = render_marked(self._template, asked.messages, prompt=True, thinking=asked.thinking)
        return rendered.ids, rendered.assistant


def check_told(asked: TextRequest) -> None:
    """Refuse log-probabilities of a prompt that would be the baseline's under the name of another config.

    Raises:
        RequestError: they would be.
    """
    if not asked.echo or asked.logprobs is None:
        return
    if asked.grammar:
        raise RequestError(
            "echo and logprobs: a grammar constrains replies, and changes no probability of a prompt's tokens; ask for "
            "a model without one",
            "unsupported_value",
        )
    if reached := {steer.positions for steer in asked.steers} & {"generated", "assistant"}:
        raise RequestError(
            f"echo and logprobs: the model is steered at {sorted(reached)[0]} positions, and no token of a text is at "
            "one; ask for a model that is steered at all positions, or at those of the prompt",
            "unsupported_value",
        )
