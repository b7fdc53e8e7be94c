"""Replies that match a regular expression: which tokens may come next.

A token is allowed where the reply can still be ended within its limit. So a reply is whole even at the limit: as it
comes near, only the tokens are left that end it in time.
"""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from collections.abc import Callable
from functools import cached_property
from threading import Lock
from typing import Any, TypeVar

import torch
from torch import Tensor

from capvec.engines.transformers.automaton import NEVER, Automaton, automaton_of
from capvec.engines.transformers.loaded import LoadedModel
from capvec.errors import UsageError

T = TypeVar("T")
KEPT = 4
"""Grammars that are kept, those used last."""
REFUSED = 256
"""Expressions that are remembered as refused, so that a client which repeats one takes no time from others."""
_SAMPLE = "echo 'é√😀' > \"a b\"\n```\n{}"
"""A text whose tokens must be read as its bytes."""
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_TYPE = re.compile(r'"type": "(\w+)"')
_SPACE = "\u2581"
"""How such tokenizers write a space."""


class Grammar:
    """A regular expression over the tokens of a model."""

    def __init__(self, automaton: Automaton, loaded: LoadedModel) -> None:
        self._automaton, self._ends, self._device = automaton, sorted(loaded.stop_ids), loaded.device
        self._widest = int(automaton.needs[automaton.needs < NEVER].max())
        self._whole: dict[int, Tensor] = {}
        """State → the tokens that are allowed there where the limit is far."""

    @property
    def needs(self) -> int:
        """The fewest tokens of a reply."""
        return int(self._automaton.needs[0])

    def masked(self, logits: Tensor, state: int, room: int) -> Tensor:
        """The logits, with −∞ for the tokens that are not allowed.

        Args:
            logits: float32 `[vocab]`; left as they are.
            state: of the reply.
            room: how many tokens the reply may still have.
        """
        allowed = self._whole.get(state)
        if allowed is None or room <= self._widest:
            tokens = [*self._automaton.allowed(state, room).tolist(), *(self._ends * self.may_end(state))]
            allowed = torch.tensor(tokens, device=self._device)
            if room > self._widest:
                self._whole[state] = allowed
        result = torch.full_like(logits, -torch.inf)
        result[allowed] = logits[allowed]
        return result

    def may_end(self, state: int) -> bool:
        """Whether a reply may end in a state."""
        return bool(self._automaton.needs[state] == 1)

    def after(self, state: int, token: int) -> int:
        """The state after an allowed token that does not end the reply."""
        return self._automaton.after(state, token)


class Grammars:
    """The grammars of a model, made when they are first asked for. Safe to use from several threads."""

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded, self._lock = loaded, Lock()
        self._kept: OrderedDict[str, Grammar] = OrderedDict()
        self._refused: OrderedDict[str, str] = OrderedDict()
        """Expression → why."""

    def of(self, regex: str, given_up: Callable[[], bool] = lambda: False) -> Grammar:
        """The grammar of a regular expression; takes seconds for a new one.

        Args:
            regex: that replies match.
            given_up: as for `automaton_of`.

        Raises:
            UsageError: it cannot constrain the model's replies.
            GivenUpError: nobody waits for it any more.
        """
        if (known := self.known(regex)) is not None:
            return known
        try:
            stop = min(self._loaded.stop_ids)
            grammar = Grammar(automaton_of(regex, self._words, stop, given_up=given_up), self._loaded)
        except UsageError as error:
            with self._lock:
                _keep(self._refused, regex, str(error), REFUSED)
            raise
        with self._lock:
            _keep(self._kept, regex, grammar, KEPT)
        return grammar

    def known(self, regex: str) -> Grammar | None:
        """The same, at once; None for one that is new.

        Raises:
            UsageError: as `of`, for an expression that it refused before.
        """
        with self._lock:
            if regex in self._refused:
                raise UsageError(self._refused[regex])
            if regex in self._kept:
                self._kept.move_to_end(regex)
            return self._kept.get(regex)

    @cached_property
    def _words(self) -> dict[bytes, list[int]]:
        return words_of(self._loaded)


def _keep(kept: OrderedDict[str, T], key: str, value: T, most: int) -> None:
    """Add an entry as the newest, and drop the oldest beyond `most`."""
    kept[key] = value
    while len(kept) > most:
        kept.popitem(last=False)


def words_of(loaded: LoadedModel) -> dict[bytes, list[int]]:
    """What each token says in UTF-8, of which a token may have a part of a character.

    Special tokens say nothing, nor do those that end a reply.

    Raises:
        UsageError: it is not known of this tokenizer.
    """
    tokenizer, words = loaded.tokenizer, dict[bytes, list[int]]()
    told, added = _reader(tokenizer), tokenizer.added_tokens_decoder
    most = loaded.n_embedded or len(tokenizer)
    for name, token in tokenizer.get_vocab().items():
        if token in loaded.stop_ids or token in tokenizer.all_special_ids or token >= most:
            continue
        if token not in added:
            words.setdefault(told(name), []).append(token)
        elif not added[token].special:
            words.setdefault(added[token].content.encode(), []).append(token)
    words.pop(b"", None)
    _check(tokenizer, words)
    return words


def _reader(tokenizer: Any) -> Callable[[str], bytes]:
    """What reads the name of a token as its bytes."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    decoders = set(_TYPE.findall(json.dumps(json.loads(backend.to_str())["decoder"]))) if backend is not None else set()
    if "ByteLevel" in decoders:
        alphabet = _byte_level()
        return lambda name: bytes(alphabet[sign] for sign in name)
    if decoders & {"ByteFallback", "Metaspace"}:
        return _read_piece
    raise UsageError("which bytes this model's tokens stand for is not known, so its replies cannot be constrained")


def _read_piece(name: str) -> bytes:
    byte = _BYTE.fullmatch(name)
    return bytes([int(byte[1], 16)]) if byte else name.replace(_SPACE, " ").encode()


def _byte_level() -> dict[str, int]:
    """The sign that byte-level tokenizers have for each byte: itself where it can be seen, else one from U+0100 on."""
    seen = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in seen]
    return {chr(byte): byte for byte in seen} | {chr(0x100 + place): byte for place, byte in enumerate(hidden)}


def _check(tokenizer: Any, words: dict[bytes, list[int]]) -> None:
    """Make sure that a text is what its tokens were read as."""
    said = {token: word for word, tokens in words.items() for token in tokens}
    ids = tokenizer(_SAMPLE, add_special_tokens=False)["input_ids"]
    if b"".join(said.get(token, b"") for token in ids).lstrip(b" ") != _SAMPLE.encode():
        raise UsageError("this model's tokenizer changes texts, so its replies cannot be constrained")
