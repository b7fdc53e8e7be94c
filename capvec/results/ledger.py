"""`trials.jsonl`: one outcome per line, on disk before the next trial is recorded."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from capvec.errors import StorageFault, UsageError
from capvec.parsing import parse_json
from capvec.reading import GIB, open_regular, shown
from capvec.records import Config, Outcome, TrialId
from capvec.storage import writing
from capvec.text import counted, one_line

TRIALS = "trials.jsonl"
"""Its name in a run folder."""
_LARGEST = 4 * GIB
"""Bytes that are read."""


class Ledger:
    """Appends outcomes as they arrive and reads them back; only the controller writes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._length: int | None = None
        """Bytes of the file as it was last read or written here; None before that."""

    def create(self) -> None:
        """Make the file if there is none, so that its absence later shows a loss.

        Raises:
            StorageFault: the disk refuses.
        """
        with writing(self.path):
            self.path.touch()

    def append(self, outcome: Outcome) -> None:
        """Write one line and wait until the disk has it; if it cannot, the file is as it was.

        Raises:
            StorageFault: the disk is full or read-only, or refuses otherwise; or the file is gone, or has another
                length than it was left with.
        """
        line = json.dumps(outcome.to_json(), allow_nan=False).encode() + b"\n"
        with writing(self.path), open(self.path, "ab", buffering=0, opener=self._open) as file:
            before = os.fstat(file.fileno()).st_size
            if self._length not in (None, before):
                raise StorageFault(
                    f"{self.path} was changed while this run writes it: it had {self._length:,} bytes and has "
                    f"{before:,}; put it back as it was"
                )
            self._length = before + len(line)
            try:
                while line:
                    line = line[file.write(line) :]
                os.fsync(file.fileno())
            except BaseException:
                self._length = before
                file.truncate(before)
                raise

    def _open(self, path: str, flags: int) -> int:
        """What was there once is not made anew."""
        return os.open(path, flags if self._length is None else flags & ~os.O_CREAT, 0o666)

    def read(self) -> tuple[Outcome, ...]:
        """Every outcome on disk, oldest first; the latest of a trial that ran again replaces the earlier one in place.

        A last line that was cut off by a crash is dropped: that trial did not finish.

        Raises:
            UsageError: another line is not an outcome, or the file cannot be read; the message names file and line.
        """
        if not self.path.exists():
            return ()
        latest: dict[TrialId, Outcome] = {}
        with open_regular(self.path, _LARGEST) as file:
            self._length = os.fstat(file.fileno()).st_size
            for number, line in enumerate(file, start=1):
                try:
                    outcome = Outcome.from_json(parse_json(line))
                except (ValueError, LookupError, TypeError, AttributeError, UsageError) as error:
                    if not line.endswith(b"\n"):
                        break
                    why = str(error) if isinstance(error, ValueError | UsageError) else "not an outcome of a trial"
                    raise UsageError(
                        f"{shown(self.path)}, line {number}: {one_line(why)}; put the file back as it was, or take "
                        "that line out, and its trial will run again"
                    ) from error
                latest[outcome.id] = outcome
        return tuple(latest.values())

    def mend(self) -> None:
        """Cut a torn last line off, so that the next append starts on a line of its own.

        Raises:
            StorageFault: the file cannot be written.
        """
        if cut_torn_line(self.path):
            self._length = None


def check_receipts(file: Path, configs: Iterable[Config], outcomes: Iterable[Outcome]) -> None:
    """Check that every trial with a reply has the receipts of its config's steers.

    Args:
        file: the ledger, for the message.
        configs: of the plan.
        outcomes: on record.

    Raises:
        UsageError: one has not, so nothing shows that it was steered.
    """
    steers = {config.name: len(config.steers) for config in configs}
    bare = [
        outcome.trial
        for outcome in outcomes
        if outcome.outcome != "error" and outcome.steps and len(outcome.measured) != steers[outcome.config]
    ]
    if bare:
        raise UsageError(
            f"{shown(file)}: {counted(len(bare), 'trial')} without the receipts of their steers (`measured`), "
            f"{bare[0]} first, so nothing shows that they were steered; put the file back as it was, or take these "
            "lines out, and the trials will run again with --resume"
        )


@dataclass(frozen=True)
class Completeness:
    """The trials that pytest collected, compared with those that left a record."""

    expected: int
    recorded: int
    missing: tuple[TrialId, ...]
    interrupted: bool = False
    """Whether the user stopped the session."""
    skipped: int = 0
    """Trials that did not run because their config had stopped; they are neither recorded nor missing."""
    stopped: str = ""
    """Why the session ended before its last trial, where the instrument did not come back."""

    def __str__(self) -> str:
        counts = f"{'Interrupted: ' if self.interrupted else ''}{self.recorded} of {self.expected} trials recorded"
        if self.skipped:
            counts += f", {self.skipped} not needed since their configs stopped early"
        if self.stopped:
            counts = f"Stopped: {self.stopped}. {counts}"
        if not self.missing:
            return counts
        return f"{counts}; NOT RUN: {', '.join(map(str, self.missing[:5]))}{', …' if len(self.missing) > 5 else ''}"


def reconcile(
    expected: Iterable[TrialId],
    outcomes: Iterable[Outcome],
    ran: Collection[TrialId],
    *,
    interrupted: bool = False,
    not_needed: Collection[TrialId] = (),
    stopped: str = "",
) -> Completeness:
    """Compare the collected trials with those on record; a missing trial is never counted as unsolved.

    Args:
        expected: the trials that this session collected.
        outcomes: all on record. This session was to replace the errors of earlier ones, so such an `error` counts only
            if its trial ran again.
        ran: the trials that ran in this session.
        interrupted: whether the user stopped the session.
        not_needed: the trials after their config's stop.
        stopped: why the session ended before its last trial; empty if it did not.
    """
    wanted, ran = tuple(dict.fromkeys(expected)), frozenset(ran)
    recorded = {outcome.id for outcome in outcomes if outcome.outcome != "error" or outcome.id in ran}
    absent = [trial for trial in wanted if trial not in recorded]
    missing = tuple(trial for trial in absent if trial not in not_needed)
    skipped = len(absent) - len(missing)
    return Completeness(len(wanted), len(wanted) - len(absent), missing, interrupted, skipped, stopped)


def cut_torn_line(path: Path) -> bool:
    """Cut off a last line that a crash tore, if a file has one. Returns whether it had.

    Raises:
        StorageFault: the file cannot be written.
    """
    data = path.read_bytes() if path.exists() else b""
    whole = data.rfind(b"\n") + 1
    if whole == len(data):
        return False
    with writing(path), path.open("r+b") as file:
        file.truncate(whole)
    return True
