"""Replies in pieces: how much of one that is not finished is certain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from capvec.engines.answers import Spoken
from capvec.engines.chat_template import ChatTemplate
from capvec.engines.generation import Drawn
from capvec.engines.growing_text import GrowingText
from capvec.errors import EngineUnavailable
from capvec.thoughts import CHANNELS, Said


@dataclass
class Speaker:
    """One choice of a stream."""

    growing: GrowingText
    split: Callable[[str], Said]
    """A text in its thought and its answer."""
    marks: tuple[str, ...]
    """Texts that change what was said before them; none of their characters is sent before they are whole."""
    certain: Callable[[Said], str]
    """How much of the answer so far is certain to be words of the answer."""
    sent: Said = field(default_factory=lambda: Said("", ""))
    drawn: list[Drawn] = field(default_factory=list)
    """Tokens that were not sent yet."""
    told: int = 0
    """Tokens that were sent."""
    begun: bool = False
    """Whether a piece was sent."""

    def take(self, drawn: Sequence[Drawn], *, keep: bool) -> Spoken:
        """What can be sent after further tokens; their probabilities go with the text, where they are kept."""
        self.growing.take([one.token for one in drawn])
        self.drawn += drawn if keep else ()
        said = self.split(held_back(self.growing.text, self.marks))
        return self._piece(Said(said.thought, self.certain(said)))

    def finish(self, spoken: Spoken) -> Spoken:
        """The rest of the whole reply.

        Raises:
            EngineUnavailable: it does not begin with what was sent.
        """
        if not spoken.text.startswith(self.sent.answer) or not spoken.thought.startswith(self.sent.thought):
            raise EngineUnavailable("the whole reply does not begin with what was sent of it; ask without stream")
        text, thought = spoken.text[len(self.sent.answer) :], spoken.thought[len(self.sent.thought) :]
        return Spoken(text, thought, spoken.calls, spoken.drawn[self.told :])

    def _piece(self, said: Said) -> Spoken:
        if not said.answer.startswith(self.sent.answer) or not said.thought.startswith(self.sent.thought):
            return Spoken("")
        piece = Spoken(said.answer[len(self.sent.answer) :], said.thought[len(self.sent.thought) :])
        if not piece:
            return piece
        self.sent, told, self.drawn = said, tuple(self.drawn), []
        self.told += len(told)
        return Spoken(piece.text, piece.thought, drawn=told)


def held_back(text: str, marks: Sequence[str]) -> str:
    """A text without an end that may be the beginning of a mark."""
    for start in range(max(0, len(text) - max(map(len, marks), default=0)), len(text)):
        if any(mark.startswith(text[start:]) for mark in marks):
            return text[:start]
    return text


def marks_of(template: ChatTemplate, stop: Sequence[str]) -> tuple[str, ...]:
    """The marks of a chat."""
    return (*stop, template.tags.open, template.tags.close, *template.before, *template.after, *template.special)


def streams_words(template: ChatTemplate) -> bool:
    """Whether words can be sent before a reply is whole: messages with a channel each are put together at its end."""
    return template.tags != CHANNELS
