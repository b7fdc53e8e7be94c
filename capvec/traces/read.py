"""Finds and reads the traces in a folder or a file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from capvec.errors import UsageError
from capvec.records import Trace
from capvec.traces import atif, chats, inspect_log, mini_swe_agent, nemo_gym, openhands, swe_agent
from capvec.traces.conversation import check_conversation
from capvec.traces.document import Document, NotATrace
from capvec.traces.files import files_in, load
from capvec.traces.formats import Format
from capvec.traces.harbor import own_records, subagent_files, whole_runs, with_result

FORMATS: tuple[Format, ...] = (
    atif.FORMAT,
    inspect_log.FORMAT,
    nemo_gym.FORMAT,
    openhands.FORMAT,
    mini_swe_agent.FORMAT,
    swe_agent.FORMAT,
    chats.FORMAT,
)
"""The formats that are read, in the order in which they are tried."""

_NAMES = ", ".join(known.name for known in FORMATS)
_EXPECTED = f"a file of one of the formats {_NAMES}, or a folder of these"
_SHOWN = 3


def read_traces(
    path: Path, fields: Mapping[str, str] | None = None, say: Callable[[str], None] | None = None
) -> tuple[Trace, ...]:
    """Read every trace of a folder, at any depth, or of a file: JSON, JSON lines, or an archive of Inspect.

    The formats are those of `FORMATS`, known by the content of a file and not by its name. What holds no trace is
    passed over and said: reports, results, a run without a reply, trajectories of subagents. A run that Harbor wrote in
    parts is one trace: the conversation of the last part, with the steps and counts of all.

    The reward of a trace is, in this order: capvec's own (None if the trial ended in `error`), the one of its file, the
    one in Harbor's `result.json` beside or above the file, None. `steps` counts the model's replies without copied
    context. `parse_fail` and `no_cmd` are None if they are unknown, and `uncounted` says why.

    Args:
        path: folder or file.
        fields: field → its name in the files, in addition to the names in `TRACE_FIELDS`.
        say: takes a line for each reason for which something was passed over.

    Returns:
        The traces in the order of paths and lines, with unique ids.

    Raises:
        UsageError: the path does not exist or holds no trace, or a trace is broken; the message names file, line and
            key. A trace is broken as well if it is empty, if the assistant speaks first, if a text of it has no UTF-8,
            or if a part of a message has a type that is not read.
    """
    check_traces(path)
    reading = _Reading(path, fields or {})
    traces = tuple(_with_unique_ids([*reading.traces()]))
    if not traces:
        raise UsageError(
            f"--traces {path}: holds no trace: {'; '.join(reading.reasons()) or 'it is empty'}; expected {_EXPECTED}"
        )
    if say is not None:
        for reason in reading.reasons():
            say(f"--traces {path}: passed over: {reason}")
    return traces


def check_traces(path: Path) -> None:
    """Check the path of traces without reading them.

    Raises:
        UsageError: the path does not exist.
    """
    if not path.exists():
        raise UsageError(f"--traces {path}: no such file or folder; expected {_EXPECTED}")


@dataclass
class _Reading:
    """The reading of one path, which keeps what it passes over."""

    path: Path
    fields: Mapping[str, str]
    passed_over: dict[str, list[str]] = field(default_factory=dict)
    """Reason → the names of what was passed over for it."""

    def reasons(self) -> list[str]:
        """For each reason, how many were passed over for it, and the first of them."""
        return [
            f"{reason} ({len(names)}: {', '.join(names[:_SHOWN])}{', …' if len(names) > _SHOWN else ''})"
            for reason, names in self.passed_over.items()
        ]

    def traces(self) -> Iterator[Trace]:
        found = [*self._documents()]
        trajectories = [document for document, known in found if known is atif.FORMAT]
        others = [document for document, known in found if known is not atif.FORMAT]
        left_out = {
            **dict.fromkeys(subagent_files(trajectories), "trajectories of subagents"),
            **dict.fromkeys(own_records(trajectories, others), "an agent's own record of a run that is read as ATIF"),
        }
        runs = {parts[-1].name: parts for parts in whole_runs(trajectories)}
        for document, known in found:
            if document.path in left_out:
                self._pass_over(left_out[document.path], document.name)
            elif known is not atif.FORMAT or document.name in runs:
                yield from self._read(runs.get(document.name, (document,)), known)

    def _documents(self) -> Iterator[tuple[Document, Format]]:
        for file in files_in(self.path):
            try:
                yield from self._documents_of(file)
            except NotATrace as reason:
                self._pass_over(str(reason), str(file))
            except OSError as error:
                raise UsageError(f"--traces {file}: cannot be read ({error.strerror})") from error

    def _documents_of(self, file: Path) -> Iterator[tuple[Document, Format]]:
        value, labels = load(file)
        if (known := self._format_of(value)) is not None:
            yield Document(str(file), value, file), known
            return
        values = value if isinstance(value, list) else [value]
        formats = [self._format_of(entry) for entry in values]
        if file != self.path and not any(formats):
            raise NotATrace("JSON without a conversation")
        for number, (entry, known) in enumerate(zip(values, formats, strict=True), start=1):
            if isinstance(entry, UsageError):
                raise entry
            label = labels[number - 1] if labels else f", entry {number}" if isinstance(value, list) else ""
            # What no format knows was meant as a chat, whose errors say what is missing.
            yield Document(f"{file}{label}", entry, file, alone=len(values) == 1), known or chats.FORMAT

    def _format_of(self, value: Any) -> Format | None:
        return next((known for known in FORMATS if known.looks_like(value, self.fields)), None)

    def _read(self, parts: Sequence[Document], known: Format) -> Iterator[Trace]:
        try:
            if len(parts) > 1:
                read = [_joined([trace for part in parts for trace in known.read(part, self.fields)])]
            else:
                read = [*known.read(parts[0], self.fields)]
        except NotATrace as reason:
            self._pass_over(str(reason), parts[-1].name)
            return
        for trace in read:
            whole = trace if known is atif.FORMAT else with_result(trace, parts[0], self.fields)
            try:
                check_conversation(whole, parts[-1].name)
            except NotATrace as reason:
                self._pass_over(str(reason), parts[-1].name if len(read) == 1 else f"{parts[-1].name} ({trace.id})")
            else:
                yield whole

    def _pass_over(self, reason: str, name: str) -> None:
        short = name.removeprefix(f"{self.path}/").removeprefix(f"{self.path.parent}/")
        self.passed_over.setdefault(reason, []).append(short)


def _joined(parts: Sequence[Trace]) -> Trace:
    """One run from its parts, each of which opens with what the model kept of the parts before."""
    return replace(
        parts[-1],
        steps=sum(part.steps for part in parts),
        parse_fail=_total([part.parse_fail for part in parts]),
        no_cmd=_total([part.no_cmd for part in parts]),
    )


def _total(counts: Sequence[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


def _with_unique_ids(traces: Sequence[Trace]) -> Iterator[Trace]:
    """Trajectories of other agents may share one session id: the second with an id gets `#2`."""
    seen: Counter[str] = Counter()
    for trace in traces:
        seen[trace.id] += 1
        yield trace if seen[trace.id] == 1 else replace(trace, id=f"{trace.id}#{seen[trace.id]}")
