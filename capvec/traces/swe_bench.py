"""Verdicts of SWE-bench on the patches of runs, whose own files have none.

A report of a run lists instances by outcome (`resolved_ids`, `unresolved_ids`, …), and a report of an instance has its
name over `resolved`. A report holds for the runs in its folder and below, and for one of each instance. Where there
are several, it says which it graded: by its name, `<model>.<run>.json`, or by `model_name_or_path`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from capvec.errors import UsageError
from capvec.records import Trace
from capvec.traces.fields import UNKNOWN

_UNSOLVED = ("unresolved_ids", "unresolved", "empty_patch_ids", "completed_ids")
"""Lists of instances that were graded."""
FAILED = ("error_ids", "infra_failure_ids")
"""Lists of those whose grading failed, or that SWE-bench takes for failures of its environment; they have no verdict,
and may be in a list of the graded too."""


@dataclass(frozen=True)
class Report:
    """A report of SWE-bench."""

    file: Path
    rewards: Mapping[str, float]
    """Instance → reward."""
    model: str | None = None
    """What it calls the model, if it says so in itself."""


@dataclass(frozen=True)
class Run:
    """A trace, and the file of its run."""

    trace: Trace
    file: Path

    def names(self, folder: Path) -> set[str]:
        """What a report in a folder above the run may call its model: the model's name, or that of a folder."""
        model = self.trace.model
        models = {_plain(model), model.rsplit("/", 1)[-1]} if model != UNKNOWN else set()
        return models | {*self.file.relative_to(folder).parts[:-1]}


def report_of(file: Path, value: Any) -> Report | None:
    """The report that a JSON value is; None if it is none, or has no verdict."""
    rewards = verdicts(value)
    model = value.get("model_name_or_path") if isinstance(value, dict) else None
    return Report(file, rewards, _plain(model) if isinstance(model, str) else None) if rewards else None


def verdicts(value: Any) -> dict[str, float]:
    """Instance → reward, from a report of a run or of instances; empty if the value is neither."""
    if not isinstance(value, dict):
        return {}
    solved = _ids(value, "resolved_ids") or _ids(value, "resolved")
    unsolved = {name for key in _UNSOLVED for name in _ids(value, key)}
    if solved or unsolved:
        failed = {name for key in FAILED for name in _ids(value, key)}
        return dict.fromkeys(unsolved - failed, 0.0) | dict.fromkeys(solved, 1.0)
    reports = {name: one["resolved"] for name, one in value.items() if isinstance(one, dict) and "resolved" in one}
    others = value.keys() - reports.keys() - {"model_name_or_path"}
    if others or not all(isinstance(resolved, bool) for resolved in reports.values()):
        return {}
    return {name: float(resolved) for name, resolved in reports.items()}


def with_verdicts(runs: Sequence[Run], reports: Sequence[Report]) -> Iterator[Trace]:
    """The traces of runs, those without a reward with the verdict of the nearest report on their model.

    Raises:
        UsageError: reports of one folder disagree on a run, or one may be on several runs of an instance, of which it
            graded one; the message names them.
    """
    folders = {report.file.parent: _Graded([], set(), {}) for report in reports}
    for report in reports:
        folders[report.file.parent].reports.append(report)
    for run in runs:
        for folder in run.file.parents:
            if (graded := folders.get(folder)) is not None:
                graded.names.update(run.names(folder))
                graded.runs.setdefault(run.trace.task, []).append(run)
    for run in runs:
        reward = run.trace.reward
        above = [folder for folder in run.file.parents if folder in folders] if reward is None else []
        given = (_verdict(run, folder, folders[folder]) for folder in above)
        yield replace(run.trace, reward=next((one for one in given if one is not None), reward))


@dataclass(frozen=True)
class _Graded:
    """A folder with reports."""

    reports: list[Report]
    names: set[str]
    """What its reports may call the runs in it and below."""
    runs: dict[str, list[Run]]
    """Instance → its runs in the folder and below."""


def _verdict(run: Run, folder: Path, graded: _Graded) -> float | None:
    """The verdict of a folder's reports on a run, if one grades it."""
    task = run.trace.task
    fitting: list[Report] = []
    covering = [(report, _model(report, graded.names)) for report in graded.reports if task in report.rewards]
    # A report that names nothing holds for the one run that it can be on.
    for report, model in sorted(covering, key=lambda one: one[1] is None):
        if model is not None and model not in run.names(folder):
            continue
        alike = [other for other in graded.runs[task] if model is None or model in other.names(folder)]
        rival = next((other for other in alike if other.trace.messages != run.trace.messages), None)
        if rival is None:
            fitting.append(report)
        elif model is not None or not fitting:
            raise UsageError(
                f"{report.file}: grades one run of {task}, and may be on {run.file} or on {rival.file}; expected the "
                f"model in its name, as in `<model>.<run>.json`, or the report in the folder of the runs that it graded"
            )
    for report in fitting[1:]:
        if report.rewards[task] != fitting[0].rewards[task]:
            raise UsageError(
                f"{fitting[0].file} and {report.file.name} disagree on {task} ({run.file}); expected one report of a "
                f"model in a folder, or each in the folder of the runs that it graded"
            )
    return fitting[0].rewards[task] if fitting else None


def _model(report: Report, names: set[str]) -> str | None:
    """Which of the names of runs a report has: what it says, or else the longest that its own name begins with."""
    if report.model is not None:
        return report.model
    begun = [name for name in names if report.file.name.startswith(f"{name}.")]
    run = max(begun, key=len, default=None)
    return run if run is not None and report.file.name.count(".") > run.count(".") + 1 else None


def _plain(model: str) -> str:
    """A model's name as SWE-bench writes it in the names of files."""
    return model.replace("/", "__")


def _ids(value: Mapping[str, Any], key: str) -> set[str]:
    ids = value.get(key)
    return {name for name in ids if isinstance(name, str)} if isinstance(ids, list) else set()
