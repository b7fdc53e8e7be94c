"""The text of tokens that come one by one."""

from __future__ import annotations

from collections.abc import Sequence

from capvec.engines.chat_template import ChatTemplate


class GrowingText:
    """The text of tokens as they come, in time that does not grow with their number."""

    def __init__(self, template: ChatTemplate) -> None:
        self._template = template
        self._tokens: list[int] = []
        self._context = self._read = 0
        """Tokens before which decoding starts, and up to which the text is known."""
        self.text = ""
        """Without a character whose last bytes are still to come."""

    def take(self, tokens: Sequence[int]) -> None:
        """Take further tokens."""
        self._tokens += tokens
        known = self._template.decode(self._tokens[self._context : self._read])
        whole = self._template.decode(self._tokens[self._context :])
        if len(whole) > len(known) and not whole.endswith("\ufffd"):
            self.text += whole[len(known) :]
            self._context, self._read = self._read, len(self._tokens)
