r"""`bash-block`: one fenced ```bash block in each reply, as in mini-swe-agent.

What is run is the whole command, byte for byte, or nothing. How a reply is parsed, after a thought (`<think>…</think>`)
at its start is removed:

- exactly one block tagged `bash`: its content is the command, prose around it is free: strict;
- the block is exactly `echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT` (mini-swe-agent's marker): done, and nothing is
  run: strict. The marker as the *last* line: the lines before it run, then done: repaired. As the first of several
  lines, or as the end of the command before it: failed;
- no block, and the text is exactly that marker or `DONE`: done, strict; as the last line after prose, or in other
  case or punctuation: repaired;
- one block, and the text around it is exactly `DONE` or the marker: the block runs, then done: repaired;
- no block and no marker, or a block without content: no_cmd, strict. So is a thought that never ends;
- fences are of backticks or tildes, and the tag `mswea_bash_command` (mini-swe-agent 2) is as good as `bash`;
- repaired and run: a full stop or a special token (`<|im_end|>`) behind the last fence; a block tagged `sh`, `shell`,
  `console`, `zsh` or not at all; a block on one line; a command that begins on the line of the opening fence; one
  `bash` block beside blocks in other languages or untagged; a block whose heredoc holds fences as short as its own, if
  they pair up and the heredoc ends before the block does;
- failed: several blocks that could be the command (one action a reply, as mini-swe-agent), or only blocks in another
  language; a fence that is never closed, as after the last token that the model may write; a block that leaves a
  heredoc open, or whose heredoc seems to go on after it, or that leaves a quotation open and has a fence of fewer
  than eight backticks: its end may be a fence inside the command.

Line ends: `\r\n` becomes `\n` if every line of the block ends so. Otherwise it stays where it stands in a heredoc or
in quotes, and a reply with one elsewhere fails.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from capvec.agent.protocols.base import AgentProtocol, failed, parser
from capvec.agent.protocols.shelltext import problem, scan, unix_lines
from capvec.errors import UsageError
from capvec.records import Parse

MARKER = "COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"
DONE = "DONE"
LONG = "`" * 8
"""A fence that no command holds, so that it is sure to end the block."""

_BASH = ("bash", "mswea_bash_command")
_SHELLS = (*_BASH, "sh", "shell", "console", "zsh")
_OPENING = re.compile(r"[ \t]*(`{3,}|~{3,})[ \t]*([^`\s]*)[ \t]*([^`\r]*)\r?")
_CLOSING = re.compile(r"[ \t]*(`{3,}|~{3,})[ \t]*\r?")
_TAIL = re.compile(r"(?:(?<=```|~~~)\.|(?:(?:<\|\w{1,40}\|>|</s>)\s?){1,4})\Z")
# Possessive (`*+`), so that a long line that is never closed takes linear time.
_INLINE = re.compile(rf"[ \t]*```(?:({'|'.join(_SHELLS)})[ \t]+)?(?=[^`]*[^`\s])([^`\r]*+)```[ \t]*\r?")
_MARKER_LINE = re.compile(rf"\s*echo\s+([\"']?){MARKER}\1\s*")
_CONTINUED = re.compile(r"(?:\\|&&|\|&?)\s*\Z")
MAX_HEREDOCS, MAX_BLOCKS = 8, 100
"""Most heredocs with fences in one block, and most blocks; they bound the time for a hostile reply."""
_START = r"[ \t]*(?:[^`~ \t\n\r\x00]|`[^`\n\r\x00]|~[^~\n\r\x00])[^\n\r\x00]*"
"""In the grammar: a line that is not empty, and no fence."""
_LINES = rf"(?:(?:{_START})?\n)*"
GRAMMAR = rf"(?:{_LINES})```bash\n{_START}\n{_LINES}```|{DONE}"
"""Prose, then one block that holds no line like a fence; or `DONE`. Whether the command leaves a heredoc or a quotation
open is more than a regular expression can tell, so such a reply fails as it does elsewhere."""
_UNCLOSED = "A fence is opened and never closed, so the command may be cut; close it with ``` on a line of its own."


@dataclass(frozen=True)
class _Block:
    language: str
    """In lower case; empty if the fence has none."""
    content: str
    mended: str = ""
    fence: str = ""
    closed: bool = True


def _parse(text: str) -> Parse:
    tail = _TAIL.search(whole := text.rstrip())
    blocks, outside = _split(whole[: tail.start()] if tail else text)
    notes = [f"{tail[0]!r} at the end was ignored"] if tail else []
    if not blocks:
        return _parse_prose("\n".join(outside), notes)
    if len(blocks) == MAX_BLOCKS:
        return failed(f"The reply has {MAX_BLOCKS} blocks or more; exactly one command block is allowed.")
    candidates = [block for block in blocks if block.language in _SHELLS] or [
        block for block in blocks if not block.language
    ]
    if not candidates:
        return failed(f"The block is tagged {blocks[0].language!r:.40}, not bash.")
    if len(candidates) > 1:
        return failed(f"The reply has {len(candidates)} command blocks; exactly one is allowed.")
    (block,) = candidates
    others = [other for other in blocks if other is not block]
    if doubt := _doubt(block, blocks, outside):
        return failed(doubt)
    if block.mended:
        notes.append(block.mended)
    if block.language not in _BASH:
        notes.append(f"the block was tagged {block.language!r}, not bash")
    if others:
        notes.append(f"{len(others)} other blocks were ignored")
    return _parse_block(block.content, notes, said_done="\n".join(outside).strip() in {DONE, MARKER})


def _in_command(text: str) -> bool:
    """Whether a block leaves a heredoc open, or one for a shell or without an end a quotation."""
    blocks = [(block, scan(block.content)) for block in _split(text)[0]]
    return any(
        (shell.heredoc and not block.language)
        or (shell.open and (block.language in _SHELLS or not (block.language or block.closed)))
        for block, shell in blocks
    )


parse = parser(_parse, _in_command)
"""Read a `bash-block` reply. Never raises."""


def render(commands: Sequence[str], done: bool = False) -> str:
    """The strict reply: one block, in a fence longer than any in the command, or `DONE`.

    Raises:
        UsageError: this protocol has no reply for several commands, for a command and done at once, or for a command
            that leaves a heredoc open.
    """
    if len(commands) + done != 1:
        raise UsageError(f"bash-block says one command or done, not {len(commands)} commands with done={done}")
    if done:
        return DONE
    longer = [len(run) + 1 for run in re.findall("`+", commands[0])]
    fence = "`" * max([len(LONG) if scan(commands[0]).open else 3, *longer])
    reply = f"{fence}bash\n{commands[0]}\n{fence}"
    if (read := parse(reply)).status == "failed":
        raise UsageError(f"bash-block has no reply for the command {commands[0]!r:.80}: {read.error}")
    return reply


def _doubt(block: _Block, blocks: Sequence[_Block], outside: Sequence[str]) -> str:
    """Why the block may hold less than the command that the model wrote; empty if it cannot."""
    others = [other for other in blocks if other is not block]
    dangling = any(not other.closed and not other.content.strip() for other in others)
    if not block.closed:
        return _UNCLOSED
    found = _UNCLOSED if dangling and block.content.strip() else ""
    if found := found or problem(block.content, sure=not others and len(block.fence) >= len(LONG)):
        longer = "`" * max(len(LONG), len(block.fence) + 1)
        return f"{found} If it holds a fence, open and close the block with {len(longer)} backticks ({longer})."
    for other in blocks:
        if other is not block and not other.language:
            shell = scan(other.content)
            before = blocks.index(other) < blocks.index(block)  # it may be the command, and hold this block
            if shell.heredoc or (before and shell.open):
                return problem(other.content, sure=False)
    shell = scan(block.content)
    around = [*outside, *(line for other in others for line in other.content.split("\n"))]
    if shell.markers & {line.strip() for line in around}:
        return "The end of a heredoc stands outside the block; give the heredoc an end that it does not hold."
    return ""


def _split(text: str) -> tuple[list[_Block], list[str]]:
    """The fenced blocks in order, and the lines outside them."""
    blocks: list[_Block] = []
    outside: list[str] = []
    # Not `splitlines`, which also splits at form feeds and Unicode separators, as a command may hold them.
    lines = text.split("\n")
    at = 0
    while at < len(lines) and len(blocks) < MAX_BLOCKS:
        line = lines[at]
        at += 1
        if inline := _INLINE.fullmatch(line):
            blocks.append(_Block(inline[1] or "", inline[2].strip(), "the block stood on one line"))
        elif opening := _OPENING.fullmatch(line):
            block, at = _read_block(opening, lines, at)
            blocks.append(block)
        else:
            outside.append(line.removesuffix("\r"))
    return blocks, outside


def _read_block(opening: re.Match[str], lines: Sequence[str], start: int) -> tuple[_Block, int]:
    """The block whose content begins at line `start`, and the line after its closing fence."""
    fence, language, rest = opening[1], opening[2].lower(), opening[3]
    begun = [rest + "\r" * lines[start - 1].endswith("\r")] if rest and language in _SHELLS else []
    mended = "the command began on the line of the fence" if begun else ""
    end = _next_end(lines, start, fence)
    if end is None:
        return _Block(language, "\n".join([*begun, *lines[start:]]), mended, fence, closed=False), len(lines)
    if (not language or language in _SHELLS) and (later := _end_past_heredoc(lines, start, end, fence)):
        end, mended = later, "a heredoc held fences as short as the block's own"
    content = unix_lines("\n".join([*begun, *lines[start:end], ""])).removesuffix("\n")
    return _Block(language, content, mended, fence), end + 1


def _end_past_heredoc(lines: Sequence[str], start: int, first: int, fence: str) -> int:
    """The closing fence of a block whose heredoc holds fences, or 0 if that is not the one way to read it."""
    end: int | None = first
    for _ in range(MAX_HEREDOCS):
        if end is None:
            return 0
        shell = scan(unix_lines("\n".join([*lines[start:end], ""])).removesuffix("\n"))
        if not shell.open:
            return end if end != first and _paired(lines[start:end]) else 0
        marker = next((at for at in range(end, len(lines)) if lines[at].strip() == shell.heredoc), len(lines))
        end = _next_end(lines, marker, fence)
    return 0


def _next_end(lines: Sequence[str], start: int, fence: str) -> int | None:
    """The first line from `start` that closes a block with that fence."""
    return next((at for at in range(start, len(lines)) if _closes(lines[at], fence)), None)


def _closes(line: str, fence: str) -> bool:
    closing = _CLOSING.fullmatch(line)
    return closing is not None and closing[1].startswith(fence)


def _paired(lines: Sequence[str]) -> bool:
    """Whether every fence that is opened in these lines is closed in them."""
    fence = ""
    for line in lines:
        if fence:
            fence = "" if _closes(line, fence) else fence
        elif opening := _OPENING.fullmatch(line):
            fence = opening[1]
    return not fence


def _parse_block(content: str, notes: list[str], *, said_done: bool) -> Parse:
    """The command of a block and whether it ends the work; `said_done`: the text around the block says so."""
    command, done = content, said_done
    head, _, last = content.rstrip("\n").rpartition("\n")
    if _MARKER_LINE.fullmatch(content.strip("\n").partition("\n")[0]):
        if head.strip():
            return failed("Commands follow the done marker; send them without it, and the marker alone afterwards.")
        command, done = "", True
    elif _MARKER_LINE.fullmatch(last):
        if scan(head).open or _CONTINUED.search(head):
            return failed(
                "The done marker is part of a command; send the command without it, and the marker afterwards."
            )
        command, done = head, True
        notes.append("the done marker followed a command")
    elif said_done:
        notes.append("the command was run and the reply taken as done")
    return Parse("repaired" if notes else "strict", (command,) if command.strip() else (), done, "; ".join(notes))


def _parse_prose(text: str, notes: list[str]) -> Parse:
    said = text.strip()
    last = said.rsplit("\n", 1)[-1].strip()
    if said not in {DONE, MARKER}:
        if last not in {DONE, MARKER} and said.strip("*_`.! ").upper() not in {DONE, MARKER}:
            return Parse("strict")
        notes.append("the done marker did not stand alone")
    return Parse("repaired" if notes else "strict", done=True, error="; ".join(notes))


BASH_BLOCK = AgentProtocol(
    name="bash-block",
    system=(
        "You are an agent in a Linux shell. You solve the user's task by running bash commands, one reply at a time.\n"
        "Each reply holds exactly one command block:\n\n"
        "```bash\nyour command\n```\n\n"
        "The block may hold several lines; the shell keeps its directory and variables between replies. After each "
        "reply you are told the exit code and the output. There is no terminal: interactive programs such as editors "
        "do not work. Text around the block is not run.\n"
        f"When the task is finished and checked, reply with the single word {DONE} and no block."
    ),
    brief=(
        "You are an agent in a Linux shell. Reply with one bash command in a ```bash block. "
        "When the task is finished, reply with DONE."
    ),
    reminder="Reply with one bash command in a ```bash block, or with DONE when the task is finished.",
    parse=parse,
    render=render,
    in_command=_in_command,
    grammar=GRAMMAR,
)
