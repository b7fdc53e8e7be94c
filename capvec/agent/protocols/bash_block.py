"""`bash-block`: one fenced ```bash block in each reply, as in mini-swe-agent.

How a reply is parsed, after a thought (`<think>…</think>`) at its start is removed:

- exactly one block tagged `bash`: its content is the command, prose around it is free: strict;
- the block's first line is `echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT` (mini-swe-agent's marker): done, and nothing
  is run: strict; lines after it are dropped: repaired. The marker as the *last* line: the lines before it run, then
  done: repaired;
- no block, and the text is exactly that marker or `DONE`: done, strict; as the last line after prose, or in other
  case or punctuation: repaired;
- one block, and the text around it is exactly `DONE` or the marker: the block runs, then done: repaired;
- no block and no marker, or a block without content: no_cmd, strict. So is a thought that never ends;
- repaired and run: a block tagged `sh`, `shell`, `console`, `zsh` or not at all; a fence that is never closed or
  closes at the end of a line; a command on the line of the opening fence; one `bash` block beside blocks in other
  languages or untagged;
- failed: several blocks that could be the command (one action a reply, as mini-swe-agent), or only blocks in
  another language.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from capvec.agent.protocols.base import AgentProtocol, failed, strip_thought
from capvec.errors import UsageError
from capvec.records import Parse

MARKER = "COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"
DONE = "DONE"

_SHELLS = ("bash", "sh", "shell", "console", "zsh")
_OPENING = re.compile(r"[ \t]*(`{3,})[ \t]*([^`\s]*)[ \t]*([^`]*)")
# Possessive (`*+`), so that a long line that is never closed takes linear time.
_INLINE = re.compile(r"[ \t]*```(?:(bash|sh|shell|console|zsh)[ \t]+)?(?=[^`]*[^`\s])([^`]*+)```[ \t]*")
_MARKER_LINE = re.compile(rf"\s*echo\s+([\"']?){MARKER}\1\s*")


@dataclass(frozen=True)
class _Block:
    language: str
    """In lower case; empty if the fence has none."""
    content: str
    mended: str = ""


def parse(text: str) -> Parse:
    """Read a `bash-block` reply. Never raises."""
    blocks, outside = _split(strip_thought(text))
    if not blocks:
        return _parse_prose(outside)
    chosen = (
        [block for block in blocks if block.language == "bash"]
        or [block for block in blocks if block.language in _SHELLS]
        or [block for block in blocks if not block.language]
    )
    if not chosen:
        return failed(f"The block is tagged {blocks[0].language!r:.40}, not bash.")
    if len(chosen) > 1:
        return failed(f"The reply has {len(chosen)} command blocks; exactly one is allowed.")
    (block,) = chosen
    notes = [block.mended] if block.mended else []
    if block.language != "bash":
        notes.append(f"the block was tagged {block.language!r}, not bash")
    if len(blocks) > 1:
        notes.append(f"{len(blocks) - 1} other blocks were ignored")
    command, done, note = _split_marker(block.content)
    if note:
        notes.append(note)
    if not done and outside.strip() in {DONE, MARKER}:
        done = True
        notes.append("the command was run and the reply taken as done")
    commands = (command,) if command.strip() else ()
    return Parse("repaired" if notes else "strict", commands, done, "; ".join(notes))


def render(commands: Sequence[str], done: bool = False) -> str:
    """The strict reply: one block, in a fence longer than any in the command, or `DONE`.

    Raises:
        UsageError: several commands, or a command and done at once, which this protocol has no reply for.
    """
    if len(commands) + done != 1:
        raise UsageError(f"bash-block says one command or done, not {len(commands)} commands with done={done}")
    if done:
        return DONE
    fence = "`" * max([3, *(len(run) + 1 for run in re.findall("`+", commands[0]))])
    return f"{fence}bash\n{commands[0]}\n{fence}"


def _split(text: str) -> tuple[list[_Block], str]:
    """The fenced blocks in order, and the text outside them."""
    blocks: list[_Block] = []
    outside: list[str] = []
    content: list[str] = []
    fence, language, mended = "", "", ""
    # Not `splitlines`, which also splits at form feeds and Unicode separators, as a command may hold them.
    for line in text.replace("\r\n", "\n").split("\n"):
        if not fence:
            if inline := _INLINE.fullmatch(line):
                blocks.append(_Block(inline[1] or "", inline[2].strip(), "the block stood on one line"))
            elif opening := _OPENING.fullmatch(line):
                fence, language, content, mended = opening[1], opening[2].lower(), [], ""
                if opening[3] and language in _SHELLS:
                    content, mended = [opening[3]], "the command began on the line of the fence"
            else:
                outside.append(line)
        elif re.fullmatch(rf"[ \t]*`{{{len(fence)},}}[ \t]*", line):
            blocks.append(_Block(language, "\n".join(content), mended))
            fence = ""
        elif line.endswith(fence) and "`" not in (head := line[: -len(fence)]):
            blocks.append(_Block(language, "\n".join([*content, head]), "the fence closed inside a line"))
            fence = ""
        else:
            content.append(line)
    if fence:
        blocks.append(_Block(language, "\n".join(content).rstrip(), "the fence was never closed"))
    return blocks, "\n".join(outside)


def _split_marker(content: str) -> tuple[str, bool, str]:
    """The command without the done marker, whether the marker was there, and the repair."""
    lines = content.strip("\n").split("\n")
    if _MARKER_LINE.fullmatch(lines[0]):
        dropped = any(line.strip() for line in lines[1:])
        return "", True, "the lines after the done marker were dropped" if dropped else ""
    if _MARKER_LINE.fullmatch(lines[-1]):
        return "\n".join(lines[:-1]), True, "the done marker followed a command"
    return content, False, ""


def _parse_prose(text: str) -> Parse:
    said = text.strip()
    if said in {DONE, MARKER}:
        return Parse("strict", done=True)
    last = said.rsplit("\n", 1)[-1].strip()
    if last in {DONE, MARKER} or said.strip("*_`.! ").upper() in {DONE, MARKER}:
        return Parse("repaired", done=True, error="the done marker did not stand alone")
    return Parse("strict")


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
)
