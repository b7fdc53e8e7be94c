"""SWE-bench's reports, alone or beside the runs of mini-swe-agent that they grade."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from capvec.errors import UsageError
from capvec.harnesses.source import UNKNOWN_OUTCOME, Reading, Source, Trial
from capvec.traces.document import Document
from capvec.traces.mini_swe_agent import FORMAT as MINI_SWE_AGENT
from capvec.traces.swe_bench import Run, report_of, verdicts, with_verdicts

_WHY = {
    "infra_failure_ids": "SWE-bench takes the failure for one of its environment",
    "error_ids": "SWE-bench could not grade the patch",
    "incomplete_ids": "the run gave no patch to grade",
}


def is_report(value: Any) -> bool:
    """Whether a value is a report of a run or of instances."""
    return bool(verdicts(value))


def read_swe_bench(path: Path, reports: Mapping[Path, Any], runs: Sequence[Document], reading: Reading) -> Source:
    """The trials of reports, or of the runs that they grade.

    Reports alone: each report of a run is a config of its own, called like its file, and reports of single instances
    are one, called like the folder. With runs of mini-swe-agent, each of their folders is a config.

    Raises:
        UsageError: runs without a report, or reports that disagree on a run.
    """
    files = (*reports, *(run.path for run in runs))
    if not runs:
        return Source(path, "SWE-bench", tuple(_graded(path, reports)), errors_apart=True, files=files, rewards=())
    if not reports:
        raise UsageError(
            f"{path}: holds {len(runs)} runs of mini-swe-agent, which do not say whether they solved their tasks; put "
            "the report of SWE-bench into the folder of the runs"
        )
    trials = tuple(_of_runs(path, reports, runs, reading))
    return Source(path, "mini-swe-agent, graded by SWE-bench", trials, errors_apart=True, files=files, rewards=())


def _graded(path: Path, reports: Mapping[Path, Any]) -> Iterator[Trial]:
    for file, value in reports.items():
        whole = any(isinstance(value.get(key), list) for key in ("resolved_ids", "resolved"))
        config = file.stem if whole else (path if path.is_dir() else file.parent).name
        graded = verdicts(value)
        for task in sorted(graded):
            yield Trial(task, config, "solved" if graded[task] else "unsolved", reward=graded[task])
        failed = {task: key for key in reversed(_WHY) for task in _names(value, key) if task not in graded}
        for task in sorted(failed):
            yield Trial(task, config, "error", error=_WHY[failed[task]])


def _names(value: Mapping[str, Any], key: str) -> list[str]:
    listed = value.get(key)
    return [name for name in listed if isinstance(name, str)] if isinstance(listed, list) else []


def _of_runs(
    path: Path, reports: Mapping[Path, Any], documents: Sequence[Document], reading: Reading
) -> Iterator[Trial]:
    runs = [Run(trace, document.path) for document in documents for trace in MINI_SWE_AGENT.read(document, {})]
    known = [report for file, value in reports.items() if (report := report_of(file, value)) is not None]
    failed = {task: key for value in reports.values() for key in reversed(_WHY) for task in _names(value, key)}
    for run, trace in zip(runs, with_verdicts(runs, known), strict=True):
        folder = run.file.parent.parent if run.file.parent.name == trace.task else run.file.parent
        why = _WHY[failed[trace.task]] if trace.task in failed else UNKNOWN_OUTCOME
        error = "" if trace.reward is not None else why
        outcome = "error" if trace.reward is None else reading.status(trace.reward)
        config = path.name if folder == path or path not in folder.parents else folder.relative_to(path).as_posix()
        yield Trial(
            trace.task,
            config,
            outcome,
            reward=trace.reward,
            steps=trace.steps,
            parse_fail=trace.parse_fail,
            no_cmd=trace.no_cmd,
            error=error,
        )
