"""Whether a reply was steered as asked, and nothing else. A silent no-op must never pass for a null result.

Everything is held against the plan and the direction's file, whatever the engine believes that it did:

* where: the block that the hook ran on, and the module that the witness read in front of, by their names in the model;
* with what: a hash of the vector in use;
* when: in how many passes, over how many positions;
* how much: the shift or the level, wherever it follows from the steers alone (`closed_forms`). A rescaling to keep the
  norm is measured and undone first (`hooks.witness`), so this holds for what keeps the norm too;
* nothing else: no part of the move lies along another direction (`off_axis_max`), and no position that was to be left
  alone moved at all (`IsolationCheck`), in a reply without steers as in any other.

Several steers with different operations or positions at one layer have no closed form. Of them `error_max` speaks
alone, which compares with what the engine makes of the formulas: a strength that it got wrong there is not seen.

What is not seen anywhere: numbers that the engine makes up; a model whose blocks do other things than their names say
(that they run in the order of their numbers is checked when it is loaded); another hook than these, at a layer where no
row of the pass is steered, or, at one where a row is, before them, where what it did belongs to h_in; and keys and
values in the prefix store that an earlier pass under the same steers spoilt, of which that pass's own reply tells.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from capvec.errors import SteeringFault
from capvec.records import Config, Reply
from capvec.steering import BlockLayout, Receipt, Steer

TOLERANCE = 0.02
"""Relative deviation of what was measured from what was expected, rounding aside."""
NORM_TOLERANCE = 0.005
"""Relative deviation of a norm that was kept: rounding each number to bfloat16, the coarsest residual, changes a norm
by at most 2⁻⁸ ≈ 0.004 of it."""
OFF_AXIS_TOLERANCE = 1.01
"""Of the most that rounding can do: the bound is of first order, and ε is 0.008 where it is coarsest."""


def closed_forms(steers: Sequence[Steer], vectors: Sequence[NDArray[np.float32]]) -> tuple[float | None, ...]:
    """What each steer's receipt has to show at every position, as far as that does not depend on the residual.

    Of steers that add at one layer and at the same positions it is the shift ⟨Σ_k α_k·v_k, d_L⟩; of a steer that is
    alone at its layer and ablates or sets, the level: 0, or α·‖v_L‖. None for any other steer: `error_max` alone speaks
    for it.

    Args:
        steers: of one config.
        vectors: v_L of each, float32 `[d_model]`.
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


def check_receipts(reply: Reply, config: Config, layout: BlockLayout) -> None:
    """Check that a reply was steered as its config says, at every position, and nowhere else.

    Args:
        reply: what the engine sent.
        config: its steers are what was asked for; its targets and vectors are from the directions' files, and what an
            engine would like to expect is not asked.
        layout: the blocks of the engine's model.

    Raises:
        SteeringFault: a receipt is missing or of another steer; part of the prompt was computed under other steers; a
            hook ran at another block or with another vector; it did not run in every forward pass and on every
            position that it is for; a position was touched that was to be left alone; shift, level or norm are not as
            expected on average or anywhere; what arrived is not what the formulas make of what left, or lies along
            another direction; or the expected effect is too small to be told from rounding.
    """
    got = [receipt.steer for receipt in reply.receipts]
    if list(config.steers) != got:
        raise SteeringFault(
            f"asked for steers [{_in_words(config.steers)}], the receipts are of [{_in_words(got)}]: does this engine "
            "steer?"
        )
    if reply.cached_tokens and reply.cached_under != config.steers:
        raise SteeringFault(
            f"{reply.cached_tokens} prompt tokens were taken over from a request under the steers "
            f"[{_in_words(reply.cached_under)}], asked for were [{_in_words(config.steers)}]"
        )
    for receipt, vector in zip(reply.receipts, config.vectors, strict=True):
        _check_coverage(receipt, reply, _in_words([receipt.steer]))
        _check_place(receipt, vector, layout, _in_words([receipt.steer]))
    _check_isolation(reply)
    keeping = {steer.layer for steer in config.steers if steer.keep_norm}
    for receipt, target in zip(reply.receipts, config.targets, strict=True):
        if receipt.steered:
            _check_measurements(receipt, target, receipt.steer.layer in keeping, _in_words([receipt.steer]))


def _in_words(steers: Sequence[Steer]) -> str:
    return "; ".join(
        f"layer {steer.layer}, alpha {steer.alpha:g}, {steer.op} at {steer.positions}"
        f"{' keeping the norm' if steer.keep_norm else ''}, direction {steer.direction}"
        for steer in steers
    )


def _check_isolation(reply: Reply) -> None:
    """Where a neighbour in the batch is steered, is not known here; that nothing of it arrived is."""
    still = reply.isolation
    if still is None:
        raise SteeringFault(
            "the reply does not say what was done to it where nothing was to be done; expected an isolation with each "
            "reply, steered or not: is this an engine of this version of capvec?"
        )
    if not still.forwards == reply.completion_tokens >= 1 or still.watched != still.sites:
        raise SteeringFault(
            f"a reply of {reply.completion_tokens} tokens was watched at {still.watched} of {still.sites} sites in "
            f"{still.forwards} forward passes; expected all of them, in {reply.completion_tokens} passes"
        )
    own = sum(receipt.steered for receipt in reply.receipts)
    if still.steered > own:
        raise SteeringFault(
            f"{still.steered} positions were not watched, as steers of the reply were to move them; its receipts tell "
            f"of {own}"
        )
    # Written, as all that follows, so that a measured NaN is a fault too.
    if not still.leak_max == 0.0:
        raise SteeringFault(
            f"a position that was to be left alone was moved by {still.leak_max:.3g}; expected exactly 0: what steers "
            "another request of the batch, or other positions of this one, leaked"
        )


def _check_place(receipt: Receipt, vector: str, layout: BlockLayout, where: str) -> None:
    layer = receipt.steer.layer
    block, following = f"{layout.blocks}.{layer}", f"{layout.blocks}.{layer + 1}"
    arrived = receipt.receiver == following
    if layer == layout.n_layers - 1:
        # What follows has another name in every architecture: no block, or the last itself where nothing is known.
        arrived = receipt.receiver == block or not f"{receipt.receiver}.".startswith(f"{layout.blocks}.")
        following = "what follows the last block"
    if receipt.block != block or not receipt.receiver or not arrived:
        raise SteeringFault(
            f"{where}: the hook ran on {receipt.block or 'no module'}, and what arrived was measured at "
            f"{receipt.receiver or 'none'}; expected {block}, and {following}"
        )
    if receipt.vector != vector:
        raise SteeringFault(
            f"{where}: the engine multiplied a vector with the hash {receipt.vector or 'unknown'}; that of the "
            f"direction's file is {vector}"
        )


def _check_coverage(receipt: Receipt, reply: Reply, where: str) -> None:
    """One pass for each token that was drawn; each prompt token that was not cached, and each that was fed back.

    Which prompt tokens are the assistant's, only the engine's tokenizer says, so its count is taken; but it is no less
    than what was generated, which is all the assistant's, and no more than everything.
    """
    forwards, prompt = reply.completion_tokens, reply.prompt_tokens - reply.cached_tokens
    generated = reply.completion_tokens - 1
    least, most = {
        "all": (prompt + generated, prompt + generated),
        "prompt": (prompt, prompt),
        "generated": (generated, generated),
        "assistant": (generated, prompt + generated),
    }[receipt.steer.positions]
    seen = (receipt.fired, receipt.forwards, receipt.passed)
    if seen != (forwards, forwards, prompt + generated) or forwards < 1 or not least <= receipt.steered <= most:
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
            f"{where}: a norm was kept that nobody asked to keep, by factors from {values['scale_min']:.4g} to "
            f"{values['scale_max']:.4g}; expected exactly 1"
        )
    if target is not None:
        _check_target(values, "shift" if receipt.steer.op == "add" else "level", target, receipt.steered, where)
    if receipt.steer.keep_norm and not (
        abs(values["norm_ratio_min"] - 1) <= NORM_TOLERANCE and abs(values["norm_ratio_max"] - 1) <= NORM_TOLERANCE
    ):
        raise SteeringFault(
            f"{where}: the norm became {values['norm_ratio_min']:.4g} to {values['norm_ratio_max']:.4g} of what it "
            f"was, expected 1 ± {NORM_TOLERANCE}"
        )
    moved, adds = max(abs(values["shift_min"]), abs(values["shift_max"])), receipt.steer.op == "add"
    allowed = TOLERANCE * moved + (2 * values["rounding_max"] if adds else _rounding(values, "rounding_max"))
    if not values["error_max"] <= allowed:
        raise SteeringFault(
            f"{where}: what arrived is {values['error_max']:.4g} along the direction from what the formulas make of "
            f"the residual, expected at most {allowed:.2g}"
        )
    if not values["off_axis_max"] <= OFF_AXIS_TOLERANCE:
        raise SteeringFault(
            f"{where}: what arrived was moved along another direction as well, by {values['off_axis_max']:.3g} times "
            f"the most that rounding can; expected at most {OFF_AXIS_TOLERANCE}"
        )


def _check_target(values: dict[str, Any], name: str, target: float, positions: int, where: str) -> None:
    if 0.0 < abs(target) <= 2 * values["rounding"]:
        raise SteeringFault(
            f"{where}: the expected {name} {target:.3g} cannot be told from rounding ({values['rounding']:.3g}); "
            "expected a larger alpha, or an engine in float32"
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
                f"positions, expected {target:.4g} ± {allowed:.2g}"
            )


def _rounding(values: dict[str, Any], bound: str) -> float:
    """What rounding may do to a level: chance twice over, or, where it is more, everything that it can.

    A shift has to be large enough that its coordinates' rounding errors are as good as independent, or it did not
    happen. A level is asked for whatever the residual brings, and where that is nearly there already, rounding undoes
    the last of it in every coordinate alike. In bfloat16 that is up to about 0.25 % of the residual's norm.
    """
    return max(2 * float(values[bound]), float(values["rounding_worst"]))
