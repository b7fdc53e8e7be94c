"""The instrument of a run, Docker and the engine: whether it is there, and waiting until it is back.

Every worker finds out for itself and waits by itself, with pauses of random length, so that not all of them begin again
in one moment. What one of them has waited for in vain is put up in a file, where the others and the controller read it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from capvec.errors import InfrastructureError, StorageFault
from capvec.plan.options import SweepOptions
from capvec.records import InstrumentPart
from capvec.serial import Record
from capvec.storage import write_text
from capvec.text import one_line

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 5.0
"""Between two questions whether something is back, on average: at first, and after some time."""
STARTS = 3.0
"""An engine that starts again gets so many times as long as its first start took."""
NAMES: Mapping[InstrumentPart, str] = {"Docker": "Docker", "engine": "the engine"}


@dataclass(frozen=True)
class Patience(Record):
    """How a run bears with faults of its instrument."""

    retries: int = 0
    """How often a trial that ended in an error is tried again."""
    docker_s: float = 120.0
    """Seconds to wait for Docker."""
    engine_s: float = 120.0
    """Seconds to wait for the engine."""
    notice: Path | None = None
    """The file of the `Notice`."""

    @classmethod
    def of(cls, options: SweepOptions, start_s: float = 0.0, notice: Path | None = None) -> Self:
        """As the user asked for it.

        Args:
            options: the user's.
            start_s: seconds that the start of the run's own engine took. It is given several times as long, in
                addition, where it starts again.
            notice: file of the `Notice`.
        """
        wait_s = options.max_outage
        return cls(options.retries, wait_s, wait_s + STARTS * start_s, notice)

    def limit(self, part: InstrumentPart) -> float:
        """Seconds to wait for a part."""
        return self.docker_s if part == "Docker" else self.engine_s


class Notice:
    """Why a run stops before its last trial, for all of its processes on this machine to read."""

    def __init__(self, path: Path | None) -> None:
        """Take the file in which it is written; None keeps it in this process."""
        self._path, self._reason = path, ""

    @property
    def reason(self) -> str:
        """Why the run stops; empty if it does not."""
        if not self._reason and self._path is not None:
            try:
                self._reason = self._path.read_text(encoding="utf-8")
            except FileNotFoundError:
                return ""
        return self._reason

    def post(self, reason: str) -> None:
        """Stop the run, unless it stops already."""
        if self.reason:
            return
        self._reason = one_line(reason)
        if self._path is not None:
            with suppress(StorageFault):  # then the others wait for themselves
                write_text(self._path, self._reason)


@dataclass(frozen=True)
class Absence:
    """A part of the instrument that is out."""

    part: InstrumentPart
    reason: str


@dataclass(frozen=True)
class Wait:
    """What came of waiting."""

    seconds: float
    why_not: str = ""
    """Why the part did not come back; empty if it did."""


class Instrument:
    """Asks the parts of the instrument whether they are there, and waits for them."""

    def __init__(
        self,
        checks: Mapping[InstrumentPart, Callable[[], None]],
        patience: Patience,
        notice: Notice,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Take what to ask.

        Args:
            checks: part → what raises an `InfrastructureError` where it is out.
            patience: how long to wait.
            notice: where it is said that a part did not come back.
            clock: in seconds.
            sleep: waits for so many seconds.
        """
        self._checks, self._patience, self.notice = checks, patience, notice
        self._clock, self._sleep = clock, sleep

    def absence(self) -> Absence | None:
        """The first part that is out now; None if all are there."""
        for part, check in self._checks.items():
            try:
                check()
            except InfrastructureError as error:
                return Absence(part, str(error))
        return None

    def wait(self, absence: Absence) -> Wait:
        """Wait until a part is back, and then for a moment of random length. Where it does not come back, post it."""
        began, pause, reason = self._clock(), FIRST_PAUSE_S, absence.reason
        limit = self._patience.limit(absence.part)
        while True:
            waited = self._clock() - began
            if said := self.notice.reason:
                return Wait(waited, said)
            if waited >= limit:
                self.notice.post(f"{NAMES[absence.part]} did not come back within {limit:g} s: {reason}")
                return Wait(waited, self.notice.reason)
            self._sleep(min(limit - waited, pause * random.uniform(0.5, 1.5)))
            pause = min(2 * pause, LONGEST_PAUSE_S)
            try:
                self._checks[absence.part]()
            except InfrastructureError as error:
                reason = str(error)
            else:
                self._sleep(random.uniform(0, FIRST_PAUSE_S))
                return Wait(self._clock() - began)
