"""Sentences on the runs that a merged run is made of: their names, where they differ, how gates are judged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_HASH = 8
"""Characters of a commit that a report shows."""


def shard_lines(shards: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Sentences for `RESULTS.md`; none for a run that was not merged.

    Args:
        shards: `merged` of `provenance.json`: the `run`, `options`, `capvec`, `commit`, `python`, `platform` and
            `versions` of each run.
    """
    return tuple(_lines(shards)) if shards else ()


def _lines(shards: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    names = ", ".join(f"`{shard['run']}`" for shard in shards)
    yield f"Merged by `capvec report` from {len(shards)} run{'s' if len(shards) > 1 else ''} of one plan: {names}."
    software = [_software(shard) for shard in shards]
    differing = [name for name in dict.fromkeys(name for one in software for name in one) if _differs(software, name)]
    if differing:
        words = "; ".join(f"{name} {_by_run(shards, [one.get(name) for one in software])}" for name in differing)
        yield f"Their software differs, which can pass for an effect if configs are split between runs: {words}."
    gates = [shard["options"].get("gate") for shard in shards]
    if len(set(gates)) > 1:
        yield (f"Their gates differ ({_by_run(shards, gates)}); every condition is judged on all trials together.")


def _software(shard: Mapping[str, Any]) -> dict[str, str | None]:
    commit = shard["commit"]
    return {
        "capvec": shard["capvec"],
        "commit": commit and commit[:_HASH] + ("+changes" if commit.endswith("+changes") else ""),
        "Python": shard["python"],
        "platform": shard["platform"],
        **{name: version for name, version in shard["versions"].items() if name != "capvec"},
    }


def _differs(software: Sequence[Mapping[str, str | None]], name: str) -> bool:
    return len({one.get(name) for one in software}) > 1


def _by_run(shards: Sequence[Mapping[str, Any]], values: Sequence[str | None]) -> str:
    """`` `5.23` in `a` and `b`, none in `c` ``."""
    runs: dict[str | None, list[str]] = {}
    for shard, value in zip(shards, values, strict=True):
        runs.setdefault(value, []).append(f"`{shard['run']}`")
    return ", ".join(
        f"{'none' if value is None else f'`{value}`'} in {' and '.join(names)}" for value, names in runs.items()
    )
