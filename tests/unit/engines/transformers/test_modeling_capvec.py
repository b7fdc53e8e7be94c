"""The classes that load a baked folder whose architecture has no bias."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.unit


def test_only_models_and_configs_of_transformers_have_a_biased_form():
    pytest.importorskip("torch")
    from capvec.engines.transformers import modeling_capvec

    assert modeling_capvec.BiasedMistralConfig.model_type == "capvec_biased_mistral"
    assert modeling_capvec.BiasedMistralForCausalLM.config_class is modeling_capvec.BiasedMistralConfig
    for name in ("BiasedAutoTokenizer", "Biasedpipeline", "BiasedNothing", "MistralConfig"):
        with pytest.raises(AttributeError):
            getattr(modeling_capvec, name)
