"""Check whether a reply was steered as asked, so that a silent no-op never passes for a null result.

The check compares a reply with the plan and the direction's file, and takes nothing from the engine on trust that
follows from these:

* the place: the block whose output was steered and the module at which the result was measured, by their names;
* the vector: a hash of the vector that was multiplied;
* the coverage: in how many passes, and over how many positions;
* the amount: the shift or the level, where it follows from the steers alone (`closed_forms`). Where the norm is kept,
  the rescaling is measured and undone first (`engines.transformers.hooks.downstream`), so this holds there too;
* isolation: nothing moved along another direction (`off_axis_max`), and no position without a steer moved at all
  (`IsolationCheck`), in unsteered replies too.

Several steers at one layer with different operations or positions have no closed form. For these only `error_max`
counts, which compares with the engine's own evaluation of the formulas: a wrong α passes there.

The check cannot see: measurements that the engine invents; a model whose blocks do not do what their names say (loading
checks that they run in the order of their numbers); another hook at a layer where no row of the pass is steered, or one
that runs before the steer, whose effect belongs to h_in; and stored keys and values that an earlier pass under the same
steers damaged, which the reply of that pass reports.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from capvec.errors import EngineUnavailable, SteeringFault
from capvec.records import Config, Reply
from capvec.steering import BlockLayout, IsolationCheck, Receipt, Steer

TOLERANCE = 0.02
"""Relative deviation allowed between measured and expected values, in addition to rounding."""
NORM_TOLERANCE = 0.005
"""Relative deviation allowed of a norm that was kept. Rounding each number to bfloat16, the coarsest residual, changes
a norm by at most 2⁻⁸ ≈ 0.004 of it."""
OFF_AXIS_TOLERANCE = 1.01
"""In units of the largest effect of rounding. The bound is of first order, and ε is at most 0.008."""
LONGEST = math.sqrt(float(np.finfo(np.float32).max))
"""Longest residual whose square, which the next norm computes, is finite in float32."""


def closed_forms(steers: Sequence[Steer], vectors: Sequence[NDArray[np.float32]]) -> tuple[float | None, ...]:
    """What each steer's receipt must show at every position, where that does not depend on the residual.

    For steers that all add, at one layer and the same positions, it is the shift ⟨Σ_k α_k·v_k, d_L⟩. For a steer that
    is alone at its layer and ablates or sets, it is the level: 0, or α·‖v_L‖. For any other steer it is None.
    """
    return tuple(
        _closed_form(
            steer, vector, [pair for pair in zip(steers, vectors, strict=True) if pair[0].layer == steer.layer]
        )
        for steer, vector in zip(steers, vectors, strict=True)
    )


def _closed_form(
    steer: Steer, vector: NDArray[np.float32], here: Sequence[tuple[Steer, NDArray[np.float32]]]
) -> float | None:
    exact = vector.astype(np.float64)
    length = float(np.linalg.norm(exact))
    if len(here) == 1 and steer.op != "add":
        return 0.0 if steer.op == "ablate" else steer.alpha * length
    if all((other.op, other.positions) == ("add", steer.positions) for other, _ in here):
        total = sum(other.alpha * other_vector.astype(np.float64) for other, other_vector in here)
        return float(total @ exact) / (length or 1.0)
    return None


def check_finite(receipts: Sequence[Receipt], isolation: IsolationCheck | None) -> None:
    """Check that all measurements are finite and short enough for the next norm: below `LONGEST`.

    Raises:
        SteeringFault: one is not.
    """
    if isolation is not None and not abs(isolation.leak_max) < LONGEST:
        raise SteeringFault("a residual without a steer is not finite")
    for receipt in receipts:
        if not all(abs(value) < LONGEST for value in vars(receipt).values() if isinstance(value, float)):
            raise SteeringFault(
                f"layer {receipt.steer.layer}, alpha {receipt.steer.alpha:g}: the residual is not finite, or its "
                "square would not be; choose a smaller alpha"
            )


def check_receipts(reply: Reply, config: Config, layout: BlockLayout) -> None:
    """Check that a reply was steered as its config says, at every position, and nowhere else.

    Args:
        reply: what the engine sent.
        config: its steers, and what their receipts must show: `targets` and `vectors`, from the directions' files.
        layout: the blocks of the engine's model.

    Raises:
        SteeringFault: a receipt is missing or belongs to another steer; part of the prompt was computed under other
            steers; the hook ran at another block, with another vector, or not in every pass and at every position; a
            position without a steer moved; shift, level or norm are not as expected, on average or anywhere; the
            residual moved along another direction; or rounding hides the expected effect.
    """
    got = [receipt.steer for receipt in reply.receipts]
    if list(config.steers) != got:
        raise SteeringFault(
            f"asked for steers [{_in_words(config.steers)}] and received receipts of [{_in_words(got)}]; expected one "
            "of each: does this engine steer?"
        )
    if reply.cached_tokens and reply.cached_under != config.steers:
        raise SteeringFault(
            f"{reply.cached_tokens} prompt tokens were taken over from a request under the steers "
            f"[{_in_words(reply.cached_under)}]; expected the steers [{_in_words(config.steers)}]"
        )
    for receipt, vector in zip(reply.receipts, config.vectors, strict=True):
        _check_coverage(receipt, reply, _in_words([receipt.steer]))
        _check_place(receipt, vector, layout, _in_words([receipt.steer]))
    _check_isolation(reply)
    keeping = {steer.layer for steer in config.steers if steer.keep_norm}
    for receipt, target in zip(reply.receipts, config.targets, strict=True):
        if receipt.steered:
            _check_measurements(receipt, target, receipt.steer.layer in keeping, _in_words([receipt.steer]))


def check_grammar(reply: Reply, config: Config) -> None:
    """Check that a reply was constrained as its config says.

    Raises:
        EngineUnavailable: it does not match the config's grammar.
    """
    if config.grammar and re.fullmatch(config.grammar, reply.text) is None:
        raise EngineUnavailable(
            f"the reply {reply.text[:60]!r} does not match the grammar of {config.name}; expected an engine that "
            "constrains replies (structured_outputs)"
        )


def _in_words(steers: Sequence[Steer]) -> str:
    return "; ".join(
        f"layer {steer.layer}, alpha {steer.alpha:g}, {steer.op} at {steer.positions}"
        f"{' keeping the norm' if steer.keep_norm else ''}, direction {steer.direction}"
        for steer in steers
    )


def _passes(reply: Reply) -> int:
    """Forward passes behind a reply: one for each token drawn, and one for a prompt after which none was."""
    return max(reply.completion_tokens, 1)


def _check_isolation(reply: Reply) -> None:
    """Check positions without a steer. Whether a neighbour in the batch was steered is not known here."""
    isolation = reply.isolation
    if isolation is None:
        raise SteeringFault(
            "the reply has no isolation check; expected one with each reply, steered or not: is this an engine of this "
            "version of capvec?"
        )
    if isolation.forwards != (passes := _passes(reply)) or isolation.watched != isolation.sites:
        raise SteeringFault(
            f"a reply of {reply.completion_tokens} tokens was watched at {isolation.watched} of {isolation.sites} "
            f"sites in {isolation.forwards} forward passes; expected all of them, in {passes} passes"
        )
    own = sum(receipt.steered for receipt in reply.receipts)
    if isolation.steered > own:
        raise SteeringFault(
            f"{isolation.steered} positions were not watched because a steer moves them; expected at most {own}, the "
            "positions steered by the receipts"
        )
    # `not … ==` here and `not … <=` below, so that a NaN is a fault too.
    if not isolation.leak_max == 0.0:
        raise SteeringFault(
            f"a position without a steer was moved by {isolation.leak_max:.3g}; expected exactly 0: a steer of another "
            "request in the batch, or of other positions of this one, leaked"
        )


def _check_place(receipt: Receipt, vector: str, layout: BlockLayout, where: str) -> None:
    layer = receipt.steer.layer
    block, following = f"{layout.blocks}.{layer}", f"{layout.blocks}.{layer + 1}"
    arrived = receipt.receiver == following
    if layer == layout.n_layers - 1:
        # The final norm has another name in each architecture; the last block itself stands for an unknown one.
        arrived = receipt.receiver == block or not f"{receipt.receiver}.".startswith(f"{layout.blocks}.")
        following = "what follows the last block"
    if receipt.block != block or not receipt.receiver or not arrived:
        raise SteeringFault(
            f"{where}: the hook ran on {receipt.block or 'no module'}, and what arrived was measured at "
            f"{receipt.receiver or 'none'}; expected {block}, and {following}"
        )
    if receipt.vector != vector:
        raise SteeringFault(
            f"{where}: the vector that was multiplied has the hash {receipt.vector or 'unknown'}; expected {vector}, "
            "of the direction's file"
        )


def _check_coverage(receipt: Receipt, reply: Reply, where: str) -> None:
    """Check the passes (see `_passes`) and the positions (uncached prompt tokens, and tokens fed back).

    Only the engine's tokenizer knows which prompt tokens are the assistant's, so its count is accepted within bounds:
    at least what was generated, which is the assistant's, and at most everything.
    """
    forwards, prompt = _passes(reply), reply.prompt_tokens - reply.cached_tokens
    generated = forwards - 1
    least, most = {
        "all": (prompt + generated, prompt + generated),
        "prompt": (prompt, prompt),
        "generated": (generated, generated),
        "assistant": (generated, prompt + generated),
    }[receipt.steer.positions]
    seen = (receipt.fired, receipt.forwards, receipt.passed)
    if seen != (forwards, forwards, prompt + generated) or not least <= receipt.steered <= most:
        bound = f"{most}" if least == most else f"{least} to {most}"
        raise SteeringFault(
            f"{where}: the hook ran {receipt.fired} times in {receipt.forwards} forward passes, on {receipt.passed} "
            f"positions, and steered {receipt.steered}; a reply of {reply.completion_tokens} tokens to "
            f"{reply.prompt_tokens} ({reply.cached_tokens} of them cached) takes {forwards} passes over "
            f"{prompt + generated} positions, and steers {bound}"
        )


def _check_measurements(receipt: Receipt, target: float | None, keeping: bool, where: str) -> None:
    values: dict[str, Any] = vars(receipt)
    if missing := [name for name, value in values.items() if value is None]:
        raise SteeringFault(
            f"{where}: {receipt.steered} positions were steered, and the receipt lacks {', '.join(missing)}"
        )
    if not keeping and not values["scale_min"] == values["scale_max"] == 1.0:
        raise SteeringFault(
            f"{where}: the residual was rescaled by {values['scale_min']:.4g} to {values['scale_max']:.4g}, and no "
            "steer keeps the norm; expected exactly 1"
        )
    if target is not None:
        _check_target(values, "shift" if receipt.steer.op == "add" else "level", target, receipt.steered, where)
    if receipt.steer.keep_norm and not (
        abs(values["norm_ratio_min"] - 1) <= NORM_TOLERANCE and abs(values["norm_ratio_max"] - 1) <= NORM_TOLERANCE
    ):
        raise SteeringFault(
            f"{where}: the norm became {values['norm_ratio_min']:.4g} to {values['norm_ratio_max']:.4g} of what it "
            f"was; expected 1 ± {NORM_TOLERANCE}"
        )
    moved, adds = max(abs(values["shift_min"]), abs(values["shift_max"])), receipt.steer.op == "add"
    allowed = TOLERANCE * moved + (2 * values["rounding_max"] if adds else _rounding(values, "rounding_max"))
    if not values["error_max"] <= allowed:
        raise SteeringFault(
            f"{where}: along the direction, what arrived is off by {values['error_max']:.4g} from the formulas; "
            f"expected at most {allowed:.2g}"
        )
    if not values["off_axis_max"] <= OFF_AXIS_TOLERANCE:
        raise SteeringFault(
            f"{where}: the residual also moved along another direction, by {values['off_axis_max']:.3g} times the "
            f"largest effect of rounding; expected at most {OFF_AXIS_TOLERANCE}"
        )


def _check_target(values: dict[str, Any], name: str, target: float, positions: int, where: str) -> None:
    if 0.0 < abs(target) <= 2 * values["rounding"]:
        raise SteeringFault(
            f"{where}: the expected {name} {target:.3g} is within rounding ({values['rounding']:.3g}); "
            "choose a larger alpha, or float32"
        )
    for which, key, bound in (
        ("mean", f"{name}_mean", "rounding"),
        ("least", f"{name}_min", "rounding_max"),
        ("largest", f"{name}_max", "rounding_max"),
    ):
        rounding = 2 * values[bound] if name == "shift" else _rounding(values, bound)
        allowed = TOLERANCE * abs(target) + rounding
        if not abs(values[key] - target) <= allowed:
            raise SteeringFault(
                f"{where}: measured a {which} {name} of {values[key]:.4g} along the direction over {positions} "
                f"positions; expected {target:.4g} ± {allowed:.2g}"
            )


def _rounding(values: dict[str, Any], bound: str) -> float:
    """What rounding may do to a level: twice the statistical bound, or the worst case where that is more.

    A shift must be large enough that the rounding errors of its coordinates are nearly independent. A level is required
    for any residual, and near the level already, rounding undoes the rest of the move in every coordinate alike. In
    bfloat16 that is up to about 0.25 % of the residual's norm.
    """
    return max(2 * float(values[bound]), float(values["rounding_worst"]))
