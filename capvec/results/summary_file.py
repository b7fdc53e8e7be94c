"""Read `summary.json`, in the names of today whichever capvec wrote it."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from capvec.errors import UsageError
from capvec.parsing import read_json
from capvec.reading import shown

_OF_SUMMARY = {
    "family": "comparisons",
    "secondary_family": "secondary_comparisons",
    "twins": "matched_controls",
    "spared_trials": "skipped_trials",
}
_OF_CONFIG = {"form": "format_change", "call": "verdict"}
_OF_FORMAT_CHANGE = {"passed": "pass_rate"}
_OF_VERDICT = {"margin": "equivalence_margin"}
_OF_CONTROLS = {"twins": "controls"}
_OF_TEST = {"looks": "analyses"}


def read_summary(path: Path) -> dict[str, Any]:
    """The content of a `summary.json`; keys of earlier versions are renamed to those of this one.

    Raises:
        FileNotFoundError: there is none, as in a run that was interrupted.
        UsageError: it cannot be read, or capvec did not write it.
    """
    if not path.exists():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    try:
        return current_names(read_json(path, finite=True))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"{shown(path)}: not a summary that capvec wrote ({error!r:.100})") from error


def current_names(summary: Mapping[str, Any]) -> dict[str, Any]:
    """A summary with the keys of earlier versions renamed; one of today is returned as it is."""
    data = _renamed(summary, _OF_SUMMARY)
    data["configs"] = [_config(row) for row in data["configs"]]
    if "matched_controls" in data:
        data["matched_controls"] = [_renamed(one, _OF_CONTROLS) for one in data["matched_controls"]]
    if "bases" in data:
        data["bases"] = {name: _config(row) for name, row in data["bases"].items()}
    if "sequential" in data:
        tests = [_renamed(test, _OF_TEST) for test in data["sequential"]["tests"]]
        data["sequential"] = {**data["sequential"], "tests": tests}
    return data


def _config(row: Mapping[str, Any]) -> dict[str, Any]:
    data = _renamed(row, _OF_CONFIG)
    for key, names in (("format_change", _OF_FORMAT_CHANGE), ("verdict", _OF_VERDICT)):
        if data.get(key):
            data[key] = _renamed(data[key], names)
    return data


def _renamed(data: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names.get(key, key): value for key, value in data.items()}
