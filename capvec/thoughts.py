"""What a model thinks before it answers, told from what it answers."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from capvec.serial import Record


@dataclass(frozen=True)
class ThoughtTags(Record):
    """The texts around a thought."""

    open: str
    close: str
    lead: str = ""
    """Text before `close` that is no thought: gpt-oss ends one message and begins the next."""


THINK = ThoughtTags("<think>", "</think>")
CHANNELS = ThoughtTags("<|channel|>analysis<|message|>", "<|channel|>final<|message|>", "<|end|><|start|>assistant")
"""Of gpt-oss, whose replies are messages with a channel each."""
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
    CHANNELS,
)
"""Tags in public use. Those of a model are the ones that its chat template names."""
_HEADER = re.compile(
    r"(?:<\|(?:end|call)\|>)?\s*(?:<\|start\|>assistant)?\s*<\|channel\|>(?P<channel>\w*)"
    r"(?:[^<]|<\|constrain\|>){0,200}<\|message\|>"
)
"""Where a message of gpt-oss begins."""


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


def split_channels(text: str) -> Said:
    """Split a reply that consists of messages with a channel each, as gpt-oss writes them.

    Args:
        text: of the reply.

    Returns:
        The messages on the channel `commentary`, and all from the first one on `final` or without a channel, are the
        answer: a command may hold what looks like a message. Others are thoughts, and so is a header that never ends.
    """
    thoughts, answers, position = list[str](), list[str](), 0
    channel = "" if text.lstrip().startswith("<|channel|>") else "final"
    while channel != "final":
        header = _HEADER.search(text, position)
        said = text[position : header.start() if header else len(text)]
        (answers if channel == "commentary" else thoughts).append(said.strip())
        if header is None:
            break
        channel, position = header["channel"], header.end()
    else:
        answers.append(text[position:])
    return Said("\n\n".join(filter(None, thoughts)), "\n".join(filter(None, answers)))


def cut_thoughts(text: str, tags: ThoughtTags) -> Said:
    """Split an answer in which further thoughts begin into these and the rest. One that never ends ends with the text.

    Args:
        text: the answer.
        tags: of the model.
    """
    thoughts, rest = list[str](), list[str]()
    while tags.open in text:
        before, _, text = text.partition(tags.open)
        thought, _, text = text.partition(tags.close)
        rest.append(before)
        thoughts.append(thought.strip().removesuffix(tags.lead).strip())
    return Said("\n\n".join(filter(None, thoughts)), "".join([*rest, text]))


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
