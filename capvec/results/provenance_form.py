"""The types of what `provenance.json` holds, by which the file of someone else is checked before anything uses it.

An earlier capvec wrote fewer keys, and a later one may write more: neither is a fault here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from capvec.engines.protocol import EngineInfo
from capvec.plan.options import SweepOptions
from capvec.serial import check_fields

_KEYS: dict[str, type | tuple[type, ...]] = {
    "options": dict, "settings": dict, "model": dict, "direction": (dict, type(None)), "configs": list, "tasks": dict,
    "seeds": (dict, list),
}  # fmt: skip
"""What a run is compared by, and read from → its type in JSON."""


class _Session:
    study: str
    session: str
    capvec: str | None
    commit: str | None
    written: str | None
    command_line: tuple[str, ...] | None
    preregistration: Mapping[str, str] | None
    battery: Mapping[str, str]
    left_out: Mapping[str, str]
    unproved: Mapping[str, str]
    python: str | None
    platform: str | None
    versions: Mapping[str, str | None] | None
    tasks: Mapping[str, dict[str, Any]]
    configs: tuple[dict[str, Any], ...]
    docker_hosts: tuple[dict[str, Any], ...]
    earlier_sessions: tuple[dict[str, Any], ...]
    merged: tuple[dict[str, Any], ...]


class _Task:
    checksum: str
    image: str
    modes: str
    variables: str
    family: str | None
    split: str | None


class _Config:
    name: str
    steers: tuple[dict[str, Any], ...]
    grammar: str


class _Direction:
    hash: str
    trimmed_hash: str
    source: str
    description: str
    caveats: tuple[str, ...]
    ranking: Mapping[str, str] | None
    metadata: dict[str, Any] | None
    norms: tuple[float, ...]
    contrast: dict[str, Any] | None
    audit: dict[str, Any] | None
    pooling: str | None
    controls: Mapping[str, tuple[str, ...]]


class _Host:
    name: str
    version: str
    architecture: str
    cpus: int


class _Part:
    run: str
    options: dict[str, Any]
    trials: int
    errors: int
    shard: int | None
    sessions: tuple[Any, ...]


class _Seeds:
    seeds: Mapping[str, int]


def lacking(record: Any) -> Iterator[str]:
    """The keys that every run has had, and without which a comparison would compare nothing."""
    if not isinstance(record, dict):
        yield "everything: it is no JSON object"
        return
    for key, kind in _KEYS.items():
        if key not in record or not isinstance(record[key], kind):
            yield key
        elif key == "model":
            yield from (f"model.{name}" for name in ("model", "revision", "dtype") if name not in record[key])
        elif key == "direction" and record[key] is not None and not record[key].get("hash"):
            yield "direction.hash"
        elif key == "tasks":
            yield from (f"the checksum of {name}" for name, task in record[key].items() if not task.get("checksum"))
        elif key == "configs":
            yield from (f"the steers of {one.get('name', 'a config')}" for one in record[key] if "steers" not in one)


def check_form(record: Mapping[str, Any], name: str = "provenance") -> None:
    """Check the types of what a session of a run wrote, and of what earlier ones and merged runs did.

    Args:
        record: `provenance.json`, or an entry of its `earlier_sessions` or `merged`.
        name: of the record, for the message.

    Raises:
        UsageError: a value has another type than capvec writes; the message names its field, and says what was found.
    """
    check_fields(_Session, record, name)
    check_fields(EngineInfo, record.get("model", {}), f"{name}.model")
    check_fields(SweepOptions, record.get("options", {}), f"{name}.options")
    if isinstance(record.get("seeds"), dict):  # an earlier capvec wrote a list of trials
        check_fields(_Seeds, record, name)
    if record.get("direction") is not None:
        check_fields(_Direction, record["direction"], f"{name}.direction")
    for task, about in record.get("tasks", {}).items():
        check_fields(_Task, about, f"{name}.tasks[{task!r}]")
    for key, form in (("configs", _Config), ("docker_hosts", _Host), ("merged", _Part)):
        for place, about in enumerate(record.get(key, ())):
            check_fields(form, about, f"{name}.{key}[{place}]")
    for key in ("earlier_sessions", "merged"):
        for place, session in enumerate(record.get(key, ())):
            check_form(session, f"{name}.{key}[{place}]")
