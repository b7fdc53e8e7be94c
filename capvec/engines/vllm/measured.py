"""From what every rank measured to the receipts of one reply.

A rank counts positions, because the passes of vLLM are not those of a reply: a long prompt takes several, a preempted
request repeats some, and with asynchronous scheduling a request takes part in a pass after its last token, whose result
is thrown away. A reply's forward pass is therefore a position from which a token is drawn, computed for the first time.
Positions computed again, and those after the last token, are measured like all others and reported apart (`Apart`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from capvec.engines.vllm.layout import APPLIES, GENERATED
from capvec.engines.vllm.ranks import Raw, by_stage, together
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
    _check_faults(ranks, "did not steer the request")
    raw = together(ranks)
    if len(raw["steers"]) != len(steers):
        raise SteeringFault(f"the ranks measured {len(raw['steers'])} steers; the request has {len(steers)}")
    made = raw["reached"] - max(raw["prompt"] - 1, raw["cached"])
    overshoot = max(0, made - len(drawn))
    forwards = made - overshoot
    _check_tokens(raw, [*prompt[raw["cached"] :], *drawn], overshoot)
    return Measured(
        tuple(_receipt(steer, raw["steers"][number], raw, forwards, overshoot) for number, steer in enumerate(steers)),
        _isolation(steers, raw, forwards, overshoot),
        raw["cached"],
        Apart(raw["passes"], raw["again"], overshoot),
    )


def residuals(ranks: Sequence[Raw], positions: int, n_layers: int, d_model: int) -> NDArray[np.float32]:
    """The captured residuals of one conversation, averaged over its chosen positions.

    Args:
        ranks: of each rank, `faults`; `stage`; `layers`; `positions`, of each layer; and `residuals`, the bytes of
            float32.
        positions: that were chosen.
        n_layers: of the model.
        d_model: of the model.

    Returns:
        float32 `[n_layers, d_model]`.

    Raises:
        SteeringFault: a rank did not capture them, has not every layer or differs from another of its stage, or the
            stages together have not every position.
    """
    _check_faults(ranks, "captured nothing")
    for number, raw in enumerate(ranks):
        if raw["layers"] != list(range(n_layers)):
            raise SteeringFault(
                f"rank {number} captured the layers {raw['layers']}; expected all {n_layers}: start vLLM with hooks at "
                "all layers"
            )
    found, counts = np.zeros((n_layers, d_model), dtype="<f4"), np.zeros(n_layers, dtype=np.int64)
    for stage in by_stage(ranks):
        found += _agreed(stage).reshape(n_layers, d_model)
        counts += stage[0][1]["positions"]
    if set(counts.tolist()) != {positions}:
        raise SteeringFault(f"the ranks captured {counts.tolist()} positions of the layers; expected {positions}")
    return found


def _agreed(stage: Sequence[tuple[str, Raw]]) -> NDArray[np.float32]:
    """What the ranks of a stage captured alike."""
    values = [np.frombuffer(raw["residuals"], dtype="<f4") for _, raw in stage]
    most = float(np.abs(values[0]).max(initial=0.0))
    for (name, raw), mine in zip(stage, values, strict=True):
        if raw["positions"] != stage[0][1]["positions"] or not np.allclose(
            values[0], mine, rtol=1e-5, atol=1e-5 * most
        ):
            raise SteeringFault(f"{name} captured other residuals than {stage[0][0]}; expected the same in each")
    return values[0]


def _check_faults(ranks: Sequence[Raw], what: str) -> None:
    for number, raw in enumerate(ranks):
        if raw["faults"]:
            raise SteeringFault(f"rank {number} {what}: {'; '.join(raw['faults'])}")
    if not ranks:
        raise SteeringFault("no rank answered what it measured; expected an answer of each")


def _receipt(steer: Steer, own: Raw, raw: Raw, forwards: int, overshoot: int) -> Receipt:
    readings = own["readings"]
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


def _isolation(steers: Sequence[Steer], raw: Raw, forwards: int, overshoot: int) -> IsolationCheck:
    """A site at which a position was not measured has not been watched in one of the passes, at least."""
    watched = raw["watched"]
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
        leak_max=float(np.max(watched["leak"], initial=0.0)),  # or NaN
    )


def _check_tokens(raw: Raw, tokens: Sequence[int], overshoot: int) -> None:
    """Check that the rows which were steered and measured as this request's held its tokens.

    Args:
        raw: of all ranks together.
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
