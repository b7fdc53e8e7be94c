"""From what every rank measured to the receipts of one reply.

A rank counts positions, because the passes of vLLM are not those of a reply: a long prompt takes several, a preempted
request repeats some, and with asynchronous scheduling a request takes part in a pass after its last token, whose result
is thrown away. A reply's forward pass is therefore a position from which a token is drawn, computed for the first time.
Positions computed again, and those after the last token, are measured like all others and reported apart (`Apart`).

With tensor parallelism every rank holds the whole residual, steers it and measures it. The ranks must agree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from capvec.engines.vllm.layout import APPLIES, GENERATED, LEAST, READINGS, SUMS, WATCHED
from capvec.errors import SteeringFault
from capvec.steering import EXTREMES, IsolationCheck, Receipt, Steer


@dataclass(frozen=True)
class Apart:
    """What vLLM computed of a request and its reply does not count."""

    passes: int
    """Forward passes in all, every chunk of the prompt counted."""
    recomputed: int
    """Positions computed again after a preemption."""
    overshoot: int
    """Positions computed after the last token of the reply."""


class Measured(NamedTuple):
    """What was measured of one reply."""

    receipts: tuple[Receipt, ...]
    isolation: IsolationCheck
    cached_tokens: int
    """Prompt tokens that were not computed."""
    apart: Apart


_MEANS = {"shift_mean": "shift", "level_mean": "level", "ambient_norm": "ambient", "rounding": "rounding"}
"""Field of a receipt → sum over the positions."""
_SIGNS = {name: 1 if name.endswith("_min") else -1 for name in EXTREMES}
Raw = Mapping[str, Any]
"""What one rank measured of a request: `faults`, why it was not steered; `prompt` and `cached`, tokens; `reached`, the
first position that was never computed; `passes`; `again`, positions computed a second time; `watched`, the numbers of
`layout.WATCHED` for each site; and `steers`, for each `site`, `block`, `receiver`, `vector` and `readings`. Numbers are
the bytes of float64."""


def receipts(steers: Sequence[Steer], ranks: Sequence[Raw], *, prompt: Sequence[int], drawn: Sequence[int]) -> Measured:
    """The receipts of a reply, and its isolation check.

    Args:
        steers: what was asked for.
        ranks: of each rank, in any order.
        prompt: the prompt's tokens.
        drawn: those of the reply, the one that ended it included.

    Raises:
        SteeringFault: a rank did not steer the request as asked, steered the rows of other tokens, or the ranks do not
            agree.
    """
    for number, raw in enumerate(ranks):
        if raw["faults"]:
            raise SteeringFault(f"rank {number} did not steer the request: {'; '.join(raw['faults'])}")
    if not ranks:
        raise SteeringFault("no rank answered what it measured; expected an answer of each")
    ranks = [_unpacked(raw) for raw in ranks]
    _check_agreement(ranks)
    raw = ranks[0]
    if len(raw["steers"]) != len(steers):
        raise SteeringFault(f"the ranks measured {len(raw['steers'])} steers; the request has {len(steers)}")
    made = raw["reached"] - max(raw["prompt"] - 1, raw["cached"])
    overshoot = max(0, made - len(drawn))
    forwards = made - overshoot
    _check_tokens(raw, [*prompt[raw["cached"] :], *drawn], overshoot)
    return Measured(
        tuple(_receipt(steer, number, ranks, forwards, overshoot) for number, steer in enumerate(steers)),
        _isolation(steers, ranks, forwards, overshoot),
        raw["cached"],
        Apart(raw["passes"], raw["again"], overshoot),
    )


def residuals(ranks: Sequence[Mapping[str, Any]], positions: int, n_layers: int, d_model: int) -> NDArray[np.float32]:
    """The captured residuals of one conversation, averaged over its chosen positions.

    Args:
        ranks: of each rank, `faults`; `layers`; `positions`, of each layer; and `residuals`, the bytes of float32.
        positions: that were chosen.
        n_layers: of the model.
        d_model: of the model.

    Returns:
        float32 `[n_layers, d_model]`.

    Raises:
        SteeringFault: a rank did not capture them, has not every layer or every position, or differs from another.
    """
    found = []
    for number, raw in enumerate(ranks):
        if raw["faults"]:
            raise SteeringFault(f"rank {number} captured nothing: {'; '.join(raw['faults'])}")
        if raw["layers"] != list(range(n_layers)):
            raise SteeringFault(
                f"rank {number} captured the layers {raw['layers']}; expected all {n_layers}: start vLLM with hooks at "
                "all layers"
            )
        if set(raw["positions"]) != {positions}:
            raise SteeringFault(
                f"rank {number} captured {raw['positions']} positions of the layers; expected {positions}"
            )
        found.append(np.frombuffer(raw["residuals"], dtype="<f4").reshape(n_layers, d_model))
    if not found:
        raise SteeringFault("no rank answered what it captured; expected an answer of each")
    if not all(np.allclose(found[0], other, rtol=1e-5, atol=1e-5 * float(np.abs(found[0]).max())) for other in found):
        raise SteeringFault("the ranks captured different residuals; expected the same in each")
    return found[0]


def _unpacked(raw: Raw) -> Raw:
    """With numbers in place of bytes: of `watched` a list over the sites, and of readings one number, by their names.

    They are lists, because a reply has few numbers and a server waits for the receipts of many replies in turn.
    """
    watched = np.frombuffer(raw["watched"]).reshape(-1, len(WATCHED))
    return {
        **raw,
        "watched": dict(zip(WATCHED, watched.T.tolist(), strict=True)),
        "steers": [{**own, "readings": _named(own["readings"])} for own in raw["steers"]],
    }


def _named(readings: bytes) -> dict[str, float]:
    return dict(zip(READINGS, np.frombuffer(readings).tolist(), strict=True))


def _receipt(steer: Steer, number: int, ranks: Sequence[Raw], forwards: int, overshoot: int) -> Receipt:
    """Counts are the same in each rank. Of means the mean over the ranks is taken, of extremes the worst."""
    raw = ranks[0]
    own = raw["steers"][number]
    readings = _joined([rank["steers"][number]["readings"] for rank in ranks])
    positions = readings["positions"]
    after = overshoot if APPLIES[steer.positions] >> GENERATED & 1 else 0
    measured: dict[str, Any] = {}
    if positions:
        measured = {name: readings[of] / positions for name, of in _MEANS.items()}
        measured |= {name: sign * readings[name] for name, sign in _SIGNS.items()}
    return Receipt(
        steer,
        fired=int(raw["watched"]["drew"][own["site"]]) - overshoot,
        forwards=forwards,
        passed=int(raw["watched"]["seen"][own["site"]]) - overshoot,
        steered=int(positions - readings["again"]) - after,
        block=own["block"],
        receiver=own["receiver"],
        vector=own["vector"],
        **measured,
    )


def _joined(ranks: Sequence[Mapping[str, float]]) -> Mapping[str, float]:
    """Of sums the mean over the ranks, of least values the least."""
    if len(ranks) == 1:
        return ranks[0]
    means = {name: sum(one[name] for one in ranks) / len(ranks) for name in SUMS}
    return means | {name: min(one[name] for one in ranks) for name in LEAST}


def _isolation(steers: Sequence[Steer], ranks: Sequence[Raw], forwards: int, overshoot: int) -> IsolationCheck:
    """A site at which a position was not measured has not been watched in one of the passes, at least."""
    raw, watched = ranks[0], ranks[0]["watched"]
    sites = len(watched["seen"])
    due = raw["reached"] - raw["cached"], raw["again"]
    missed = sites - list(zip(watched["seen"], watched["again"], strict=True)).count(due)
    moving = {
        own["site"]
        for steer, own in zip(steers, raw["steers"], strict=True)
        if APPLIES[steer.positions] >> GENERATED & 1 and (steer.op != "add" or steer.alpha)
    }
    return IsolationCheck(
        forwards=forwards,
        sites=sites * forwards,
        watched=int(sum(watched["drew"])) - sites * overshoot - missed,
        steered=int(sum(watched["moved"])) - overshoot * len(moving),
        leak_max=float(np.max([leak for rank in ranks for leak in rank["watched"]["leak"]], initial=0.0)),  # or NaN
    )


def _check_tokens(raw: Raw, tokens: Sequence[int], overshoot: int) -> None:
    """Check that the rows which were steered and measured as this request's held its tokens.

    Args:
        raw: of one rank.
        tokens: that the request computes, the last one drawn included.
        overshoot: positions after the one from which the last token was drawn. The first of them holds that token; what
            others hold is not known.

    Raises:
        SteeringFault: the sums of the ids differ.
    """
    expected = sum(tokens) - (0 if overshoot else tokens[-1])
    due = raw["reached"] - raw["cached"]
    if due != len(tokens) - (overshoot == 0) + max(0, overshoot - 1):
        return  # fewer passes than the reply has tokens: the counts show it
    watched = raw["watched"]
    found = {held for held, seen in zip(watched["tokens"], watched["seen"], strict=True) if seen == due}
    if others := {held for held in found if held < expected or (held > expected and overshoot <= 1)}:
        raise SteeringFault(
            f"the rows that were steered as this request's held tokens whose ids sum to {min(others):.0f}; expected "
            f"{expected}: they belong to another request"
        )


def _check_agreement(ranks: Sequence[Raw]) -> None:
    """Check that every rank counted the same and measured the same, up to the rounding of the residual.

    Raises:
        SteeringFault: two differ.
    """
    first, *others = ranks
    for number, other in enumerate(others, start=1):
        if different := _difference(first, other):
            name, theirs, mine = different
            raise SteeringFault(
                f"rank {number} has {name} {theirs}, and rank 0 has {mine}; expected the same in every rank: the hooks "
                "do not run in all of them"
            )
        for steer, (mine, theirs) in enumerate(zip(first["steers"], other["steers"], strict=True)):
            _check_same(steer, number, mine["readings"], theirs["readings"])


def _difference(first: Raw, other: Raw) -> tuple[str, Any, Any] | None:
    """The first count that differs: its name, what the other rank has, and what the first has."""
    for name in ("prompt", "cached", "reached", "again", "passes"):
        if first[name] != other[name]:
            return name, other[name], first[name]
    sites = [len(rank["watched"]["seen"]) for rank in (other, first)]
    if sites[0] != sites[1]:
        return "sites", sites[0], sites[1]
    for name in WATCHED[:-1]:  # a leak is not a count
        for site, (theirs, mine) in enumerate(zip(other["watched"][name], first["watched"][name], strict=True)):
            if theirs != mine:
                return f"{name} at site {site}", theirs, mine
    if len(first["steers"]) != len(other["steers"]):
        return "steers", len(other["steers"]), len(first["steers"])
    for steer, (own, its) in enumerate(zip(first["steers"], other["steers"], strict=True)):
        for name in ("site", "block", "receiver", "vector"):
            if own[name] != its[name]:
                return f"{name} of steer {steer}", its[name], own[name]
        for name in ("positions", "again"):
            if own["readings"][name] != its["readings"][name]:
                return f"{name} of steer {steer}", its["readings"][name], own["readings"][name]
    return None


def _check_same(steer: int, rank: int, mine: Mapping[str, float], theirs: Mapping[str, float]) -> None:
    positions = mine["positions"]
    if not positions:
        return
    allowed = -2 * mine["rounding_max"] + 1e-6 * mine["ambient"] / positions
    pairs = {name: [row[name] / positions for row in (mine, theirs)] for name in SUMS[:3]}
    pairs |= {name: [row[name] for row in (mine, theirs)] for name in LEAST[:4]}
    for name, (one, other) in pairs.items():
        if abs(one - other) > allowed:
            raise SteeringFault(
                f"rank {rank} measured {name} {other:.6g} of steer {steer}, and rank 0 {one:.6g}; expected the same in "
                "every rank"
            )
