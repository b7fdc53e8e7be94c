"""Shell text as a reply carries it: its line ends, and whether a heredoc or a quotation in it is still open.

A protocol that shows the end of a command by a fence or a tag cannot quote it, so a command that holds the same fence
or tag may seem to end there. Such a line stands in a heredoc or in quotes, because nothing else of the shell's
language holds it; a command that leaves one open may therefore be cut. The scanner reads as much of bash as this
needs: quotes, expansions, comments, arithmetic and heredocs. It judges nothing else, so `if` without `fi` passes. Where
modes or releases of bash read a quotation in different ways, the command counts as open.

An open heredoc fails in every protocol: bash would write what there is of it without an error. An open quotation is an
error in bash, so it fails only where the command's end is uncertain.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

# Without `c` and `e`, with which `case` and `esac` begin.
_PLAIN = re.compile(r"[^\\'\"`$#<()\n\rce]+")
_ESCAPE = re.compile(r"\\(?:[^\r]|\Z)")
_SINGLE = re.compile(r"'[^']*+'")
_ANSI = re.compile(r"\$'(?:[^'\\]|\\.)*+'", re.DOTALL)
_BACKTICKS = re.compile(r"`(?:[^`\\]|\\.)*+`", re.DOTALL)
_IN_DOUBLE = re.compile(r"[^\\\"`$]+")
_IN_BRACES = re.compile(r"[^\\'\"`$}]+")
# With an operator after which `'` quotes even inside double quotes. After the others it does, but not in bash's POSIX
# mode, so that only what both read alike is certain.
_PATTERN_OPERATOR = re.compile(r"\$\{!?(?:[^\W\d]\w*|\d+|[@*])(?:\[(?:\w+|[@*])\])?[%#/^,]", re.ASCII)
_READ_ALIKE = re.compile(r"'[^'\"`$\\{}]*+'")
_FUNCTION = re.compile(r"\$\{[\s|(]")
_COMMENT = re.compile(r"#[^\n]*?(?=\r?(?:\n|\Z))")
_HEREDOC = re.compile(r"<<(-?)[ \t]*((?:\\.|'[^']*'|\"(?:[^\"\\]|\\.)*\"|[^ \t\n;&|<>()'\"\\])+)", re.DOTALL)
_CASE = re.compile(r"case\s[^\n;]{1,500}?\sin(?=\s)")
_ESAC = re.compile(r"esac\b")
_BRACKETED = re.compile(r"\$\[[^\]\n]{0,500}\]")
_BRACKET = re.compile(r"[()]")
_WORD_ENDS = frozenset(" \t\n;&|()<>")


@dataclass(frozen=True)
class ShellText:
    """What the scanner found in a command."""

    open: str = ""
    """What is not closed, as a phrase; empty if nothing."""
    heredoc: str = ""
    """The end marker of the open heredoc, if that is what is not closed."""
    markers: frozenset[str] = frozenset()
    """The end markers of its heredocs."""
    carriage_return: bool = False
    """Whether a carriage return stands outside heredocs, quotes and comments."""


@dataclass
class _Frame:
    """One level of nesting: the command itself, `$(…)`, `(…)`, `"…"` or `${…}`."""

    kind: str
    quoted: bool = False
    """Whether it stands inside double quotes."""
    clear: bool = True
    """Whether it is certain that single quotes quote in this `${…}`."""
    cases: int = 0
    """Open `case` statements, whose patterns end in an unpaired bracket."""
    heredocs: list[tuple[str, bool, bool]] = field(default_factory=list)
    """Those whose text begins on the next line: end marker, tabs before it allowed, quoted."""


def unix_lines(text: str) -> str:
    r"""A command with its Windows line ends replaced, if they are those of the reply.

    They are if every line ends in `\r\n`, and not only those in heredocs and quotes. Otherwise they are content.
    """
    if "\r" in text and text.count("\n") == text.count("\r\n") and scan(text).carriage_return:
        return text.replace("\r\n", "\n")
    return text


def problem(command: str, *, sure: bool) -> str:
    """The sentence for a command that must not run, because it may be cut or has stray Windows line ends, or "".

    Args:
        command: as it was found in the reply.
        sure: whether the format shows beyond doubt where the command ends.
    """
    shell = scan(command)
    if shell.heredoc or (shell.open and not sure):
        return f"The command leaves {shell.open} open, so it may be cut; write it whole, in one command."
    return "The command mixes Windows and Unix line ends; end every line with \\n alone." * shell.carriage_return


@lru_cache(maxsize=8)
def scan(command: str) -> ShellText:
    """Read a command for what it leaves open. Never raises; takes linear time."""
    return _Scanner(command).read()


class _Scanner:
    """One pass over a command, with a stack of what is open."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0
        self.frames = [_Frame("command")]
        self.markers: set[str] = set()
        self.joined = -1
        """Where an escaped sign or an expansion ended, so that a word goes on."""
        self.open, self.heredoc, self.carriage_return = "", "", False

    def read(self) -> ShellText:
        while self.at < len(self.text) and not self.open:
            kind = self.frames[-1].kind
            if kind == '"':
                self._in_double()
            elif kind == "${":
                self._in_braces()
            else:
                self._in_command()
        if pending := [heredoc for frame in self.frames for heredoc in frame.heredocs]:
            self._leave_heredoc(pending[0][0])
        if not self.open and any(frame.kind == '"' for frame in self.frames):
            self.open = 'a " quotation'
        if not self.open and any(frame.kind == "${" for frame in self.frames):
            self.open = "a ${…}"
        return ShellText(self.open, self.heredoc, frozenset(self.markers), self.carriage_return)

    def _take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """Move past the pattern if it stands here."""
        if found := pattern.match(self.text, self.at):
            self.at = found.end()
        return found

    def _closed(self, pattern: re.Pattern[str], name: str) -> None:
        """Move past a quotation that is read as a whole."""
        if not self._take(pattern):
            self.open = f"a {name} quotation"

    def _expansion(self, quoted: bool) -> bool:
        """Enter or pass an expansion or backticks; whether one stands here. `quoted`: inside double quotes."""
        text = self.text
        if text.startswith("`", self.at):
            self._closed(_BACKTICKS, "`")
        elif text.startswith("$$", self.at):
            self._process_id()
        elif text.startswith("$((", self.at) and (end := self._arithmetic_end(self.at + 1)):
            self.at = end
        elif text.startswith("$(", self.at):
            self.frames.append(_Frame("$(", quoted))
            self.at += 2
        elif text.startswith("${", self.at):
            self._enter_braces(quoted)
        else:
            return bool(self._take(_BRACKETED))
        return True

    def _process_id(self) -> None:
        """Move past `$$`; releases of bash differ in whether its second sign begins what follows."""
        self.at += 2
        signs = ("(", "{", "[", "'") if self.frames[-1].kind == "${" else ("(", "{", "[")
        if self.text.startswith(signs, self.at):
            self._leave_unclear("$$")

    def _enter_braces(self, quoted: bool) -> None:
        if _FUNCTION.match(self.text, self.at):  # holds commands, since bash 5.3
            self._leave_unclear("${…}")
        clear = not quoted or _PATTERN_OPERATOR.match(self.text, self.at) is not None
        self.frames.append(_Frame("${", quoted, clear))
        self.at += 2

    def _leave_unclear(self, what: str) -> None:
        """Read no further, as the rest may be in quotes or not."""
        self.open = f"an unclear {what}"
        self.carriage_return |= "\r" in self.text[self.at :]

    def _in_double(self) -> None:
        if self._take(_IN_DOUBLE) or self._take(_ESCAPE) or self._expansion(quoted=True):
            return
        if self.text[self.at] == '"':
            self.frames.pop()
        self.at += 1

    def _in_braces(self) -> None:
        frame = self.frames[-1]
        if self._take(_IN_BRACES) or self._take(_ESCAPE) or self._expansion(frame.quoted):
            return
        if self.text[self.at] == "'" and not frame.clear:
            if not self._take(_READ_ALIKE):
                self._leave_unclear("${…}")
            return
        if self._quotation(dollar=frame.clear):
            return
        if self.text[self.at] == "}":
            self.frames.pop()
        self.at += 1

    def _quotation(self, *, dollar: bool = True) -> bool:
        """Enter or pass a quotation; whether one stands here. `dollar`: it may be `$'…'`."""
        text = self.text
        if text.startswith('"', self.at):
            self.frames.append(_Frame('"'))
            self.at += 1
        elif text.startswith("'", self.at):
            self._closed(_SINGLE, "'")
        elif dollar and text.startswith("$'", self.at):
            self._closed(_ANSI, "$'")
        else:
            return False
        return True

    def _in_command(self) -> None:
        if self._take(_PLAIN):
            return
        text, frame, sign = self.text, self.frames[-1], self.text[self.at]
        starts_word = self.at == 0 or (text[self.at - 1] in _WORD_ENDS and self.at != self.joined)
        continued = starts_word and text.startswith("\\\n", self.at)
        if sign in "\\'\"`$" and (self._take(_ESCAPE) or self._quotation() or self._expansion(quoted=False)):
            self.joined = self.at if self.frames[-1] is frame and not continued else -1
            return
        if sign == "#" and starts_word:
            self._take(_COMMENT)
        elif sign == "<":
            self._less_than()
        elif text.startswith("((", self.at) and (end := self._arithmetic_end(self.at)):
            self.at = end
        else:
            self.at += 1
            self.carriage_return |= sign == "\r"
            if sign == "\n":
                self._read_heredocs(frame)
            elif sign in "()":
                self._bracket(sign)
            elif sign in "ce" and starts_word:
                frame.cases += bool(_CASE.match(text, self.at - 1))
                frame.cases -= bool(frame.cases and _ESAC.match(text, self.at - 1))

    def _bracket(self, sign: str) -> None:
        frame = self.frames[-1]
        if sign == "(":
            self.frames.append(_Frame("("))
        elif frame.kind in ("(", "$(") and not frame.cases:
            self.frames.pop()
            self.joined = self.at if frame.kind == "$(" else -1
            self.frames[-1].heredocs += frame.heredocs

    def _less_than(self) -> None:
        if self.text.startswith("<<<", self.at):
            self.at += 3
        elif heredoc := self._take(_HEREDOC):
            word = heredoc[2]
            self.carriage_return |= "\r" in word
            marker = re.sub(r"\\(.)|['\"]", r"\1", word)
            self.markers.add(marker)
            self.frames[-1].heredocs.append((marker, bool(heredoc[1]), marker != word))
        else:
            self.at += 1

    def _read_heredocs(self, frame: _Frame) -> None:
        """Move past the text of the heredocs that begin here."""
        while frame.heredocs and not self.open:
            marker, tabs, quoted = frame.heredocs.pop(0)
            if not self._read_heredoc(marker, tabs, quoted):
                self._leave_heredoc(marker)

    def _leave_heredoc(self, marker: str) -> None:
        self.open = self.open or f"the heredoc that ends with {marker!r:.40}"
        self.heredoc = marker

    def _read_heredoc(self, marker: str, tabs: bool, quoted: bool) -> bool:
        """Move past the text of one heredoc; whether its end marker was there."""
        joined = False
        while self.at < len(self.text):
            end = self.text.find("\n", self.at)
            line = self.text[self.at : end if end >= 0 else len(self.text)]
            self.at = end + 1 if end >= 0 else len(self.text)
            if not joined and (line.lstrip("\t") if tabs else line) == marker:
                return True
            backslashes = len(line) - len(line.rstrip("\\"))
            joined = not quoted and backslashes % 2 == 1
        return False

    def _arithmetic_end(self, start: int) -> int:
        """Where the `((` at `start` ends, or 0 if its brackets do not close as `))`."""
        close = self._partners.get(start, 0)
        return close + 1 if close and self._partners.get(start + 1) == close - 1 else 0

    @cached_property
    def _partners(self) -> dict[int, int]:
        """Where each opening bracket closes, quotes disregarded."""
        partners, opened = dict[int, int](), list[int]()
        for found in _BRACKET.finditer(self.text):
            if found[0] == "(":
                opened.append(found.start())
            elif opened:
                partners[opened.pop()] = found.start()
        return partners
