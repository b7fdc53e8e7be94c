"""A model's chat template: conversations are adapted to what it can render, and replies are read as it writes them.

What a template can do is found out by `inspect_template` of `engines/template_probes.py`.

A thought is passed on in `reasoning_content` alone, so that only a template that reads this field gives it back to the
model. In `content`, templates that know the tag remove it from earlier replies, and the others would repeat it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from capvec.engines.protocol import ChatTemplateInfo
from capvec.errors import UsageError
from capvec.records import Thinking
from capvec.text import one_line
from capvec.thoughts import CHANNELS, THINK, Said, ThoughtTags, split_channels, split_thought

SAID = ("content", "reasoning_content")
"""Fields of a message that hold what the assistant said."""
_TAIL = 64
"""Last tokens of a prompt in which the beginning of a thought is looked for."""


@dataclass(frozen=True)
class ChatTemplate:
    """A chat template, as `inspect_template` found it."""

    tokenizer: Any
    source: str | None = None
    """Its text, if that is not the tokenizer's own."""
    info: ChatTemplateInfo = field(default_factory=ChatTemplateInfo)
    parts: bool = False
    """Whether a message's content is a list of parts."""
    header: str = ""
    """The generation prompt of a template that has none."""
    trailers: tuple[str, ...] = ()
    """What a template writes at the end of every conversation, its generation prompt included; the longest first."""
    tags: ThoughtTags = THINK
    openings: tuple[str, ...] = ()
    """How prompts end that leave a thought open: from its tag on."""
    before: tuple[str, ...] = ()
    """Special tokens that the template writes between a prompt and the words of a reply."""
    after: tuple[str, ...] = ()
    """Texts that it writes behind these words, each up to a special token; the longest is first here too."""
    special: tuple[str, ...] = ()
    """Special tokens that say nothing at the beginning or end of an answer, such as one that announces a call."""
    refuses: tuple[str, ...] = ()
    """Texts that it refuses in a message of the assistant."""
    ends: frozenset[int] = frozenset()
    """The token with which the template ends the assistant's messages. A reply ends there too."""

    def text(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        prompt: bool,
        thinking: Thinking | None = None,
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> str:
        """A conversation as the model reads it.

        Args:
            messages: the conversation.
            prompt: whether it ends in a generation prompt.
            thinking: None is `off`.
            tools: that the model may call, for a template that knows some.

        Raises:
            UsageError: the template cannot render the conversation.
        """
        text: str = self._apply(messages, prompt=prompt, thinking=thinking, tools=tools, tokenize=False)
        return text + self.header if prompt else text.removesuffix(_first(text.endswith, self.trailers) or "")

    def ids(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        prompt: bool,
        thinking: Thinking | None = None,
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> list[int]:
        """The token ids of `text`; the arguments and errors are the same."""
        if self.info.generation_prompt != "own":
            text = self.text(messages, prompt=prompt, thinking=thinking, tools=tools)
            return [int(token) for token in self.tokenizer(text, add_special_tokens=False)["input_ids"]]
        ids = self._apply(messages, prompt=prompt, thinking=thinking, tools=tools, tokenize=True)
        return [int(token) for token in ids]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of tokens, all that they say: a command may hold a text that is a special token."""
        text: str = self.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text

    def split(self, text: str, prompt: Sequence[int]) -> Said:
        """The thought and the answer of a reply.

        Args:
            text: of the reply, as `decode` gives it without the token that ended it.
            prompt: the token ids that it answers, which may end in an open thought.
        """
        end = self.decode(prompt[-_TAIL - max(map(len, self.openings), default=0) :]).rstrip()
        opened = end.endswith(self.openings) if self.openings else False
        said = split_channels(text) if self.tags == CHANNELS else split_thought(text, self.tags, opened=opened)
        return Said(said.thought, self._unframed(said.answer))

    def adapted(self, messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The conversation in the form that the template can render; contents are text."""
        said = self.accepted(messages)
        if said[0]["role"] == "system" and not self._has_place(said[-1]["role"]):
            said = _folded(said)
        for message in said:
            if self.info.blank and not message["content"].strip():
                message["content"] = self.info.blank
        return said

    def accepted(self, messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The conversation without the texts that the template refuses in messages of the assistant."""
        return [
            dict(message) | {key: self._cleared(message[key]) for key in SAID if message.get(key)}
            if message["role"] == "assistant"
            else dict(message)
            for message in messages
        ]

    def _has_place(self, last: str) -> bool:
        """Whether the template renders the system text of a conversation that ends with this role."""
        return self.info.system == "own" or (self.info.system == "dropped-after-reply" and last != "assistant")

    def _apply(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        prompt: bool,
        thinking: Thinking | None,
        tools: Sequence[Mapping[str, Any]],
        tokenize: bool,
    ) -> Any:
        said = self.adapted(messages)
        if self.parts:
            said = [message | {"content": [{"type": "text", "text": message["content"]}]} for message in said]
        switch = {} if thinking == "default" or not self.info.switch else {self.info.switch: thinking == "on"}
        try:
            return self.tokenizer.apply_chat_template(
                said,
                chat_template=self.source,
                tools=list(tools) or None,
                add_generation_prompt=prompt,
                tokenize=tokenize,
                return_dict=False,
                **switch,
            )
        except Exception as error:  # a template is a program, and may fail as one
            roles = ", ".join(message["role"] for message in messages[:4]) + (", …" if len(messages) > 4 else "")
            raise UsageError(
                f"the model's chat template cannot render a conversation of {roles}: {one_line(str(error))}"
            ) from error

    def _cleared(self, text: str) -> str:
        for refused in self.refuses:
            text = text.replace(refused, "")
        return text

    def _unframed(self, text: str) -> str:
        """Without what the template itself writes around the words of a reply, and special tokens there."""
        while begin := _first(text.lstrip().startswith, (*self.before, *self.special)):
            text = text.lstrip().removeprefix(begin)
        while end := _first(text.rstrip().endswith, (*self.after, *self.special)):
            text = text.rstrip().removesuffix(end)
        return text


def _first(holds: Callable[[str], bool], texts: Sequence[str]) -> str | None:
    return next(filter(holds, texts), None)


def _folded(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The system's text at the start of the first user message."""
    system, *rest = messages
    if rest and rest[0]["role"] == "user":
        return [rest[0] | {"content": f"{system['content']}\n\n{rest[0]['content']}"}, *rest[1:]]
    return [{"role": "user", "content": system["content"]}, *rest]
