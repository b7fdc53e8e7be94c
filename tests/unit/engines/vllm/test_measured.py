"""Receipts from what the ranks measured: counts by position, ranks that must agree, and stages that add up."""

from __future__ import annotations

import numpy as np
import pytest
from support.worker import LAYERS, N_LAYERS, Worker

from capvec.engines.vllm.layout import LEAST, SUMS, WATCHED
from capvec.engines.vllm.measured import receipts, residuals
from capvec.errors import SteeringFault
from capvec.receipts import check_finite
from capvec.steering import EXTREMES, Steer

pytestmark = pytest.mark.unit

WIDTH, PROMPT = 32, 5


def worker_after(steps, positions="all", alpha=3.0):
    """A worker that computed one request, from (computed, scheduled) of each step, and a second that did the same."""
    import torch

    random = torch.Generator().manual_seed(0)
    worker = Worker(WIDTH)
    direction = worker.put(np.random.default_rng(0).normal(size=(N_LAYERS, WIDTH)))
    steers = [Steer(LAYERS[0], direction, alpha, "add", positions)]
    worker.open("a", steers, prompt=PROMPT)
    for computed, scheduled in steps:
        worker.fill(["a"], [computed], [scheduled])
        for site in range(len(LAYERS)):
            worker.pass_through(site, torch.randn(scheduled, WIDTH, generator=random))
    return worker, steers


def test_what_asynchronous_scheduling_computes_after_the_last_token_is_reported_apart():
    worker, _ = worker_after([(0, PROMPT), (5, 1), (6, 1), (7, 1)])
    measured = worker.measured("a", completion_tokens=2)
    (receipt,) = measured.receipts
    assert (receipt.fired, receipt.forwards, receipt.passed, receipt.steered) == (2, 2, PROMPT + 1, PROMPT + 1)
    assert (measured.apart.overshoot, measured.apart.passes, measured.isolation.steered) == (2, 4, PROMPT + 1)
    assert measured.isolation.watched == measured.isolation.sites == 2 * len(LAYERS)


def test_a_steer_of_the_prompt_has_no_positions_after_it():
    worker, _ = worker_after([(0, PROMPT), (5, 1), (6, 1)], positions="prompt")
    measured = worker.measured("a", completion_tokens=2)
    assert measured.receipts[0].steered == measured.isolation.steered == PROMPT


def test_what_is_computed_again_after_a_preemption_is_measured_and_reported_apart():
    worker, _ = worker_after([(0, PROMPT), (5, 1), (2, 5)])
    measured = worker.measured("a", completion_tokens=3)
    assert (measured.receipts[0].passed, measured.receipts[0].steered) == (PROMPT + 2, PROMPT + 2)
    assert (measured.receipts[0].fired, measured.apart.recomputed) == (3, 4)
    assert measured.isolation.watched == measured.isolation.sites


def test_a_reply_of_more_tokens_than_were_drawn_does_not_get_its_passes():
    worker, _ = worker_after([(0, PROMPT), (5, 1)])
    assert worker.measured("a", completion_tokens=3).receipts[0].forwards == 2


def test_a_reply_of_one_token_has_no_measurements_of_what_was_generated():
    worker, _ = worker_after([(0, PROMPT)], positions="generated")
    receipt = worker.measured("a", completion_tokens=1).receipts[0]
    assert (receipt.steered, receipt.shift_mean, receipt.fired) == (0, None, 1)


def test_of_several_ranks_the_worst_extremes_count():
    worker, steers = worker_after([(0, PROMPT)])
    one, other = worker.raw("a"), worker.raw("a")
    readings = np.frombuffer(other["steers"][0]["readings"]).copy()
    readings[-len(EXTREMES) - 2 + EXTREMES.index("off_axis_max")] = -7.0
    other["steers"][0]["readings"] = readings.tobytes()
    assert receipts(steers, [one, other], **worker.tokens("a", 1)).receipts[0].off_axis_max == 7.0


@pytest.mark.parametrize("site", range(len(LAYERS)))
@pytest.mark.parametrize("rank", [0, 1])
def test_a_leak_that_is_no_number_is_not_lost_among_others(site, rank):
    worker, steers = worker_after([(0, PROMPT)])
    ranks = [worker.raw("a"), worker.raw("a")]
    watched = np.frombuffer(ranks[rank]["watched"]).reshape(len(LAYERS), -1).copy()
    watched[site, WATCHED.index("leak")] = np.nan
    ranks[rank] = {**ranks[rank], "watched": watched.tobytes()}
    found = receipts(steers, ranks, **worker.tokens("a", 1))
    with pytest.raises(SteeringFault):
        check_finite(found.receipts, found.isolation)


def test_a_hook_that_does_not_run_in_one_rank_is_a_fault():
    worker, steers = worker_after([(0, PROMPT)])
    other = worker.raw("a")
    watched = np.frombuffer(other["watched"]).copy()
    watched[:2] = 0
    with pytest.raises(SteeringFault, match="rank 1 has seen at site 0 0"):
        receipts(steers, [worker.raw("a"), {**other, "watched": watched.tobytes()}], **worker.tokens("a", 1))


def test_a_rank_that_steers_with_another_strength_is_a_fault():
    (worker, steers), (stronger, _) = worker_after([(0, PROMPT)]), worker_after([(0, PROMPT)], alpha=3.1)
    with pytest.raises(SteeringFault, match="rank 1 has shift of steer 0"):
        receipts(steers, [worker.raw("a"), stronger.raw("a")], **worker.tokens("a", 1))


def test_a_rank_that_did_not_steer_says_why():
    worker, steers = worker_after([(0, PROMPT)])
    with pytest.raises(SteeringFault, match="rank 1 did not steer the request: no direction"):
        receipts(steers, [worker.raw("a"), {"faults": ["no direction"]}], **worker.tokens("a", 1))


def test_rows_that_hold_the_tokens_of_another_request_are_a_fault():
    worker, steers = worker_after([(0, PROMPT), (5, 1)])
    with pytest.raises(SteeringFault, match="whose ids sum to 15; expected 16: they belong to another request"):
        receipts(steers, [worker.raw("a")], prompt=[0, 1, 2, 3, 4], drawn=[6, 7])


def test_no_rank_at_all_is_a_fault():
    with pytest.raises(SteeringFault, match="no rank"):
        receipts([], [], prompt=[1], drawn=[2])


def captured(positions, *, stage=0, values=range(8)):
    """What a rank captured of two layers."""
    values = np.asarray(values, dtype="<f4")
    return {"faults": [], "stage": stage, "layers": [0, 1], "positions": positions, "residuals": values.tobytes()}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"faults": ["too late"]}, "rank 1 captured nothing: too late"),
        ({"layers": [0]}, r"captured the layers \[0\]; expected all 2"),
        ({"positions": [3, 2]}, "rank 1 captured other residuals than rank 0"),
        ({"residuals": np.ones(8, dtype="<f4").tobytes()}, "rank 1 captured other residuals than rank 0"),
    ],
)
def test_a_rank_that_did_not_capture_every_layer_and_position_as_the_others_is_a_fault(changed, said):
    values, raw = np.arange(8, dtype="<f4"), captured([3, 3])
    assert (residuals([raw, raw], 3, 2, 4) == values.reshape(2, 4)).all()
    with pytest.raises(SteeringFault, match=said):
        residuals([raw, {**raw, **changed}], 3, 2, 4)


# ---------------------------------------------------------------------------------------------------- stages


UNREAD = np.array([0.0] * len(SUMS) + [np.inf] * len(LEAST)).tobytes()


def in_stages(raw, steered, received):
    """What two stages answer in place of one rank: the second one steers from site `steered` on, and measures from site
    `received` on.
    """
    watched = np.frombuffer(raw["watched"]).reshape(len(LAYERS), -1)
    for stage in (0, 1):
        here = [(site >= received) == bool(stage) for site in range(len(LAYERS))]
        yield {
            **raw,
            "stage": stage,
            "watched": np.where(np.array(here)[:, None], watched, 0.0).tobytes(),
            "steers": [
                {
                    **own,
                    "block": own["block"] if (own["site"] >= steered) == bool(stage) else "",
                    "receiver": own["receiver"] if here[own["site"]] else "",
                    "readings": own["readings"] if here[own["site"]] else UNREAD,
                }
                for own in raw["steers"]
            ],
        }


def worker_with_a_steer_at_each_site():
    import torch

    random = torch.Generator().manual_seed(0)
    worker = Worker(WIDTH)
    direction = worker.put(np.random.default_rng(0).normal(size=(N_LAYERS, WIDTH)))
    steers = [Steer(layer, direction, 1.0 + layer) for layer in LAYERS]
    worker.open("a", steers, prompt=PROMPT)
    for computed, scheduled in [(0, PROMPT), (PROMPT, 1)]:
        worker.fill(["a"], [computed], [scheduled])
        for site in range(len(LAYERS)):
            worker.pass_through(site, torch.randn(scheduled, WIDTH, generator=random))
    return worker, steers


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("border", [0, 1], ids=["between sites", "behind a site"])
@pytest.mark.parametrize("cut", range(len(LAYERS) + 1))
def test_stages_together_have_the_receipts_of_one_rank_with_the_whole_model(cut, border, ranks):
    worker, steers = worker_with_a_steer_at_each_site()
    stages = [stage for stage in in_stages(worker.raw("a"), cut + border, cut) for _ in range(ranks)]
    asked = worker.tokens("a", 2)
    for order in (stages, stages[::-1]):
        assert receipts(steers, order, **asked) == receipts(steers, [worker.raw("a")], **asked)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"reached": 9}, "stage 1 has reached 9, and stage 0 has 6; expected the same in every stage"),
        ({"passes": 1}, "stage 1 has passes 1, and stage 0 has 2"),
        ({"steers": []}, "stage 1 has steers 0, and stage 0 has 3"),
    ],
)
def test_stages_that_did_not_compute_the_same_request_are_a_fault(changed, said):
    worker, steers = worker_with_a_steer_at_each_site()
    first, second = in_stages(worker.raw("a"), 1, 1)
    with pytest.raises(SteeringFault, match=said):
        receipts(steers, [first, {**second, **changed}], **worker.tokens("a", 2))


def test_a_stage_with_another_vector_is_a_fault_though_it_measured_none():
    worker, steers = worker_with_a_steer_at_each_site()
    first, second = in_stages(worker.raw("a"), 1, 1)
    first["steers"][2]["vector"] = "another"
    with pytest.raises(SteeringFault, match="stage 1 has vector of steer 2 v, and stage 0 has another"):
        receipts(steers, [first, second], **worker.tokens("a", 2))


@pytest.mark.parametrize("missing", [0, 1])
def test_a_stage_that_does_not_answer_leaves_its_sites_unwatched(missing):
    worker, steers = worker_with_a_steer_at_each_site()
    stages = list(in_stages(worker.raw("a"), 1, 1))
    found = receipts(steers, [stages[1 - missing]], **worker.tokens("a", 2))
    assert found.isolation.watched < found.isolation.sites
    assert not all(one.passed for one in found.receipts)


def test_a_position_that_two_stages_measured_is_counted_twice():
    worker, steers = worker_with_a_steer_at_each_site()
    raw = worker.raw("a")
    found = receipts(steers, [raw, {**raw, "stage": 1}], **worker.tokens("a", 2))
    assert [one.passed for one in found.receipts] == [2 * (PROMPT + 1)] * len(LAYERS)


def test_each_stage_captures_the_residuals_of_its_own_layers():
    stages = [
        captured([3, 0], values=[1, 2, 3, 4, 0, 0, 0, 0]),
        captured([0, 3], stage=1, values=[0] * 4 + [5, 6, 7, 8]),
    ]
    assert residuals(stages, 3, 2, 4).ravel().tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    for ranks, found in ([stages[:1], r"\[3, 0\]"], [[*stages, captured([3, 3], stage=2)], r"\[6, 6\]"]):
        with pytest.raises(SteeringFault, match=rf"captured {found} positions of the layers; expected 3"):
            residuals(ranks, 3, 2, 4)
