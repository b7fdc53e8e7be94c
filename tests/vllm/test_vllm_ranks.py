"""With tensor parallelism every rank steers, and a hook that does not run in one of them is caught."""

from __future__ import annotations

import pytest
from support.vllm_models import Asked, engine, prompt, save_tiny, vectors

from capvec.errors import SteeringFault
from capvec.steering import Steer

pytestmark = pytest.mark.vllm


@pytest.fixture(scope="module")
def steered(tmp_path_factory, plugin_found):
    folder = save_tiny(tmp_path_factory.mktemp("qwen3"), "qwen3")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(plugin_found)
        with engine(folder, tensor_parallel_size=2, distributed_executor_backend="mp") as running:
            running.put(vectors(0))
            yield running


def without_a_steer_in_the_second_rank(worker):
    """Removes the hook of the block of layer 1."""
    if worker.rank == 1:
        worker.capvec_steering.blocks.modules[1]._forward_hooks.clear()


def stronger_in_the_second_rank(worker):
    """Holds a longer vector at layer 1."""
    if worker.rank == 1:
        worker.capvec_steering.buffers.bank[:, 1] *= 1.03


def test_both_ranks_steer_alike_and_a_rank_that_does_not_is_caught(steered):
    (direction,) = steered.directions
    asked = [Asked(prompt(n, 40), (Steer(1, direction, 4.0 + n),)) for n in range(2)]
    described = steered.llm.collective_rpc("capvec_describe")
    assert [one["tp_rank"] for one in described] == [0, 1]
    for answer in steered.run(asked):
        assert len(answer.ranks) == 2
        steered.check(answer)
    steered.llm.collective_rpc(stronger_in_the_second_rank)
    with pytest.raises(SteeringFault, match="rank 1"):
        steered.check(steered.run(asked)[0])
    steered.llm.collective_rpc(without_a_steer_in_the_second_rank)
    with pytest.raises(SteeringFault, match="rank 1"):
        steered.check(steered.run(asked)[0])
