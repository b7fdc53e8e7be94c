"""The progress of a session and the time that remains, as numbers and words; uses neither clock nor terminal."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

WINDOW = 50
"""Trials that the rate is computed from: enough to average over tasks, few enough to notice a slower machine."""
LEAST = 3
"""Trials that must have ended before a rate is shown."""


@dataclass(frozen=True)
class Tally:
    """The counts of a session's trials so far; trials kept from earlier sessions are not among them."""

    solved: int = 0
    unsolved: int = 0
    errors: int = 0
    left: int = 0
    """Still to come; falls without the end of a trial when a config stops early."""

    @classmethod
    def of(cls, outcomes: Iterable[str], left: int) -> Tally:
        """Count outcomes, each `solved`, `unsolved` or `error`."""
        counts = Counter(outcomes)
        return cls(counts["solved"], counts["unsolved"], counts["error"], left)

    @property
    def done(self) -> int:
        return self.solved + self.unsolved + self.errors

    @property
    def total(self) -> int:
        return self.done + self.left

    @property
    def what(self) -> str:
        return "trials"

    @property
    def words(self) -> tuple[tuple[str, ...], ...]:
        """The counts after `done/total`, the most complete first."""
        solved, errors = f"{self.solved} solved", f"{self.errors} error{'' if self.errors == 1 else 's'}"
        return (solved, f"{self.unsolved} unsolved", errors), (solved, errors), ()


@dataclass(frozen=True)
class Work:
    """How far a preparation is."""

    what: str
    """What is counted, in the plural: `tasks checked`."""
    done: int
    left: int
    now: tuple[str, ...] = ()
    """Names of what is being worked on."""

    @property
    def total(self) -> int:
        return self.done + self.left

    @property
    def words(self) -> tuple[tuple[str, ...], ...]:
        """As of a tally: all names, or the first and how many more, or none."""
        if not self.now:
            return ((),)
        more = f" and {len(self.now) - 1} more" if len(self.now) > 1 else ""
        return (f"now {', '.join(self.now)}",), (f"now {self.now[0]}{more}",), ()


@dataclass(frozen=True)
class Progress:
    """A tally, and when the latest trials, or parts of other work, ended."""

    tally: Tally | Work
    ends: tuple[float, ...]
    """Seconds on any clock, oldest first: the start and the end of each trial, the last `WINDOW` + 1 of them."""
    least: int = LEAST
    """Trials that must have ended before a rate is shown."""

    @classmethod
    def begin(cls, tally: Tally | Work, now: float, *, at_a_time: int = 1) -> Progress:
        """The progress before the first trial.

        Args:
            tally: of the trials to come.
            now: seconds, on the clock that all later times are from.
            at_a_time: how many trials run in parallel. No rate is shown before as many have ended, since the first
                of them end together.
        """
        return cls(tally, (now,), max(LEAST, at_a_time))

    def at(self, tally: Tally | Work, now: float) -> Progress:
        """The progress at a later time."""
        ended = max(tally.done - self.tally.done, 0)
        return replace(self, tally=tally, ends=(*self.ends, *[now] * ended)[-WINDOW - 1 :])

    @property
    def rate(self) -> float | None:
        """Trials per second, over the latest `WINDOW` of them; None while too few have ended."""
        elapsed = self.ends[-1] - self.ends[0]
        return (len(self.ends) - 1) / elapsed if self.tally.done >= self.least and elapsed > 0 else None

    @property
    def seconds_left(self) -> float | None:
        """Seconds that the remaining trials take at `rate`; None while there is no rate."""
        return self.tally.left / self.rate if self.rate else None

    def line(self, width: int, trouble: str = "") -> str:
        """The progress in at most `width` characters; if space is short, the least important parts are left out.

        Args:
            width: of the line.
            trouble: what does not answer, which takes the place of the rate and the time that is left.
        """
        tally = self.tally
        done = f"{tally.done}/{tally.total}"
        most, *fewer = tally.words
        counts = (f"capvec: {done} {tally.what}", *most)
        rate = (per_time(self.rate),) if self.rate else ()
        left = (f"{in_words(self.seconds_left)} left" if self.seconds_left is not None else "…",) if tally.left else ()
        if trouble:
            rate, left = (), (trouble,)
        shorter = ((done, *words, *left) for words in fewer)
        forms = ((*counts, *rate, *left), (*counts, *left), *shorter, *([left] if trouble else []), (done,))
        lines = (" · ".join(form) for form in forms)
        return next((line for line in lines if len(line) <= width), "")


def per_time(rate: float) -> str:
    """A rate per second as `12/min` or `40/h`."""
    return f"{rate * 60:.0f}/min" if rate * 60 >= 2 else f"{rate * 3600:.0f}/h"


def in_words(seconds: float) -> str:
    """A duration with the precision of a forecast: `about 40 s`, `about 13 min`, `about 2 h 10 min`."""
    tens, minutes = math.ceil(seconds / 10), math.ceil(seconds / 60)
    if tens < 6:
        return f"about {10 * max(tens, 1)} s"
    if minutes < 90:
        return f"about {minutes} min"
    hours, rest = divmod(10 * math.ceil(minutes / 10), 60)
    return f"about {hours} h{f' {rest} min' if rest else ''}"
