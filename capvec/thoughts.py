"""What a model thinks before it answers, told from what it answers."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class ThoughtTags:
    """The texts around a thought."""

    open: str
    close: str
    lead: str = ""
    """Text before `close` that is no thought: gpt-oss ends one message and begins the next."""


THINK = ThoughtTags("<think>", "</think>")
KNOWN_TAGS: tuple[ThoughtTags, ...] = (
    THINK,
    ThoughtTags("<thinking>", "</thinking>"),
    ThoughtTags("<thought>", "</thought>"),
    ThoughtTags("<reasoning>", "</reasoning>"),
    ThoughtTags("<seed:think>", "</seed:think>"),
    ThoughtTags("[THINK]", "[/THINK]"),
    ThoughtTags("◁think▷", "◁/think▷"),
    ThoughtTags("<|START_THINKING|>", "<|END_THINKING|>"),
    ThoughtTags("<|inner_prefix|>", "<|inner_suffix|>"),
    ThoughtTags("<|channel>thought\n", "<channel|>"),
    ThoughtTags("<|channel|>analysis<|message|>", "<|channel|>final<|message|>", "<|end|><|start|>assistant"),
)
"""Tags in public use. Those of a model are the ones that its chat template names."""


@dataclass(frozen=True)
class Said:
    """A reply in two parts."""

    thought: str
    """Without its tags and the white space around it; empty if there is none."""
    answer: str
    """The rest, unchanged."""


def split_thought(
    text: str,
    tags: ThoughtTags = THINK,
    *,
    opened: bool | None = None,
    in_command: Callable[[str], bool] | None = None,
) -> Said:
    """Split a reply into the thoughts at its start and the answer.

    Chat templates may open the thought in the prompt, so that the reply holds only its end. Where this is not known,
    an end without a beginning counts on a line of its own too, and not at the start of the reply alone. Other tags in
    the answer are part of it, since a command may hold them.

    Args:
        text: of the reply.
        tags: of the model.
        opened: whether the prompt ends in an open thought; None if that is not known.
        in_command: whether a text ends inside a command. An end without a beginning after such a text is a part of the
            command, unless `opened` is true.

    Returns:
        The parts. A thought that never ends leaves no answer.
    """
    thoughts, rest = list[str](), text
    first = _headless(text, tags, opened, in_command)
    if first is not None:
        thoughts, rest = [first[0]], first[1]
    while begun := re.match(rf"\s*{re.escape(tags.open)}", rest):
        thought, _, rest = rest[begun.end() :].partition(tags.close)
        thoughts.append(thought)
    said = (thought.strip().removesuffix(tags.lead).strip() for thought in thoughts)
    return Said("\n\n".join(filter(None, said)), rest)


def _headless(
    text: str, tags: ThoughtTags, opened: bool | None, in_command: Callable[[str], bool] | None
) -> tuple[str, str] | None:
    """The thought whose beginning is not in the text, and what follows it."""
    if re.match(rf"\s*{re.escape(tags.open)}", text):
        return None
    if opened:
        thought, _, rest = text.partition(tags.close)
        return thought, rest
    closing = re.escape(tags.close)
    line = rf"|^[ \t]*{closing}[ \t]*$" if opened is None else ""
    end = re.search(rf"\A\s*{closing}{line}", text, re.MULTILINE)
    if end is None or tags.open in text[: end.start()]:
        return None
    if in_command is not None and in_command(text[: end.start()]):
        return None
    return text[: end.start()], text[end.end() :]
