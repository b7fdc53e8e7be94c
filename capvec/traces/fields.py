"""Names under which files of other programs hold the fields of a trace; `--trace-fields` adds to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
_VERDICTS = ("success", "solved", "passed", "resolved")
UNKNOWN = "unknown"
"""Task or model of a source that names none."""


def look_up(data: Mapping[str, Any], field: str, named: Mapping[str, str]) -> tuple[str, Any]:
    """Find a field in `data`.

    The user's own name for the field is tried first, then those of `TRACE_FIELDS`. A name with dots reaches into
    objects, as in `metrics.reward`. A null counts as absent. Of several known names of the reward, one that says in
    true or false whether the run passed wins over a number that says the opposite, which is on a scale of its own.

    Args:
        data: a JSON object.
        field: a key of `TRACE_FIELDS`.
        named: field → the user's name for it.

    Returns:
        The name under which `data` holds the field, and the value. If there is none, the first name tried and None.
    """
    own = named.get(field)
    if own is not None and (value := _reach(data, own)) is not None:
        if isinstance(named, FieldNames):
            named.found.add(field)
        return own, value
    found = [(name, value) for name in TRACE_FIELDS[field] if (value := _reach(data, name)) is not None]
    if not found:
        return own or TRACE_FIELDS[field][0], None
    return _overruled(found) if field == "reward" else found[0]


class FieldNames(dict[str, str]):
    """The user's names of fields, and which of them some trace had."""

    def __init__(self, names: Mapping[str, str]) -> None:
        super().__init__(names)
        self.found: set[str] = set()


def plain_value(value: Any) -> Any:
    """The number or the boolean that a text spells; any other value as it is."""
    if not isinstance(value, str):
        return value
    word = value.strip().lower()
    try:
        return word == "true" if word in {"true", "false"} else float(word)
    except ValueError:
        return value


def _overruled(found: Sequence[tuple[str, Any]]) -> tuple[str, Any]:
    """The first of the rewards that stand side by side, unless a verdict contradicts it."""
    first = plain_value(found[0][1])
    if isinstance(first, bool) or not isinstance(first, int | float):
        return found[0]
    for name, value in found:
        said = plain_value(value)
        if name in _VERDICTS and isinstance(said, bool) and (first <= 0 if said else first >= 1):
            return name, value
    return found[0]


def _reach(data: Mapping[str, Any], name: str) -> Any:
    if name in data:
        return data[name]
    value: Any = data
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
