"""The folder of results that were made elsewhere: what was read, from what, and what the user said about it.

`provenance.json` has the sources with the hashes of their files, and `results.jsonl` a line for each trial as it was
read. From these two the report is made again, wherever the sources are by then.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from capvec.errors import UsageError
from capvec.harnesses import Source
from capvec.harnesses.source import Trial
from capvec.parsing import parse_json, read_json
from capvec.reading import GIB, check_tree, open_regular, shown
from capvec.results.departures import registered_of
from capvec.results.origin import Asked, Judged
from capvec.results.preregistration import PREREGISTRATION
from capvec.results.provenance import PROVENANCE, RESULTS, is_of_results
from capvec.results.run_folder import run_name
from capvec.results.served import Served
from capvec.results.software import versions_of, written_by
from capvec.serial import Record
from capvec.storage import write_text
from capvec.text import one_line

READ = "results.jsonl"
"""A line for each trial as it was read, in the order of the sources."""
_PACKAGES = ("capvec", "numpy", "scipy", "pandas", "pyarrow", "inspect_ai")
_LARGEST = 4 * GIB
"""Bytes of `results.jsonl`."""


@dataclass(frozen=True)
class FileHash(Record):
    """A file that was read."""

    path: str
    """Relative to the folder that the user named; the name of a file that was named itself."""
    size: int
    """Bytes."""
    sha256: str


@dataclass(frozen=True)
class SourceRecord(Record):
    """A source without its trials."""

    path: str
    """As the user typed it."""
    format: str
    """What it was read as, such as `Harbor`."""
    config: str | None
    """The user's name for its one config (`NAME=PATH`)."""
    trials: int
    errors_apart: bool | None
    notes: tuple[str, ...]
    files: tuple[FileHash, ...]

    @classmethod
    def of(cls, named: str | None, source: Source) -> SourceRecord:
        """The record of a source; its files are read again for their hashes."""
        root = source.path or Path()
        files = tuple(_hashed(file, root) for file in source.files)
        told = source.errors_apart, source.notes
        return cls(str(root), source.tool, named, len(source.trials), *told, files)

    def source(self, trials: Sequence[Trial]) -> Source:
        """The source with its trials."""
        return Source(Path(self.path), self.format, tuple(trials), self.errors_apart, self.notes)


def write_judged(folder: Path, judged: Judged, command_line: Sequence[str], receipts: Path | None) -> None:
    """Write what was read into the folder of its report.

    Args:
        folder: of the report; must exist.
        judged: what was read.
        command_line: as the user typed it.
        receipts: the file of `judged.served`; None where there is none.

    Raises:
        UsageError: a file that was read is there no more.
        StorageFault: a file cannot be written.
    """
    sources = [SourceRecord.of(named, source) for named, source in judged.sources]
    served = judged.served or {}
    if judged.counts is None:
        write_text(folder / READ, "".join(_lines(judged.sources)))
    record = {
        **written_by(),
        "written": judged.written,
        "study": RESULTS,
        "run": judged.run,
        "command_line": list(command_line),
        "options": judged.asked.to_json(),
        "preregistration": None if judged.registered is None else judged.registered.reference,
        "sources": [source.to_json() for source in sources],
        "results": None if judged.counts is not None else _hashed(folder / READ, folder).to_json(),
        "receipts": None
        if receipts is None
        else {
            **_hashed(receipts, receipts).to_json(),
            "replies": {name: one.to_json() for name, one in served.items()},
        },
        "counts": None if judged.counts is None else {name: list(pair) for name, pair in judged.counts.items()},
        **versions_of(_PACKAGES),
    }
    if judged.registered is not None:
        write_text(folder / PREREGISTRATION, judged.registered.text)
    write_text(folder / PROVENANCE, json.dumps(record, indent=2, allow_nan=False) + "\n")


def is_judged(folder: Path) -> bool:
    """Whether a folder holds results that were made elsewhere.

    Raises:
        UsageError: its `provenance.json` is not JSON.
    """
    return (folder / PROVENANCE).is_file() and is_of_results(read_json(folder / PROVENANCE))


def read_judged(folder: Path) -> Judged:
    """Read a folder that `write_judged` wrote.

    Raises:
        UsageError: a file is missing, damaged, or not what capvec wrote; or something in the folder is no regular file.
    """
    check_tree(folder, "the folder of a report")
    record = read_json(folder / PROVENANCE)
    try:
        return _read(folder, record)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise _not_ours(folder, repr(error)) from error


def _not_ours(folder: Path, why: str) -> UsageError:
    return UsageError(f"{shown(folder / PROVENANCE)}: not what capvec writes ({one_line(why):.200})")


def _read(folder: Path, record: Mapping[str, Any]) -> Judged:
    try:
        run, asked = run_name(record["run"]), Asked.from_json(record["options"])
        sources = [SourceRecord.from_json(one) for one in record["sources"]]
        receipts = record["receipts"] or {"replies": {}}
        replies = {name: Served.from_json(one) for name, one in receipts["replies"].items()}
    except UsageError as error:
        raise _not_ours(folder, str(error)) from error
    counts = record["counts"]
    trials = _trials(folder / READ, len(sources)) if counts is None else []
    for source, read in zip(sources, trials, strict=True):
        if len(read) != source.trials:
            raise UsageError(
                f"{shown(folder / READ)}: holds {len(read)} trials of {shown(source.path)}, and {source.trials} were "
                "read; put the file back as `capvec judge` wrote it"
            )
    if counts is None and FileHash.from_json(record["results"]) != _hashed(folder / READ, folder):
        raise UsageError(
            f"{shown(folder / READ)}: is not what was judged, by its SHA-256 in {PROVENANCE}; put the file back as "
            "`capvec judge` wrote it, or judge the changed file into another folder"
        )
    return Judged(
        run=run,
        sources=tuple((one.config, one.source(read)) for one, read in zip(sources, trials, strict=True)),
        asked=asked,
        served=None if record["receipts"] is None else replies,
        registered=registered_of(folder, record),
        counts=None if counts is None else {name: (pair[0], pair[1]) for name, pair in counts.items()},
        written=datetime.fromisoformat(record["written"]).isoformat(),
    )


def _lines(sources: Sequence[tuple[str | None, Source]]) -> Iterator[str]:
    for place, (_, source) in enumerate(sources):
        for trial in source.trials:
            yield json.dumps({"source": place, **trial.to_json()}, allow_nan=False) + "\n"


def _trials(path: Path, sources: int) -> list[list[Trial]]:
    """The trials of each source."""
    found: list[list[Trial]] = [[] for _ in range(sources)]
    with open_regular(path, _LARGEST) as file:
        for number, line in enumerate(file, start=1):
            try:
                value = parse_json(line)
                place = range(sources)[value.pop("source")]
                found[place].append(Trial.from_json(value))
            except (ValueError, LookupError, TypeError, AttributeError, UsageError) as error:
                raise UsageError(
                    f"{shown(path)}, line {number}: not a trial that capvec wrote ({one_line(str(error))[:100]})"
                ) from error
    return found


def _hashed(file: Path, root: Path) -> FileHash:
    name = file.name if file == root else file.relative_to(root).as_posix()
    with open_regular(file, 1 << 62) as opened:
        digest = hashlib.file_digest(opened, "sha256")
        return FileHash(name, opened.tell(), digest.hexdigest())
