"""Collects what a folder or a file holds: documents with their formats, verdicts, and what is passed over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from capvec.errors import UsageError
from capvec.traces import chats, openhands
from capvec.traces.document import Document, NotATrace
from capvec.traces.files import Repeats, files_in, load
from capvec.traces.format import Format
from capvec.traces.formats import format_of
from capvec.traces.swe_bench import Report, report_of

_NO_CONVERSATION = "JSON without a conversation"
_SHOWN = 3


@dataclass
class PassedOver:
    """What was passed over in a path, by reason."""

    path: Path
    names: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, name: str) -> None:
        """Note that a file, or a line of it, was passed over."""
        short = name.removeprefix(f"{self.path}/").removeprefix(f"{self.path.parent}/")
        self.names.setdefault(reason, []).append(short)

    def lines(self) -> list[str]:
        """For each reason, how many were passed over for it, and the first of them."""
        return [
            f"{reason} ({len(names)}: {', '.join(names[:_SHOWN])}{', …' if len(names) > _SHOWN else ''})"
            for reason, names in self.names.items()
        ]


@dataclass
class Found:
    """What a folder or a file holds."""

    path: Path
    fields: Mapping[str, str]
    passed_over: PassedOver
    unrewarded: PassedOver
    """Runs of Harbor whose verifier gave rewards of which none has a known name."""
    reports: list[Report] = field(default_factory=list)
    """The reports of SWE-bench."""
    events: dict[Path, list[tuple[Path, Any]]] = field(default_factory=dict)
    """Folder → what looks like events of OpenHands in it, each with its file."""

    def documents(self) -> Iterator[tuple[Document, Format]]:
        """Every document in the order of paths and lines, with its format.

        Raises:
            UsageError: a file cannot be read, or a value among traces is none.
        """
        for file in files_in(self.path):
            try:
                yield from self._in_file(file)
            except NotATrace as reason:
                self.passed_over.add(str(reason), str(file))
        for folder, kept in self.events.items():
            events = openhands.ordered([event for _, event in kept])
            if openhands.FORMAT.looks_like(events, self.fields):
                run = folder.parent if folder.name == "events" else folder
                yield Document(str(run), events, run), openhands.FORMAT
            else:
                for file, _ in kept:
                    self.passed_over.add(_NO_CONVERSATION, str(file))

    def _in_file(self, file: Path) -> Iterator[tuple[Document, Format]]:
        try:
            value, labels = load(file, self.path if file != self.path else None)
        except Repeats as repeats:
            entries = repeats.value if isinstance(repeats.value, list) else []
            if any(format_of(one, self.fields) for one in (repeats.value, *entries)):
                raise UsageError(f"{file}: {repeats}; expected each key once") from repeats
            raise
        if (known := format_of(value, self.fields)) is not None:
            yield Document(str(file), value, file), known
            return
        values = value if isinstance(value, list) else [value]
        formats = [format_of(entry, self.fields) for entry in values]
        if file != self.path and not any(formats):
            self._note(file, value)
            return
        for number, (entry, known) in enumerate(zip(values, formats, strict=True), start=1):
            if isinstance(entry, UsageError):
                raise entry
            label = labels[number - 1] if labels else f", entry {number}" if isinstance(value, list) else ""
            # What no format knows was meant as a chat, whose errors say what is missing.
            yield Document(f"{file}{label}", entry, file, alone=len(values) == 1), known or chats.FORMAT

    def _note(self, file: Path, value: Any) -> None:
        """Keep what belongs to the traces of other files: verdicts, and events that have a file each."""
        if openhands.is_event(value):
            self.events.setdefault(file.parent, []).append((file, value))
        elif (report := report_of(file, value)) is not None:
            self.reports.append(report)
        else:
            raise NotATrace(_NO_CONVERSATION)
