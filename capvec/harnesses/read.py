"""Knows the tool that wrote a file or a folder by what it holds, and reads it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from capvec.errors import UsageError
from capvec.harnesses.harbor import is_job, is_trial, read_harbor
from capvec.harnesses.inspect_log import read_inspect
from capvec.harnesses.lm_eval import is_sample, read_lm_eval
from capvec.harnesses.source import Reading, Source
from capvec.harnesses.swe_bench import is_report, read_swe_bench
from capvec.harnesses.table import read_table, source_of_values
from capvec.reading import open_regular, shown
from capvec.traces.document import Document, NotATrace
from capvec.traces.files import files_in, load
from capvec.traces.inspect_log import FORMAT as INSPECT
from capvec.traces.mini_swe_agent import FORMAT as MINI_SWE_AGENT

_EXPECTED = (
    "a file with a table of trials (.csv, .tsv, JSON lines, Parquet), a job of Harbor, logs of Inspect, samples of "
    "lm-evaluation-harness, reports of SWE-bench, or counts, as in baseline=2/6"
)


def read_source(path: Path, reading: Reading) -> Source:
    """Read what a harness wrote.

    Args:
        path: file or folder; of a folder every file at any depth is looked at.
        reading: how to read it.

    Raises:
        UsageError: there is nothing there, nothing that is known, results of several tools, or a broken file.
    """
    if not path.exists():
        raise UsageError(f"{shown(path)}: no such file or folder; expected {_EXPECTED}")
    if (path / "provenance.json").is_file():
        raise UsageError(
            f"{shown(path)}: capvec wrote it, and `capvec report {shown(path)}` makes its reports again. To judge its "
            "trials like those of others, name its master_summary.csv"
        )
    if path.is_dir():
        return _folder(path, reading)
    if (kind := _table_kind(path)) is not None:
        return read_table(path, kind, reading)
    try:
        value, _ = load(path)
    except NotATrace as error:
        raise UsageError(f"{shown(path)}: {error}; expected {_EXPECTED}") from error
    held = _Held()
    if held.add(path, value):
        return held.source(path, reading)
    if is_trial(value) and (source := read_harbor(path, [path], reading)) is not None:
        return source
    if is_job(value):
        raise UsageError(
            f"{shown(path)}: the summary of a job of Harbor, which counts its trials and holds none; give the folder "
            f"of the job, {shown(path.parent)}"
        )
    if isinstance(value, list):
        return source_of_values(path, value, reading)
    raise UsageError(f"{shown(path)}: JSON of no tool that is known here; expected {_EXPECTED}")


def _table_kind(path: Path) -> str | None:
    with open_regular(path, 1 << 62) as file:
        head = file.read(4)
    if head == b"PAR1":
        return "Parquet"
    return "CSV" if path.suffix.lower() in (".csv", ".tsv") else None


def _folder(path: Path, reading: Reading) -> Source:
    files = files_in(path)
    job = read_harbor(path, files, reading)
    of_trials = set() if job is None else {file.parent for file in job.files if file.name == "result.json"}
    held = _Held()
    for file in files:
        if not of_trials.isdisjoint(file.parents):
            continue  # an agent may leave a log of its own beside Harbor's
        try:
            value, _ = load(file, path)
        except NotATrace:
            continue
        held.add(file, value)
    tools = (*(() if job is None else ("a job of Harbor",)), *held.tools)
    if not tools:
        raise UsageError(f"{shown(path)}: holds no results of a tool that is known here; expected {_EXPECTED}")
    if len(tools) > 1:
        raise UsageError(f"{shown(path)}: holds {' and '.join(tools)}; name those to judge one by one")
    return held.source(path, reading) if job is None else job


@dataclass
class _Held:
    """What a path holds, by tool."""

    logs: list[Document] = field(default_factory=list)
    samples: dict[Path, list[Any]] = field(default_factory=dict)
    reports: dict[Path, Any] = field(default_factory=dict)
    runs: list[Document] = field(default_factory=list)

    def add(self, file: Path, value: Any) -> bool:
        """Keep a value of a known kind; False for any other."""
        if INSPECT.looks_like(value, {}):
            self.logs.append(Document(str(file), value, file))
        elif MINI_SWE_AGENT.looks_like(value, {}):
            self.runs.append(Document(str(file), value, file))
        elif is_report(value):
            self.reports[file] = value
        elif isinstance(value, list) and value and all(map(is_sample, value)):
            self.samples[file] = value
        elif is_sample(value):  # a file of one line
            self.samples[file] = [value]
        else:
            return False
        return True

    @property
    def tools(self) -> tuple[str, ...]:
        """Whose results there are."""
        found = {
            "logs of Inspect": self.logs,
            "samples of lm-evaluation-harness": self.samples,
            "reports of SWE-bench": self.reports or self.runs,
        }
        return tuple(name for name, kept in found.items() if kept)

    def source(self, path: Path, reading: Reading) -> Source:
        """The one source of these."""
        if self.logs:
            return read_inspect(path, self.logs, reading)
        if self.samples:
            return read_lm_eval(path, self.samples, reading)
        return read_swe_bench(path, self.reports, self.runs, reading)
