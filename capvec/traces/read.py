"""Finds and reads the traces in a folder or a file."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from capvec.errors import UsageError
from capvec.records import Trace
from capvec.traces.atif import foreign_trace, looks_like_trajectory, own_trace
from capvec.traces.chats import chat_trace, looks_like_chat
from capvec.traces.document import Document
from capvec.traces.harbor import whole_runs

_EXPECTED = "ATIF trajectories (.json), a JSONL of trajectories or of chats with a reward, or a folder of these"


def read_traces(path: Path, fields: Mapping[str, str] | None = None) -> tuple[Trace, ...]:
    """Read every trace of a folder (`.json` and `.jsonl` at any depth), of a `.jsonl` (one per line) or of one `.json`.

    A trace is an ATIF trajectory, v1.0 to v1.8, of capvec or another agent, or a chat (`chats.py`; in a folder only as
    a line of a JSONL). Other files of a folder are skipped: reports, results, a JSONL whose first line is not a trace,
    and trajectories of subagents. A run that Harbor wrote in parts is one trace: the conversation of the last part,
    with the steps and counts of all.

    The reward of a trace is, in this order: capvec's own (None if the trial ended in `error`), the one beside the
    conversation, the one in Harbor's `result.json` beside or above the file, None. `steps` counts the model's replies
    without copied context. `parse_fail` and `no_cmd` are None if they are unknown, and `uncounted` says why.

    Args:
        path: folder or file.
        fields: field → its name in the files, in addition to the names in `TRACE_FIELDS`.

    Returns:
        The traces in the order of paths and lines, with unique ids.

    Raises:
        UsageError: the path does not exist or holds no trace, or a trace is broken; the message names file, line and
            key.
    """
    fields = fields or {}
    check_traces(path)
    runs = list(whole_runs(list(_documents(path, fields))))
    if not runs:
        raise UsageError(f"--traces {path}: holds no ATIF trajectory and no JSONL of chats; expected {_EXPECTED}")
    return tuple(_with_unique_ids([_joined([_trace(part, fields) for part in parts]) for parts in runs]))


def check_traces(path: Path) -> None:
    """Check the path of traces without reading them.

    Raises:
        UsageError: the path does not exist, or is a file other than `.json` and `.jsonl`.
    """
    if not path.exists():
        raise UsageError(f"--traces {path}: no such file or folder; expected {_EXPECTED}")
    if path.is_file() and path.suffix not in {".json", ".jsonl"}:
        raise UsageError(f"--traces {path}: neither .json nor .jsonl; expected {_EXPECTED}")


def _trace(document: Document, fields: Mapping[str, str]) -> Trace:
    if looks_like_trajectory(document.value):
        return own_trace(document) or foreign_trace(document, fields)
    return chat_trace(document, fields)


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


def _documents(path: Path, fields: Mapping[str, str]) -> Iterator[Document]:
    if path.is_dir():
        for file in sorted(file for file in path.rglob("*.json*") if file.suffix in {".json", ".jsonl"}):
            if file.suffix == ".jsonl":
                if _starts_with_a_trace(file, fields):
                    yield from _lines(file)
            elif looks_like_trajectory(value := _load(file.read_bytes(), str(file))):
                yield Document(str(file), value, file)
    elif path.suffix == ".jsonl":
        yield from _lines(path)
    else:
        yield Document(str(path), _load(path.read_bytes(), str(path)), path)


def _starts_with_a_trace(file: Path, fields: Mapping[str, str]) -> bool:
    """Whether a JSONL holds traces. It may be the log of something else, which may end in the middle of a line."""
    first = next((line for line in file.read_bytes().split(b"\n") if line.strip()), b"null")
    try:
        value = json.loads(first)
    except (ValueError, RecursionError):
        return False
    return looks_like_trajectory(value) or looks_like_chat(value, fields)


def _lines(file: Path) -> Iterator[Document]:
    for number, line in enumerate(file.read_bytes().split(b"\n"), start=1):
        if line.strip():
            name = f"{file}, line {number}"
            yield Document(name, _load(line, name), file)


def _load(data: bytes, name: str) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{name}: not JSON ({error}); expected an ATIF trajectory or a chat") from error


def _with_unique_ids(traces: Sequence[Trace]) -> Iterator[Trace]:
    """Trajectories of other agents may share one session id: the second with an id gets `#2`."""
    seen: Counter[str] = Counter()
    for trace in traces:
        seen[trace.id] += 1
        yield trace if seen[trace.id] == 1 else replace(trace, id=f"{trace.id}#{seen[trace.id]}")
