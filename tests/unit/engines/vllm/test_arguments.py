"""Arguments of vLLM's engine under which a receipt would not be one."""

from __future__ import annotations

import pytest

from capvec.engines.vllm.arguments import COPIES, EXECUTOR, EXECUTORS, LAYERS, REFUSED, STAGES, TENSOR, check_arguments
from capvec.errors import UsageError

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("key", REFUSED)
def test_what_would_spoil_the_receipts_is_refused_by_name_with_the_reason(key):
    with pytest.raises(UsageError, match=f"^--engine-arg {key}: .*; leave it out$"):
        check_arguments({"dtype": "half", key: 2})


@pytest.mark.parametrize("value", [None, False, 0, 1])
def test_a_value_that_switches_nothing_on_passes(value):
    check_arguments({"enable_lora": value, "speculative_config": None})


def test_a_rank_among_copies_that_others_start_is_refused_even_if_it_is_the_first():
    with pytest.raises(UsageError, match="data_parallel_rank"):
        check_arguments({"data_parallel_rank": 0})


@pytest.mark.parametrize("copies", [0, -1, "2", True, 1.5, None])
def test_copies_of_the_model_are_counted(copies):
    with pytest.raises(UsageError, match=f"--engine-arg {COPIES}=.*expected how many copies"):
        check_arguments({COPIES: copies})


@pytest.mark.parametrize("executor", ["external_launcher", "mine.Executor", "", 2])
def test_ranks_that_vllm_does_not_start_and_ask_itself_are_refused(executor):
    with pytest.raises(UsageError, match=f"^--engine-arg {EXECUTOR}={executor!r}: expected mp or ray or uni"):
        check_arguments({EXECUTOR: executor, STAGES: 2})


@pytest.mark.parametrize("executor", [*EXECUTORS, None])
def test_ranks_that_vllm_starts_and_asks_pass(executor):
    check_arguments({EXECUTOR: executor})


@pytest.mark.parametrize("split", [TENSOR, STAGES])
def test_one_rank_for_a_model_that_is_divided_is_refused(split):
    check_arguments({EXECUTOR: "uni", split: 1, COPIES: 2})
    with pytest.raises(UsageError, match=f"^--engine-arg {EXECUTOR}=uni: it starts one rank, and {split} needs more"):
        check_arguments({EXECUTOR: "uni", split: 2})


def test_sequence_parallelism_is_refused_where_it_hides_in_the_compilation():
    check_arguments({"compilation_config": {"level": 3, "pass_config": {"fuse_norm_quant": True}}})
    with pytest.raises(UsageError, match="compilation_config: sequence parallelism"):
        check_arguments({"compilation_config": {"pass_config": {"enable_sp": True}}})


@pytest.mark.parametrize("layers", [[], "20", 22, [1.5], [-1], [True]])
def test_layers_are_a_list_of_blocks(layers):
    with pytest.raises(UsageError, match=f"--engine-arg {LAYERS}=.*expected a list of blocks"):
        check_arguments({LAYERS: layers})


def test_other_arguments_are_vllms_business():
    check_arguments(
        {"tensor_parallel_size": 2, "pipeline_parallel_size": 2, COPIES: 2, "quantization": "fp8", LAYERS: [0, 22]}
    )
