"""What the ranks measured of a request, put together as one rank with the whole model would have measured it.

With tensor parallelism every rank holds the whole residual, steers it and measures it. The ranks must agree. With
pipeline parallelism each stage of ranks has measured what arrived in it, and counted nothing elsewhere. The stages add
up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from capvec.engines.vllm.layout import LEAST, READINGS, SUMS, WATCHED
from capvec.errors import SteeringFault

Raw = Mapping[str, Any]
"""What one rank measured of a request: `faults`, why it was not steered; `stage`, the number of its stage of the
pipeline; `prompt` and `cached`, tokens; `reached`, the first position that was never computed; `passes`; `again`,
positions computed a second time; `watched`, the numbers of `layout.WATCHED` for each site; and `steers`, for each
`site`, `block`, `receiver`, `vector` and `readings`. Numbers are the bytes of float64."""


def together(ranks: Sequence[Raw]) -> Raw:
    """What all ranks measured, with numbers in place of bytes: of `watched` a list over the sites, and of readings one
    number, by their names.

    Args:
        ranks: of each rank that steered, in any order.

    Raises:
        SteeringFault: the ranks do not agree.
    """
    stages = [[(name, _unpacked(raw)) for name, raw in stage] for stage in by_stage(ranks)]
    for stage in stages:
        _check_agreement(stage)
    whole = [(f"stage {stage[0][1]['stage']}", _joined([raw for _, raw in stage], len(stage))) for stage in stages]
    (name, first), *others = whole
    for other, raw in others:
        if different := _other_request(first, raw):
            raise _disagreement(name, other, different, "stage")
    return _joined([raw for _, raw in whole], 1)


def by_stage(ranks: Sequence[Raw]) -> list[list[tuple[str, Raw]]]:
    """The ranks of each stage, with the name of each."""
    stages: dict[int, list[tuple[str, Raw]]] = {}
    for number, raw in enumerate(ranks):
        stages.setdefault(raw["stage"], []).append((f"rank {number}", raw))
    return list(stages.values())


def _unpacked(raw: Raw) -> Raw:
    """They are lists, because a reply has few numbers and a server waits for the receipts of many replies in turn."""
    watched = np.frombuffer(raw["watched"]).reshape(-1, len(WATCHED))
    return {
        **raw,
        "watched": dict(zip(WATCHED, watched.T.tolist(), strict=True)),
        "steers": [{**own, "readings": _named(own["readings"])} for own in raw["steers"]],
    }


def _named(readings: bytes) -> dict[str, float]:
    return dict(zip(READINGS, np.frombuffer(readings).tolist(), strict=True))


# ---------------------------------------------------------------------------------------------------- put together


def _joined(parts: Sequence[Raw], share: int) -> Raw:
    """Sums are added and divided by `share`, of extremes the worst counts, and places are named one after the other."""
    first, *others = parts
    if not others:
        return first
    watched = {name: list(zip(*(raw["watched"][name] for raw in parts), strict=True)) for name in WATCHED}
    steers = zip(*(raw["steers"] for raw in parts), strict=True)
    return {
        **first,
        "watched": {name: [sum(counts) / share for counts in sites] for name, sites in watched.items()}
        | {"leak": [float(np.max(leaks)) for leaks in watched["leak"]]},  # or NaN
        "steers": [_joined_steer(of_parts, share) for of_parts in steers],
    }


def _joined_steer(parts: Sequence[Raw], share: int) -> Raw:
    places = {
        name: ", ".join(dict.fromkeys(filter(None, (one[name] for one in parts)))) for name in ("block", "receiver")
    }
    readings = [one["readings"] for one in parts]
    sums = {name: sum(one[name] for one in readings) / share for name in SUMS}
    return {**parts[0], **places, "readings": sums | {name: min(one[name] for one in readings) for name in LEAST}}


# ---------------------------------------------------------------------------------------------------- agreement


def _check_agreement(ranks: Sequence[tuple[str, Raw]]) -> None:
    """Check that every rank of a stage counted the same and measured the same, up to the rounding of the residual.

    Raises:
        SteeringFault: two differ.
    """
    (name, first), *others = ranks
    for other, raw in others:
        if different := _other_request(first, raw) or _other_counts(first, raw):
            raise _disagreement(name, other, different, "rank")
        for steer, (mine, theirs) in enumerate(zip(first["steers"], raw["steers"], strict=True)):
            if different := _other_readings(steer, mine["readings"], theirs["readings"]):
                raise _disagreement(name, other, different, "rank")


_Difference = tuple[str, Any, Any]
"""What differs: its name, what the other one has, and what the first has."""


def _disagreement(first: str, other: str, different: _Difference, of: str) -> SteeringFault:
    name, theirs, mine = different
    return SteeringFault(f"{other} has {name} {theirs}, and {first} has {mine}; expected the same in every {of}")


def _other_request(first: Raw, other: Raw) -> _Difference | None:
    """What every rank knows of a request, whatever part of the model it holds."""
    for name in ("prompt", "cached", "reached", "again", "passes"):
        if first[name] != other[name]:
            return name, other[name], first[name]
    for name, (theirs, mine) in {
        "sites": [len(raw["watched"]["seen"]) for raw in (other, first)],
        "steers": [len(raw["steers"]) for raw in (other, first)],
    }.items():
        if theirs != mine:
            return name, theirs, mine
    return _other_steers(first, other, ("site", "vector"))


def _other_counts(first: Raw, other: Raw) -> _Difference | None:
    for name in WATCHED[:-1]:  # a leak is not a count
        for site, (theirs, mine) in enumerate(zip(other["watched"][name], first["watched"][name], strict=True)):
            if theirs != mine:
                return f"{name} at site {site}", theirs, mine
    return _other_steers(first, other, ("block", "receiver"))


def _other_steers(first: Raw, other: Raw, names: Sequence[str]) -> _Difference | None:
    for steer, (mine, theirs) in enumerate(zip(first["steers"], other["steers"], strict=True)):
        for name in names:
            if mine[name] != theirs[name]:
                return f"{name} of steer {steer}", theirs[name], mine[name]
    return None


def _other_readings(steer: int, mine: Mapping[str, float], theirs: Mapping[str, float]) -> _Difference | None:
    for name in ("positions", "again"):
        if mine[name] != theirs[name]:
            return f"{name} of steer {steer}", theirs[name], mine[name]
    positions = mine["positions"]
    if not positions:
        return None
    allowed = -2 * mine["rounding_max"] + 1e-6 * mine["ambient"] / positions
    pairs = {name: [row[name] / positions for row in (mine, theirs)] for name in SUMS[:3]}
    pairs |= {name: [row[name] for row in (mine, theirs)] for name in LEAST[:4]}
    for name, (one, other) in pairs.items():
        if abs(one - other) > allowed:
            return f"{name} of steer {steer}", f"{other:.6g}", f"{one:.6g}"
    return None
