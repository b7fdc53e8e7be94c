"""Names under which files of other programs hold the fields of a trace; `--trace-fields` adds to them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TRACE_FIELDS: Mapping[str, tuple[str, ...]] = {
    "id": ("id", "trace_id", "trial_name", "session_id", "trajectory_id", "traj_id"),
    "task": ("task", "task_id", "task_name", "instance_id", "problem_id"),
    "model": ("model", "model_name"),
    "messages": ("messages", "conversation", "conversations", "trajectory", "traj"),
    "reward": ("reward", "score", "success", "solved", "passed", "resolved"),
    "steps": ("steps", "n_steps", "num_steps"),
    "parse_fail": ("parse_fail", "parse_failures", "n_parse_fail"),
    "no_cmd": ("no_cmd", "no_command", "n_no_cmd"),
    "protocol": ("protocol",),
}
"""Field of a trace → its names, in the order in which they are tried."""
UNKNOWN = "unknown"
"""Task or model of a source that names none."""


def look_up(data: Mapping[str, Any], field: str, named: Mapping[str, str]) -> tuple[str, Any]:
    """Find a field in `data`.

    The user's own name for the field is tried first, then those of `TRACE_FIELDS`. A name with dots reaches into
    objects, as in `metrics.reward`. A null counts as absent.

    Args:
        data: a JSON object.
        field: a key of `TRACE_FIELDS`.
        named: field → the user's name for it.

    Returns:
        The name under which `data` holds the field, and the value. If there is none, the first name tried and None.
    """
    names = (*([named[field]] if field in named else []), *TRACE_FIELDS[field])
    for name in names:
        if (value := _reach(data, name)) is not None:
            return name, value
    return names[0], None


def _reach(data: Mapping[str, Any], name: str) -> Any:
    if name in data:
        return data[name]
    value: Any = data
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
