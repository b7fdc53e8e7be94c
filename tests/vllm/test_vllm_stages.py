"""With pipeline parallelism a stage steers and measures its own blocks; what leaves one is measured in the next."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
from support.vllm_models import LAYERS, Asked, engine, prompt, save_tiny, vectors

from capvec.errors import SteeringFault
from capvec.steering import Steer

pytestmark = pytest.mark.vllm

BORDER = 1
"""The last of the first two blocks, which are one stage; the other two are the next."""
SPANS = [(3, 9), (60, 70), (149, 150)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("qwen3"), "qwen3")


def batch(a, b):
    """A steer at each layer, and every operation and kind of position at the border."""
    each = [[Steer(layer, a, 4.0)] for layer in range(LAYERS)]
    at_border = [
        [Steer(BORDER, a, 1.0, "ablate")],
        [Steer(BORDER, a, 2.0, "set", "generated"), Steer(3, a, 1.0)],
        [Steer(BORDER, a, 5.0, "add", "prompt")],
        [Steer(BORDER, a, 2.0, "add", "all", True), Steer(BORDER, b, 1.0, "add", "assistant")],
        [Steer(3, b, 3.0, "add", "all", True)],
    ]
    asked = [*each, *at_border, [Steer(layer, b, 1.0) for layer in range(LAYERS)], []]
    rows = [Asked(prompt(n, 30 + 17 * n), tuple(steers), assistant=((5, 20),)) for n, steers in enumerate(asked)]
    return [*rows, Asked(prompt(50, 200), (Steer(BORDER, b, -3.0),))]


@pytest.fixture(scope="module")
def expected(folder):
    return alone(folder)


def alone(folder):
    """What one rank says to the batch, and the residuals that it captures."""
    with engine(folder) as running:
        answers = running.run(batch(*(running.put(vectors(seed)) for seed in (0, 1))))
        return [answer.tokens for answer in answers], running.capture(prompt(70, 150), SPANS)


@pytest.fixture(scope="module")
def steered(folder, plugin_found):
    with in_stages(folder, plugin_found) as running:
        yield running


@contextmanager
def in_stages(folder, plugin_found, **options):
    options = {"pipeline_parallel_size": 2, "distributed_executor_backend": "mp", **options}
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(plugin_found)
        with engine(folder, **options) as running:
            for seed in (0, 1):
                running.put(vectors(seed))
            yield running


def check_all(steered, answers):
    for answer in answers:
        steered.check(answer)


def check_as_alone(steered, expected, ranks):
    tokens, residuals = expected
    answers = steered.run(batch(*steered.directions))
    assert {len(answer.ranks) for answer in answers} == {ranks}
    check_all(steered, answers)
    assert [answer.tokens for answer in answers] == tokens
    captured = steered.capture(prompt(70, 150), SPANS)
    np.testing.assert_allclose(captured, residuals, rtol=1e-4, atol=1e-5 * float(abs(residuals).max()))


def test_both_stages_steer_as_one_rank_does_and_every_receipt_holds(expected, steered):
    described = steered.llm.collective_rpc("capvec_describe")
    assert [(one["pp_rank"], one["here"]) for one in described] == [(0, [0, 2]), (1, [2, 4])]
    assert steered.llm.llm_engine.engine_core.engine_core.batch_queue_size == 2  # steps under way at once
    check_as_alone(steered, expected, ranks=2)


# ---------------------------------------------------------------------------------------------------- broken on purpose


def replace(worker, holder, name, other):
    """Puts something in place of an attribute, until `mend`."""
    was = getattr(holder, name)
    setattr(holder, name, other(was))
    worker.mend = lambda: setattr(holder, name, was)


def without_hooks(hooks):
    """Takes the hooks of capvec away, and gives what puts them back."""
    kept = dict(hooks)
    hooks.clear()
    return lambda: hooks.update(kept)


def no_steer_before_the_border(worker):
    if worker.capvec_steering.stage == 0:
        worker.mend = without_hooks(worker.capvec_steering.blocks.modules[BORDER]._forward_hooks)


def no_witness_after_the_border(worker):
    if worker.capvec_steering.stage == 1:
        worker.mend = without_hooks(worker.capvec_steering.blocks.modules[BORDER + 1]._forward_pre_hooks)


def nothing_kept_arrives(worker):
    if worker.capvec_steering.stage == 1:
        from capvec.engines.vllm.plugin.stages import STASH

        def dropping(gather):
            def without_the_stash(count, arrived, *args):
                arrived.tensors.pop(STASH)
                return gather(count, arrived, *args)

            return without_the_stash

        replace(worker, worker.model_runner, "sync_and_gather_intermediate_tensors", dropping)


def moved_between_the_stages(worker):
    if worker.capvec_steering.stage == 1:

        def moving(gather):
            def and_a_row_is_moved(count, arrived, *args):
                arrived["residual"][0, 5] += 1e-2
                return gather(count, arrived, *args)

            return and_a_row_is_moved

        replace(worker, worker.model_runner, "sync_and_gather_intermediate_tensors", moving)


def rows_of_others(worker):
    """In the second stage alone."""
    if worker.capvec_steering.stage == 1:
        replace(worker, worker.capvec_steering.slots, "pack", lambda pack: lambda names, *of: pack(names[::-1], *of))


def a_longer_vector(worker, stage):
    if worker.capvec_steering.stage == stage:
        bank = worker.capvec_steering.buffers.bank
        was = bank.clone()
        bank[:, BORDER] *= 1.03
        worker.mend = lambda: bank.copy_(was)


def a_longer_vector_before_the_border(worker):
    a_longer_vector(worker, 0)


def a_longer_vector_after_the_border(worker):
    a_longer_vector(worker, 1)


def mended(worker):
    if hasattr(worker, "mend"):
        worker.mend()
        del worker.mend


@pytest.mark.parametrize(
    ("breaks", "said"),
    [
        (no_steer_before_the_border, "the hook ran on "),
        (no_witness_after_the_border, "the hook ran 0 times"),
        (nothing_kept_arrives, "shift"),
        (moved_between_the_stages, "moved"),
        (rows_of_others, "they belong to another request"),
        (a_longer_vector_before_the_border, "shift"),
        (a_longer_vector_after_the_border, "vector of steer 0"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_stage_that_is_broken_is_caught(steered, breaks, said):
    (a, _) = steered.directions
    asked = [Asked(prompt(80, 30), (Steer(BORDER, a, 4.0),)), Asked(prompt(81, 30))]
    steered.llm.reset_prefix_cache()
    check_all(steered, steered.run(asked))
    steered.llm.collective_rpc(breaks)
    try:
        steered.llm.reset_prefix_cache()
        answers = steered.run(asked)
        with pytest.raises(SteeringFault, match=said):
            check_all(steered, answers)
    finally:
        steered.llm.collective_rpc(mended)


# ---------------------------------------------------------------------------------------------------- other engines


def without_a_hook_in_the_last_rank(worker):
    if worker.rank == 3:
        worker.capvec_steering.blocks.modules[3]._forward_hooks.clear()


def test_the_ranks_of_each_stage_must_agree(folder, expected, plugin_found):
    with in_stages(folder, plugin_found, tensor_parallel_size=2) as steered:
        described = steered.llm.collective_rpc("capvec_describe")
        assert [(one["pp_rank"], one["tp_rank"]) for one in described] == [(0, 0), (0, 1), (1, 0), (1, 1)]
        check_as_alone(steered, expected, ranks=4)
        (a, _) = steered.directions
        answer = steered.run([Asked(prompt(80, 30), (Steer(3, a, 4.0),))])[0]
        steered.check(answer)
        steered.llm.collective_rpc(without_a_hook_in_the_last_rank)
        answer = steered.run([Asked(prompt(81, 30), (Steer(3, a, 4.0),))])[0]
        with pytest.raises(SteeringFault, match=r"rank 3 has .*, and rank 2 has"):
            steered.check(answer)


def test_compiled_stages_say_what_one_rank_says(folder, expected, plugin_found):
    with in_stages(folder, plugin_found, enforce_eager=False) as steered:
        check_as_alone(steered, expected, ranks=2)


@pytest.mark.parametrize(("architecture", "stages"), [("gemma3", LAYERS), ("qwen3-moe", 2)])
def test_a_model_with_its_final_norm_in_every_stage_is_steered_at_every_layer(
    tmp_path, plugin_found, architecture, stages
):
    folder = save_tiny(tmp_path, architecture)
    expected = alone(folder)
    with in_stages(folder, plugin_found, pipeline_parallel_size=stages) as steered:
        check_as_alone(steered, expected, ranks=stages)
