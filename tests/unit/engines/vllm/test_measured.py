"""Receipts from what the ranks measured: counts by position, and ranks that must agree."""

from __future__ import annotations

import numpy as np
import pytest
from support.worker import LAYERS, N_LAYERS, Worker

from capvec.engines.vllm.layout import WATCHED
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
    with pytest.raises(SteeringFault, match="rank 1 measured shift"):
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


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"faults": ["too late"]}, "rank 1 captured nothing: too late"),
        ({"layers": [0]}, r"captured the layers \[0\]; expected all 2"),
        ({"positions": [3, 2]}, r"captured \[3, 2\] positions of the layers; expected 3"),
        ({"residuals": np.ones(8, dtype="<f4").tobytes()}, "different residuals"),
    ],
)
def test_a_rank_that_did_not_capture_every_layer_and_position_as_the_others_is_a_fault(changed, said):
    values = np.arange(8, dtype="<f4")
    raw = {"faults": [], "layers": [0, 1], "positions": [3, 3], "residuals": values.tobytes()}
    assert (residuals([raw, raw], 3, 2, 4) == values.reshape(2, 4)).all()
    with pytest.raises(SteeringFault, match=said):
        residuals([raw, {**raw, **changed}], 3, 2, 4)
