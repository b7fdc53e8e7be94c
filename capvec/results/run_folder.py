"""Reading a run folder."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from capvec.engines.protocol import ChatTemplateInfo, EngineInfo
from capvec.errors import UsageError
from capvec.plan.plan import Plan, Settings
from capvec.reading import RECORD, check_tree, read_text, shown
from capvec.records import Config, Outcome, TrialId, TrialSpec
from capvec.results.ledger import TRIALS, Ledger, check_receipts
from capvec.results.lock import writer_of
from capvec.results.provenance import PROVENANCE, dealing_of, read
from capvec.results.shards import merged_lines
from capvec.results.summary_file import read_summary
from capvec.task_records import Task
from capvec.tasks.splits import UNKNOWN
from capvec.text import one_line


@dataclass(frozen=True)
class RunFolder:
    """The content of a run folder, finished or not."""

    folder: Path
    provenance: Mapping[str, Any]
    """`provenance.json`."""
    plan: Plan
    """As `provenance.json` describes it; its tasks have no instructions."""
    outcomes: tuple[Outcome, ...]
    """All on record, in the plan's order."""

    @property
    def engine(self) -> EngineInfo:
        """The engine and its model."""
        return EngineInfo.from_json(self.provenance["model"])

    def earlier_summary(self) -> dict[str, Any] | None:
        """`summary.json`, under its present names; None for a run that was interrupted before it was written."""
        path = self.folder / "summary.json"
        return read_summary(path) if path.is_file() else None


def read_run_folder(folder: Path) -> RunFolder:
    """Read a run folder.

    Raises:
        UsageError: no run there, or none with a trial on record; or something in the folder is no regular file, a link
            out of it, damaged, or not what capvec wrote.
    """
    if not (folder / PROVENANCE).is_file():
        if (writer := writer_of(folder)) is not None:
            raise UsageError(f"{folder}: {writer} prepares a run there; it has no trial yet, so try again later")
        raise UsageError(f"{folder}: no run there (no provenance.json); expected a run folder, such as reports/latest")
    check_tree(folder, "a run folder")
    provenance = read(folder)
    try:
        plan = plan_of(folder, provenance)
    except (LookupError, TypeError, ValueError, AttributeError, csv.Error, UsageError) as error:
        said = str(error) if isinstance(error, UsageError) else repr(error)
        raise UsageError(f"{shown(folder / PROVENANCE)}: not what capvec writes ({one_line(said)})") from error
    recorded = {outcome.id: outcome for outcome in read_outcomes(folder)}
    outcomes = tuple(recorded[trial.id] for trial in plan.trials if trial.id in recorded)
    if not outcomes:
        if (writer := writer_of(folder)) is not None:
            raise UsageError(f"{folder}: {writer} runs there, and no trial has ended yet, so try again later")
        raise UsageError(f"{folder}: trials.jsonl holds no trial of the plan; name another run folder")
    check_receipts(folder / TRIALS, plan.configs, outcomes)
    return RunFolder(folder, provenance, plan, outcomes)


def read_outcomes(folder: Path) -> tuple[Outcome, ...]:
    """The outcomes on record in a run folder, oldest first; none without `trials.jsonl`."""
    return Ledger(folder / TRIALS).read()


def plan_of(folder: Path, provenance: Mapping[str, Any]) -> Plan:
    """The plan that a `provenance.json` describes."""
    configs = tuple(_config(data) for data in provenance["configs"])
    return Plan(
        run=run_name(provenance.get("run") or folder.resolve().name),
        folder=folder,
        tasks=tuple(_tasks(folder, provenance["tasks"])),
        configs=configs,
        trials=tuple(_trials(provenance)),
        settings=Settings.from_json(provenance["settings"]),
        study=provenance.get("study", "sweep"),
        sequential=provenance.get("options", {}).get("sequential", False),
        effect=provenance.get("options", {}).get("effect"),
        template=ChatTemplateInfo.from_json(provenance["model"].get("template", {})),
        battery=provenance.get("battery", {}),
        left_out=provenance.get("left_out", {}),
        unproved=provenance.get("unproved", {}),
        merged=merged_lines(provenance),
        dealing=dealing_of(provenance),
    )


def run_name(name: Any) -> str:
    """The name of a run, which is that of a folder wherever the run is copied to."""
    if not isinstance(name, str) or re.search(r"[\x00-\x1f/]", name) or name in {".", ".."}:
        raise UsageError(f"the run has the name {shown(str(name))!r}, which no folder can have")
    return name


def _config(data: Mapping[str, Any]) -> Config:
    # `shifts` is of an earlier capvec; reports take the expected shifts from the outcomes.
    known = {name: value for name, value in data.items() if name != "shifts"}
    control = known.get("control")
    if control is not None and control["kind"] == "flip":  # the word of an earlier capvec
        known["control"] = {**control, "kind": "negated"}
    return Config.from_json(known)


def _tasks(folder: Path, tasks: Mapping[str, Mapping[str, Any]]) -> Iterator[Task]:
    """Tasks with family and split, which an earlier capvec wrote to `master_summary.csv` alone."""
    known = {} if all("family" in task for task in tasks.values()) else _families(folder / "master_summary.csv")
    for name, task in tasks.items():
        metadata = {key: task.get(key) or known.get(name, {}).get(key) for key in ("family", "split")}
        yield Task(name, Path(name), "", task["checksum"], metadata=metadata)


def _families(path: Path) -> dict[str, dict[str, str]]:
    if not path.is_file():
        return {}
    lines = csv.reader(io.StringIO(read_text(path, RECORD), newline=""))
    names = next(lines, [])
    rows = (dict(zip(names, line, strict=False)) for line in lines if line)  # a short line is not filled up
    return {
        row["task"]: {key: row[key] for key in ("family", "split") if row.get(key, UNKNOWN) != UNKNOWN} for row in rows
    }


def _trials(provenance: Mapping[str, Any]) -> Iterator[TrialSpec]:
    """In the plan's order, which is that of `seeds`."""
    configs = [config["name"] for config in provenance["configs"]]
    for text, seed in provenance["seeds"].items():
        if "/" in text or "\0" in text:  # it is the name of a file
            raise UsageError(f"the trial {shown(text)!r} has a name that no file can have")
        trial = TrialId.parse(text, provenance["tasks"], configs)
        yield TrialSpec(trial.task, trial.config, trial.attempt, seed)
