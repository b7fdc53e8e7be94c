"""A regular expression as an automaton over a model's tokens. As a program, it makes one in a process of its own.

Some expressions have automata without bound, and an expression may come from any client: that process ends after
`SECONDS` of work, and takes at most `BYTES` of memory. The engine's own process goes on.
"""

from __future__ import annotations

import io
import pickle
import resource
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from tempfile import TemporaryFile

import numpy as np
from numpy.typing import NDArray

from capvec.errors import UsageError
from capvec.programs import python

SECONDS, BYTES = 60, 4 << 30
LOOK_S = 0.2
"""Seconds between two looks at whether somebody still waits."""
NEVER = 1 << 30
"""More tokens than any reply has."""
Words = Mapping[bytes, Sequence[int]]
"""What tokens say → the tokens that say it."""


@dataclass(frozen=True, eq=False)
class Automaton:
    """States are numbered from 0, the initial one; a token leads from one to the next."""

    starts: NDArray[np.int64]
    """Where the tokens of each state begin in `tokens`, and at the end their number; int64 `[states + 1]`."""
    tokens: NDArray[np.int64]
    """State by state, in ascending order; int64."""
    follows: NDArray[np.int64]
    """The state to which each of `tokens` leads."""
    needs: NDArray[np.int64]
    """The fewest tokens that end a reply from each state, the one that ends it included; 1 where it may end here."""

    def allowed(self, state: int, room: int) -> NDArray[np.int64]:
        """The tokens after which a reply can still be ended, for which there is room for so many, this one included."""
        here = slice(self.starts[state], self.starts[state + 1])
        found: NDArray[np.int64] = self.tokens[here][self.needs[self.follows[here]] < room]
        return found

    def after(self, state: int, token: int) -> int:
        """The state to which an allowed token leads."""
        first, end = self.starts[state], self.starts[state + 1]
        return int(self.follows[first + np.searchsorted(self.tokens[first:end], token)])


class GivenUpError(Exception):
    """Nobody waits for the automaton any more."""


def automaton_of(
    regex: str, words: Words, stop: int, seconds: int = SECONDS, given_up: Callable[[], bool] = lambda: False
) -> Automaton:
    """The automaton of a regular expression, made in a process of its own.

    Args:
        regex: that whole replies match.
        words: of the model, without the tokens that end a reply.
        stop: one of these.
        seconds: of processor time that it may take.
        given_up: whether nobody waits for it any more; asked again and again.

    Raises:
        GivenUpError: that is so.
        UsageError: it is no regular expression in the syntax of Rust's `regex`, its automaton is too large, or no
            tokens of the model make a text that it matches.
    """
    done = _run(python(__name__, str(seconds)), pickle.dumps((regex, dict(words), stop)), given_up)
    if done.returncode == 0:
        with np.load(io.BytesIO(done.stdout)) as arrays:
            return Automaton(**arrays)
    said = done.stderr.decode(errors="replace").strip().splitlines()
    why = said[-1] if done.returncode == 1 and said else "its automaton is too large"
    raise UsageError(f"the regular expression {regex[:60]!r} cannot constrain this model's replies: {why[:200]}")


def _run(command: Sequence[str], given: bytes, given_up: Callable[[], bool]) -> subprocess.CompletedProcess[bytes]:
    """Run a program to its end, or until it is given up."""
    pipe = subprocess.PIPE
    with TemporaryFile() as asked:  # through a pipe, `communicate` does not go on writing after a timeout
        asked.write(given)
        asked.seek(0)
        with subprocess.Popen(command, stdin=asked, stdout=pipe, stderr=pipe) as process:
            try:
                while True:
                    with suppress(subprocess.TimeoutExpired):
                        out, errors = process.communicate(timeout=LOOK_S)
                        return subprocess.CompletedProcess(command, process.returncode, out, errors)
                    if given_up():
                        raise GivenUpError
            finally:
                process.kill()


def compiled(regex: str, words: Words, stop: int) -> Automaton:
    """The automaton, made in this process.

    Raises:
        ValueError: as for `automaton_of`.
    """
    from outlines_core import Index, Vocabulary  # noqa: PLC0415 (the engine starts without it)

    index = Index(regex, Vocabulary(stop, {word: list(tokens) for word, tokens in words.items()}))
    found, first = index.get_transitions(), index.get_initial_state()
    states = list(dict.fromkeys([first, *found, *(state for to in found.values() for state in to.values())]))
    number = {state: place for place, state in enumerate(states)}
    place = np.vectorize(number.__getitem__, otypes=[np.int64])
    starts, tokens, follows = [0], [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for state in states:
        to = {token: after for token, after in found.get(state, {}).items() if token != stop}
        listed = np.fromiter(to, np.int64, len(to))
        order = listed.argsort()
        tokens.append(listed[order])
        follows.append(place(np.fromiter(to.values(), np.int64, len(to))[order]) if to else follows[0])
        starts.append(starts[-1] + len(to))
    joined = np.concatenate(follows)
    ends = [number[state] for state in index.get_final_states()]
    needs = _needs(starts, joined, ends)
    if needs[0] >= NEVER:
        raise ValueError("no tokens of the model make a text that it matches")
    return Automaton(np.array(starts), np.concatenate(tokens), joined, needs)


def _needs(starts: Sequence[int], follows: NDArray[np.int64], ends: Sequence[int]) -> NDArray[np.int64]:
    """The fewest tokens to the end of a reply from each state."""
    needs = np.full(len(starts) - 1, NEVER)
    needs[ends] = 1
    edges = np.unique(np.stack([np.repeat(np.arange(len(needs)), np.diff(starts)), follows]), axis=1)
    while True:
        before = needs.copy()
        np.minimum.at(needs, edges[0], before[edges[1]] + 1)
        if (needs == before).all():
            return needs


def main() -> int:
    """Read what `automaton_of` asks for, and write the arrays."""
    resource.setrlimit(resource.RLIMIT_CPU, (int(sys.argv[1]), int(sys.argv[1])))
    resource.setrlimit(resource.RLIMIT_AS, (BYTES, resource.getrlimit(resource.RLIMIT_AS)[1]))
    try:
        made = compiled(*pickle.load(sys.stdin.buffer))  # of the engine that started it
    except ValueError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 1
    np.savez(sys.stdout.buffer, **vars(made))
    return 0


if __name__ == "__main__":
    sys.exit(main())
