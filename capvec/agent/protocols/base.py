"""The definition of an agent protocol, and the observations that all protocols share."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from capvec.records import CommandResult, Parse, Reply
from capvec.thoughts import cut_thoughts, split_thought

JSON_TEXT = r'(?:[^"\\\x00-\x1f]|\\["\\/bfnt])*'
"""In a grammar: what stands between the quotes of a JSON string."""
JSON_COMMAND = rf'(?:[^"\\\x00-\x20]|\\["\\/]){JSON_TEXT}'
"""In a grammar: the same, beginning with a sign that is no space."""
JSON_SPACE = r"(?: |\n {0,12})?"
"""In a grammar: the white space between the tokens of JSON."""

OBSERVATION_CHARS = 600
"""Default length of one observation in characters: about 150 tokens, so that small contexts hold several turns."""

_SURROGATE = re.compile("[\ud800-\udfff]")
_NO_SHELL_TEXT = re.compile("[\0\ud800-\udfff]")


@dataclass(frozen=True)
class AgentProtocol:
    """A parser of replies, its inverse, and the prompts that explain the format."""

    name: str
    system: str
    """System prompt that explains the protocol, for a model without worked examples."""
    brief: str
    """Short system prompt, before worked examples or for a trained model."""
    reminder: str
    """A sentence on the format, for the observation after a reply without a usable command."""
    parse: Callable[[str], Parse]
    """Parses a reply. It never raises and depends on the text alone."""
    render: Callable[[Sequence[str], bool], str]
    """`render(commands, done)` writes a reply that `parse` reads as strict, for examples and scripted models.

    Raises `UsageError` if there is no such reply (`bash-block`: several commands, or commands and done at once).
    """
    in_command: Callable[[str], bool]
    """Whether a text, the beginning of a reply, ends inside a command."""
    stop: tuple[str, ...] = ()
    """Strings at which decoding stops."""
    grammar: str = ""
    """A regular expression for whole replies that `parse` reads as strict, each with a command or the word that the
    work is done: `--controls constrained` draws no others. Prose is free in it where `parse` allows it. It is in the
    syntax that Python and Rust share, without lookaround. Empty if there is none."""

    def settled(self, reply: Reply) -> Reply:
        """The reply with the thoughts that begin within its answer among its thoughts, and without `tags` then.

        A tag in a command is a part of it. Where a thought cannot be told from a command, the reply stays as it is.
        """
        if reply.tags is None:
            return reply
        whole = self.parse(reply.text)
        said = cut_thoughts(reply.text, reply.tags)
        inside = sum(command.count(reply.tags.open) for command in whole.commands)
        if whole.status != "failed" and inside >= reply.text.count(reply.tags.open):
            return replace(reply, tags=None)
        rest = self.parse(said.answer)
        closed = reply.text.rpartition(reply.tags.open)[2].count(reply.tags.close) > 0
        if rest.status == "failed" or not (closed and all(_stands(command, reply.text) for command in rest.commands)):
            return reply
        return replace(
            reply, text=said.answer, thought="\n\n".join(filter(None, (reply.thought, said.thought))), tags=None
        )

    def read(self, reply: Reply) -> Parse:
        """Parse a reply of which it is known whether the token limit cut it.

        What looks like the end of a command may be a part of one that was cut. So a cut reply fails if it ends with its
        command, or with its word that the work is done: if its last character decides what it does. So does a reply in
        which a thought begins that cannot be told from its commands (`settled`).
        """
        parse = self.parse(reply.text)
        if reply.tags is not None and (parse.commands or parse.done):
            return failed(
                f"The reply has {reply.tags.open} outside a command, as if a thought began there; leave it out."
            )
        if reply.finish_reason == "length" and (parse.commands or parse.done):
            shorter = self.parse(reply.text.rstrip()[:-1])
            if (shorter.commands, shorter.done) != (parse.commands, parse.done):
                return failed("The reply was cut by the token limit, so its command may be cut; write a shorter reply.")
        return parse

    def observation(self, results: Sequence[CommandResult], parse: Parse, *, limit: int = OBSERVATION_CHARS) -> str:
        """The text from which the model learns what its reply did; never empty.

        Args:
            results: of the commands that ran, in the order of `parse.commands`; may be fewer.
            parse: the parsed reply.
            limit: characters of output, shared by the commands; longer output loses its middle.
        """
        if parse.status == "failed":
            return f"Error: {parse.error} Nothing was run. {self.reminder}"
        if parse.no_cmd:
            return f"Error: your reply has no command, so nothing was run. {self.reminder}"
        share = limit // max(1, len(results))
        several = len(parse.commands) > 1
        parts = [
            (f"$ {clip(command, 80)}\n" if several else "") + _describe(result, share)
            for command, result in zip(parse.commands, results, strict=False)
        ]
        if missing := len(parse.commands) - len(results):
            parts.append(f"{missing} more commands were not run.")
        if parse.status == "repaired":
            parts.append(f"Note: {parse.error}")
        return "\n".join(parts) or "Nothing was run."


def parser(read: Callable[[str], Parse], in_command: Callable[[str], bool]) -> Callable[[str], Parse]:
    r"""A protocol's parser from its reader of answers: Windows line ends and the thought at the start are removed.

    A command with a character that no shell can be given (NUL, a lone surrogate) fails; it would run as another one.

    Line ends are the reply's own if all of them are `\r\n` and one stands outside its commands. A thought that never
    ends leaves nothing. Where its beginning is not in the reply, its end may be a line of a command instead.
    `in_command` says whether the text before it shows that.
    """

    def parse(text: str) -> Parse:
        parsed = read(split_thought(text, in_command=in_command).answer)
        inside = sum(command.count("\r\n") for command in parsed.commands)
        if inside < text.count("\n") == text.count("\r\n"):
            parsed = read(split_thought(text.replace("\r\n", "\n"), in_command=in_command).answer)
        return _sendable(parsed)

    return parse


def _stands(command: str, text: str) -> bool:
    """Whether a command stands in a reply in one piece, as it is or as a string of JSON."""
    forms = command, *(json.dumps(command, ensure_ascii=ascii)[1:-1] for ascii in (True, False))
    return any(form in text for form in forms) or command in text.replace("\r\n", "\n")


def encodable(text: str) -> str:
    """The text with U+FFFD for every lone surrogate, which has no UTF-8."""
    return _SURROGATE.sub("\ufffd", text)


def _sendable(parse: Parse) -> Parse:
    """The parse, failed if a shell cannot be given one of its commands as it is."""
    for command in parse.commands:
        if sign := _NO_SHELL_TEXT.search(command):
            what = "the NUL character" if sign[0] == "\0" else f"the lone surrogate U+{ord(sign[0]):04X}"
            return failed(f"A command holds {what}, which no shell can be given; leave it out, or let printf write it.")
    return replace(parse, error=encodable(parse.error))


def clip(text: str, limit: int) -> str:
    """Shorten a text to `limit` characters of its start and end, with a note on how many were left out."""
    if len(text) <= limit:
        return text
    head, tail = (limit + 1) // 2, limit // 2
    return f"{text[:head]}\n[… {len(text) - head - tail} characters left out …]\n{text[len(text) - tail :]}"


def failed(error: str) -> Parse:
    """A reply that the protocol cannot parse; `error` is a whole sentence."""
    return Parse("failed", error=error)


def _describe(result: CommandResult, limit: int) -> str:
    if result.timed_out:
        head = f"The command ran out of time after {result.duration_s:.0f} s and was killed."
    else:
        head = f"exit code {result.exit_code}"
    lines = [head, clip(result.output.rstrip("\n"), limit) or "(no output)"]
    if result.dropped_bytes:
        lines.append(f"({result.dropped_bytes} bytes of the output were left out)")
    if result.shell_restarted:
        lines.append("The shell was restarted: its variables, directory and background jobs are gone.")
    return "\n".join(lines)
