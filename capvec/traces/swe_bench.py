"""Verdicts of SWE-bench on the patches of runs, whose own files have none.

A report of a run lists instances by outcome (`resolved_ids`, `unresolved_ids`, …), and a report of an instance has its
name over `resolved`. A report holds for the traces in its folder and below.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from capvec.records import Trace

_UNSOLVED = ("unresolved_ids", "unresolved", "empty_patch_ids", "completed_ids")
"""Lists of instances that were graded. Those whose grading failed are in `error_ids`, and have no verdict."""


def verdicts(value: Any) -> dict[str, float]:
    """Instance → reward, from a report of a run or of instances; empty if the value is neither."""
    if not isinstance(value, dict):
        return {}
    solved = _ids(value, "resolved_ids") or _ids(value, "resolved")
    unsolved = {name for key in _UNSOLVED for name in _ids(value, key)}
    if solved or unsolved:
        failed = _ids(value, "error_ids")
        return dict.fromkeys(unsolved - failed, 0.0) | dict.fromkeys(solved, 1.0)
    reports = {name: one["resolved"] for name, one in value.items() if isinstance(one, dict) and "resolved" in one}
    if len(reports) < len(value) or not all(isinstance(resolved, bool) for resolved in reports.values()):
        return {}
    return {name: float(resolved) for name, resolved in reports.items()}


def with_verdict(trace: Trace, file: Path, reports: Mapping[Path, Mapping[str, float]]) -> Trace:
    """A trace with the verdict of the nearest report, if its own file has none.

    Args:
        trace: the trace.
        file: its file.
        reports: the folder of a report → its verdicts.
    """
    if trace.reward is not None:
        return trace
    found = (reports[folder][trace.task] for folder in file.parents if trace.task in reports.get(folder, {}))
    return replace(trace, reward=next(found, None))


def _ids(value: Mapping[str, Any], key: str) -> set[str]:
    ids = value.get(key)
    return {name for name in ids if isinstance(name, str)} if isinstance(ids, list) else set()
