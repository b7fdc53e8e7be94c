"""A reply passes only when its receipts show the steer that was asked for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from capvec.errors import SteeringFault
from capvec.receipts import check_receipts, closed_forms
from capvec.records import Config, Reply
from capvec.steering import BlockLayout, IsolationCheck, Receipt, Steer

pytestmark = pytest.mark.unit

STEER = Steer(3, "abc", 2.0)
GOOD = Receipt(
    STEER, fired=5, forwards=5, passed=40, steered=40, block="layers.3", receiver="layers.4", vector="v",
    shift_mean=10.01, shift_min=9.9, shift_max=10.1, level_mean=30.0, level_min=20.0, level_max=40.0,
    norm_ratio_min=0.9, norm_ratio_max=1.1, ambient_norm=80.0, rounding=0.001, rounding_max=0.01,
    rounding_worst=0.01, error_max=0.01, off_axis_max=0.6, scale_min=1.0, scale_max=1.0,
)  # fmt: skip
STILL = IsolationCheck(forwards=5, sites=5, watched=5, steered=40, leak_max=0.0)


def reply(*receipts, completion=5):
    """5 tokens drawn in 5 passes: 36 prompt positions that were not cached, and 4 tokens fed back."""
    still = replace(STILL, forwards=completion, steered=sum(receipt.steered for receipt in receipts))
    under = tuple(receipt.steer for receipt in receipts)
    return Reply(
        "text", "stop", 50, completion, 0.1, cached_tokens=14, cached_under=under, receipts=receipts, isolation=still
    )


def check(reply, steers=(STEER,), targets=(10.0,), n_layers=8):
    """Against a config that asked for these, of vectors that all have the hash `v`."""
    config = Config("c", "steered", tuple(steers), targets=tuple(targets), vectors=("v",) * len(targets))
    check_receipts(reply, config, BlockLayout("layers", n_layers))


def level(value):
    """What a receipt shows of a level of `value`, off by as much as rounding is."""
    return {"level_mean": value + 0.001, "level_min": value - 0.01, "level_max": value + 0.01}


def test_a_good_receipt_passes_and_so_does_an_unsteered_reply():
    check(reply(GOOD))
    check(reply(), (), ())


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"fired": 4}, "ran 4 times in 5 forward passes"),
        ({"fired": 0, "forwards": 0}, "ran 0 times in 0"),
        ({"fired": 1, "forwards": 1, "passed": 36}, "ran 1 times in 1 forward passes, on 36 positions, .* takes 5"),
        ({"passed": 39}, "on 39 positions, .* takes 5 passes over 40"),
        ({"steered": 39}, "steered 39; .* steers 40"),
        ({"steered": 0, "shift_mean": None}, "steered 0; .* steers 40"),
        ({"block": "layers.2"}, "the hook ran on layers.2, .* measured at layers.4; expected layers.3, and layers.4"),
        ({"block": "layers.3, layers.2"}, "the hook ran on layers.3, layers.2"),
        ({"block": "visual.3"}, "the hook ran on visual.3"),
        ({"block": ""}, "the hook ran on no module"),
        ({"receiver": "layers.5"}, "measured at layers.5"),
        ({"receiver": "layers.3"}, "measured at layers.3"),
        ({"receiver": "norm"}, "measured at norm"),
        ({"vector": "w"}, "has the hash w; expected v"),
        ({"vector": ""}, "has the hash unknown"),
        ({"scale_min": 0.999}, "rescaled by 0.999 to 1,"),
        ({"scale_max": float("nan")}, "rescaled by 1 to nan,"),
        ({"off_axis_max": 1.02}, "along another direction, by 1.02 times"),
        ({"off_axis_max": float("nan")}, "along another direction, by nan times"),
        ({"shift_min": 0.0}, "measured a least shift of 0 "),
        ({"shift_max": 11.0}, "measured a largest shift of 11 "),
        ({"shift_mean": 0.0, "shift_min": 0.0, "shift_max": 0.0}, "a mean shift of 0 "),
        ({"shift_mean": 0.0}, r"measured a mean shift of 0 .* expected 10 ± 0.2"),
        ({"shift_mean": -10.0}, "measured a mean shift of -10"),
        ({"shift_mean": float("nan")}, "measured a mean shift of nan"),
        ({"shift_mean": None, "error_max": None}, "40 positions were steered, and .* lacks shift_mean, error_max"),
        ({"rounding": 6.0}, "is within rounding"),
        ({"error_max": 0.3}, "off by 0.3 .* at most 0.22"),  # 2 % of 10.1, and twice 0.01
        ({"error_max": float("nan")}, "off by nan"),
        ({"steer": Steer(3, "abc", 1.0)}, "asked for steers"),
        ({"steer": Steer(3, "other", 2.0)}, "asked for steers"),
        ({"steer": Steer(4, "abc", 2.0)}, "asked for steers"),
        ({"steer": Steer(3, "abc", 2.0, "set")}, "asked for steers .*add at all.*receipts of .*set at all"),
        ({"steer": Steer(3, "abc", 2.0, positions="prompt")}, "asked for steers"),
        ({"steer": Steer(3, "abc", 2.0, keep_norm=True)}, "asked for steers"),
    ],
)
def test_each_way_to_go_wrong_is_a_fault(changed, said):
    with pytest.raises(SteeringFault, match=said):
        check(reply(replace(GOOD, **changed)), [STEER], [10.0])


@pytest.mark.parametrize("steered", [True, False])
@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"leak_max": 1e-9}, "was moved by 1e-09"),
        ({"leak_max": float("nan")}, "was moved by nan"),
        ({"watched": 4}, "watched at 4 of 5 sites"),
        ({"forwards": 4}, "in 4 forward passes; expected all of them, in 5 passes"),
        ({"steered": 41}, "41 positions were not watched"),
    ],
)
def test_a_reply_shows_that_nothing_was_done_to_it_where_nothing_was_to_be_done(steered, changed, said):
    asked = ((STEER,), (10.0,)) if steered else ((), ())
    good = reply(GOOD) if steered else reply()
    check(good, *asked)
    with pytest.raises(SteeringFault, match=said):
        check(replace(good, isolation=replace(good.isolation, **changed)), *asked)
    with pytest.raises(SteeringFault, match="no isolation check"):
        check(replace(good, isolation=None), *asked)


@pytest.mark.parametrize(
    ("receiver", "fine"),
    [("model.norm", True), ("layers.3", True), ("norm", True), ("layers.4", False), ("layers.2", False), ("", False),
     ("layers", False)],
)  # fmt: skip
def test_behind_the_last_block_it_is_measured_at_what_is_no_block_or_at_the_last_itself(receiver, fine):
    last = reply(replace(GOOD, receiver=receiver))
    if fine:
        check(last, n_layers=4)
    else:
        with pytest.raises(SteeringFault, match="and what follows the last block"):
            check(last, n_layers=4)


def test_an_engine_that_sends_no_receipts_does_not_pass():
    with pytest.raises(SteeringFault, match="does this engine steer"):
        check(reply())


def test_the_zero_control_expects_no_shift():
    zero = replace(GOOD, steer=replace(STEER, alpha=0.0), shift_mean=0.0, shift_min=0.0, shift_max=0.0)
    check(reply(zero), [zero.steer], [0.0])
    with pytest.raises(SteeringFault, match="measured"):
        check(reply(replace(zero, shift_mean=1.0)), [zero.steer], [0.0])


@pytest.mark.parametrize(("op", "alpha", "target"), [("ablate", 1.0, 0.0), ("set", 2.0, 10.0)])
def test_an_ablation_and_a_set_are_judged_by_their_level_and_not_by_their_shift(op, alpha, target):
    steer = Steer(3, "abc", alpha, op)
    good = replace(GOOD, steer=steer, shift_min=-50.0, **level(target))
    check(reply(good), [steer], [target])
    for changed, said in (
        ({"level_mean": target + 1}, "a mean level of"),
        ({"level_min": target - 1}, "a least level of"),
        ({"level_max": target + 1}, "a largest level of"),
        ({"level_max": float("nan")}, "a largest level of nan"),
    ):
        with pytest.raises(SteeringFault, match=said):
            check(reply(replace(good, **changed)), [steer], [target])


def test_a_set_that_reads_like_an_ablation_is_a_fault():
    steer = Steer(3, "abc", 0.001, "set")
    with pytest.raises(SteeringFault, match=r"the expected level 0\.001 is within rounding"):
        check(reply(replace(GOOD, steer=steer, **level(0.001))), [steer], [0.001])


def test_a_norm_that_was_to_be_kept_must_be():
    steer = replace(STEER, keep_norm=True)
    good = replace(GOOD, steer=steer, norm_ratio_min=0.999, norm_ratio_max=1.001, scale_min=0.4, scale_max=0.9)
    check(reply(good), [steer], [10.0])
    for changed in ({"norm_ratio_min": 0.98}, {"norm_ratio_max": 1.02}, {"norm_ratio_max": float("nan")}):
        with pytest.raises(SteeringFault, match="the norm became"):
            check(reply(replace(good, **changed)), [steer], [10.0])


@pytest.mark.parametrize(
    ("positions", "right", "wrong"),
    # Of 36 prompt positions that were not cached and 4 tokens that were fed back.
    [("all", [40], [39, 36, 4]), ("prompt", [36], [40, 35]), ("generated", [4], [40, 5, 0]),
     ("assistant", [4, 17, 40], [3, 41])],
)  # fmt: skip
def test_how_many_positions_had_to_be_steered_follows_from_the_tokens(positions, right, wrong):
    steer = replace(STEER, positions=positions)
    for count in right:
        check(reply(replace(GOOD, steer=steer, steered=count)), [steer], [10.0])
    for count in wrong:
        with pytest.raises(SteeringFault, match=f"and steered {count}; "):
            check(reply(replace(GOOD, steer=steer, steered=count)), [steer], [10.0])


def test_a_reply_of_one_token_has_nothing_generated_to_steer_and_is_no_fault():
    steer = replace(STEER, positions="generated")
    nothing = Receipt(
        steer, fired=1, forwards=1, passed=36, steered=0, block="layers.3", receiver="layers.4", vector="v"
    )
    check(reply(nothing, completion=1), [steer], [10.0])
    assert nothing.shift_mean is None


def test_a_prompt_after_which_no_token_was_drawn_is_proved_by_its_one_pass():
    once = replace(GOOD, fired=1, forwards=1, passed=36, steered=36)
    still = replace(STILL, forwards=1, steered=36)
    check(replace(reply(once, completion=0), isolation=still))
    for receipt, isolation in (
        (replace(once, fired=0, forwards=0), still),
        (replace(once, passed=35), still),
        (once, replace(still, forwards=0)),
    ):
        with pytest.raises(SteeringFault):
            check(replace(reply(receipt, completion=0), isolation=isolation))


# ------------------------------------------------------------------------------------------------ closed forms

V, W = np.array([3.0, 4.0], np.float32), np.array([0.0, 2.0], np.float32)


@pytest.mark.parametrize(
    ("steers", "expected"),
    [
        ([Steer(0, "v", 2.0)], [10.0]),  # 2 · ‖(3, 4)‖
        # ⟨2·(3, 4) + 1·(0, 2), (3, 4)/5⟩ = (18 + 40)/5, and along (0, 1): 8 + 2.
        ([Steer(0, "v", 2.0), Steer(0, "w", 1.0)], [11.6, 10.0]),
        ([Steer(0, "v", 2.0), Steer(1, "w", 1.0)], [10.0, 2.0]),
        ([Steer(0, "v", 2.0, positions="prompt")], [10.0]),
        ([Steer(0, "v", 2.0, positions="prompt"), Steer(0, "w", 1.0)], [None, None]),
        ([Steer(0, "v", 2.0, keep_norm=True), Steer(0, "w", 1.0)], [11.6, 10.0]),
        ([Steer(0, "v", 1.0, "ablate")], [0.0]),
        ([Steer(0, "v", 1.0, "ablate", keep_norm=True)], [0.0]),
        ([Steer(0, "v", 1.0, "ablate"), Steer(1, "w", 1.0, "ablate")], [0.0, 0.0]),
        ([Steer(0, "v", 1.0, "ablate"), Steer(0, "w", 1.0, "ablate")], [None, None]),
        ([Steer(0, "v", 2.0, "set")], [10.0]),
        ([Steer(0, "v", -2.0, "set", "generated")], [-10.0]),
        ([Steer(0, "v", 2.0, "set", keep_norm=True)], [10.0]),
        ([Steer(0, "v", 2.0, "set"), Steer(0, "v", 2.0, "set")], [None, None]),
        ([Steer(0, "v", 2.0, "set"), Steer(0, "w", 1.0)], [None, None]),
    ],
)
def test_what_a_receipt_has_to_show_follows_from_the_vectors_where_it_does(steers, expected):
    forms = closed_forms(steers, [V if steer.direction == "v" else W for steer in steers])
    assert list(forms) == [None if value is None else pytest.approx(value) for value in expected]


def test_what_was_taken_over_from_a_request_under_other_steers_is_a_fault():
    good = reply(GOOD)
    check(good)
    for under in ((), (replace(STEER, alpha=STEER.alpha / 2),)):
        with pytest.raises(SteeringFault, match="14 prompt tokens were taken over from a request under the steers"):
            check(replace(good, cached_under=under))
    with pytest.raises(SteeringFault, match="taken over"):  # the baseline too
        check(replace(reply(), cached_under=(STEER,)), steers=(), targets=())
