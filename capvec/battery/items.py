"""The questions of a battery, and when an answer is right."""

from __future__ import annotations

import hashlib
import json
import re
import string
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from capvec.errors import UsageError
from capvec.parsing import parse_json
from capvec.reading import read_text, shown

BUNDLED = "general"
"""The name of the battery that comes with capvec."""
_FILE = Path(__file__).parent / "general.jsonl"
_LARGEST = 64 << 20
_KEYS = {"id", "question", "choices", "answer", "answers", "category", "by"}
LETTERS = string.ascii_uppercase[:10]
"""Of the choices, in their order."""


@dataclass(frozen=True)
class Item:
    """One question: with choices, one of which is right, or with the short answers that are right."""

    id: str
    question: str
    choices: tuple[str, ...] = ()
    answer: int = 0
    """The place of the right choice, from 0."""
    answers: tuple[str, ...] = ()
    """Of a question without choices."""
    category: str = ""
    by_text: bool = False
    """Whether the texts of the choices compete, and not their letters."""

    @property
    def prompt(self) -> str:
        """What the model is asked."""
        if not self.choices:
            return f"{self.question}\nReply with the answer alone, in as few words as possible."
        if self.by_text:
            return self.question
        listed = "\n".join(f"{letter}. {choice}" for letter, choice in zip(LETTERS, self.choices, strict=False))
        return f"{self.question}\n{listed}\nReply with the letter of the right answer alone."

    @property
    def grammar(self) -> str:
        """To what the reply is constrained, so that the likeliest letter is the reply; empty without letters."""
        return f"[{LETTERS[: len(self.choices)]}]" if self.choices and not self.by_text else ""

    @property
    def digest(self) -> str:
        """Of everything that an answer depends on, and of what is right."""
        told = json.dumps([self.prompt, self.choices, self.answer, self.answers])
        return hashlib.sha256(told.encode()).hexdigest()[:16]

    def is_right(self, reply: str) -> bool:
        """Whether a reply is the right choice or its letter, or a right answer once both are `normalised`."""
        if self.by_text:
            return reply == self.choices[self.answer]
        if self.choices:
            return reply.strip() == LETTERS[self.answer]
        return normalised(reply) in set(map(normalised, self.answers))


def normalised(text: str) -> str:
    """A short answer without what does not matter: case, articles, outer punctuation, spaces and thousands commas."""
    text = re.sub(r"(?<=\d),(?=\d{3}\b)", "", unicodedata.normalize("NFKC", text).casefold())
    text = re.sub(r"(?<![\d.])\.(?=\d)", "0.", text)
    text = " ".join(text.split()).strip(" .,;:!?\"'`*()[]")
    return re.sub(r"^(?:the|a|an) ", "", text)


def load_items(named: str, limit: int | None = None) -> tuple[Item, ...]:
    """Read a battery.

    Args:
        named: `general`, a JSONL file, or a folder of such files, which are read in the order of their names.
        limit: how many items to take, spread evenly over the whole; None for all.

    Raises:
        UsageError: there is none, a line is no item, or two items have one id.
    """
    path = _FILE if named == BUNDLED else Path(named)
    files = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    if not files or not files[0].exists():
        raise UsageError(f"--battery {named}: expected {BUNDLED}, a JSONL file of questions, or a folder with some")
    items = [item for file in files for item in _read(file)]
    ids = [item.id for item in items]
    if twice := next((one for one in ids if ids.count(one) > 1), None):
        raise UsageError(f"--battery {named}: two items have the id {shown(twice)!r}; give each its own")
    if not items:
        raise UsageError(f"--battery {named}: it has no item")
    if limit is None or limit >= len(items):
        return tuple(items)
    return tuple(items[place * len(items) // limit] for place in range(limit))


def _read(file: Path) -> Iterator[Item]:
    for number, line in enumerate(read_text(file, _LARGEST).split("\n"), start=1):
        if line.strip():
            try:
                raw = parse_json(line, whole=True)
            except ValueError as error:
                raise UsageError(
                    f"{shown(file)}, line {number}: not JSON ({error}); expected an object for each item, as in "
                    '{"id": "sum", "question": "What is 2 + 2?", "answers": ["4", "four"]}'
                ) from error
            try:
                yield _item(raw)
            except UsageError as error:
                raise UsageError(f"{shown(file)}, line {number}: {error}") from error


def _item(raw: Any) -> Item:
    if not isinstance(raw, Mapping) or not set(raw) <= _KEYS:
        raise UsageError(f"expected an object with some of {', '.join(sorted(_KEYS))}")
    for key in ("id", "question"):
        if not isinstance(raw.get(key), str) or not raw[key].strip():
            raise UsageError(f"{key}: {raw.get(key)!r:.60}; expected a text that is not empty")
    about = {"id": raw["id"], "question": raw["question"], "category": str(raw.get("category", ""))}
    if raw.get("by", "letter") not in ("letter", "text"):
        raise UsageError(f"by: {raw['by']!r:.60}; expected letter or text")
    if ("choices" in raw, "answer" in raw) == (True, True) and "answers" not in raw:
        choices = _texts(raw, "choices", 2, len(LETTERS))
        if len(set(choices)) < len(choices):
            raise UsageError(f"choices: {raw['choices']!r:.60}; expected texts that differ")
        return Item(**about, choices=choices, answer=_place(raw, choices), by_text=raw.get("by") == "text")
    if "answers" in raw and not {"choices", "answer", "by"} & set(raw):
        answers = _texts(raw, "answers", 1, 1000)
        if not all(map(normalised, answers)):
            raise UsageError(f"answers: {raw['answers']!r:.60}; expected texts of more than articles and punctuation")
        return Item(**about, answers=answers)
    raise UsageError("expected either choices and answer, and perhaps by, or answers alone")


def _texts(raw: Mapping[str, Any], key: str, least: int, most: int) -> tuple[str, ...]:
    listed = raw[key]
    fits = isinstance(listed, list) and least <= len(listed) <= most
    if not fits or not all(isinstance(one, str) and one.strip() for one in listed):
        raise UsageError(f"{key}: {listed!r:.60}; expected {least} to {most} texts that are not empty")
    return tuple(listed)


def _place(raw: Mapping[str, Any], choices: tuple[str, ...]) -> int:
    """The place of the right choice, which is given as that or as its text."""
    answer = raw["answer"]
    if isinstance(answer, str) and choices.count(answer) == 1:
        return choices.index(answer)
    if type(answer) is int and 0 <= answer < len(choices):
        return answer
    raise UsageError(f"answer: {answer!r:.60}; expected one of the choices, or its place from 0")
