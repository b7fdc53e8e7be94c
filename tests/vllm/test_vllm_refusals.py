"""What vLLM can do and capvec cannot steer is refused when the engine starts, in one sentence."""

from __future__ import annotations

import pytest
from support.tiny_models import save_tiny as save_any
from support.vllm_models import engine, save_tiny

from capvec.errors import UsageError

pytestmark = pytest.mark.vllm


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("qwen3"), "qwen3")


def config_of(folder, **options):
    from vllm import EngineArgs

    return EngineArgs(model=str(folder), dtype="float32", max_model_len=256, **options).create_engine_config()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"speculative_config": {"method": "ngram", "num_speculative_tokens": 2}}, "speculative decoding"),
        ({"distributed_executor_backend": "external_launcher", "pipeline_parallel_size": 2}, "an external launcher"),
    ],
)
def test_an_engine_whose_passes_cannot_be_steered_is_refused(folder, options, said):
    from vllm.v1.worker.cpu_model_runner import CPUModelRunner

    from capvec.engines.vllm.plugin.worker import check_engine

    with pytest.raises(UsageError, match=said):
        check_engine(config_of(folder, **options), CPUModelRunner.__new__(CPUModelRunner))


def test_the_second_model_runner_is_refused(folder):
    from capvec.engines.vllm.plugin.worker import check_engine

    with pytest.raises(UsageError, match="VLLM_USE_V2_MODEL_RUNNER=0"):
        check_engine(config_of(folder), object())


def test_a_class_of_blocks_that_does_not_hand_on_a_pair_is_refused_by_name(tmp_path):
    save_any(tmp_path, "gpt2")
    with pytest.raises(Exception, match="GPT2Block"), engine(tmp_path):
        pass


def test_a_layer_that_the_model_does_not_have_is_refused(folder):
    with pytest.raises(Exception, match="expected numbers from 0 to 3"), engine(folder, capvec={"layers": [7]}):
        pass


def test_a_graph_with_the_ops_has_another_key_in_the_compile_cache_than_one_without(folder):
    from capvec.engines.vllm.layout import KEY

    with engine(folder, capvec={"layers": [2]}) as steered:
        ours = steered.llm.collective_rpc(lambda worker: worker.vllm_config)[0]
        keys = {ours.compute_hash()}
        ours.additional_config = {KEY: {"layers": [2]}}
        keys.add(ours.compute_hash())
        ours.additional_config = {}
        keys.add(ours.compute_hash())
    assert len(keys) == 3
