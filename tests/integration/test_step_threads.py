"""The bundled model computes a step in any number of threads, to the bit."""

from __future__ import annotations

import pytest

from capvec.models import resolve_model

pytestmark = pytest.mark.integration


def test_a_step_is_the_same_in_any_threads_only_with_capvecs_attention_of_one_token(monkeypatch):
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    from capvec.engines.transformers.attention import attend
    from capvec.engines.transformers.models import load_model
    from capvec.engines.transformers.proof import same_in_any_threads
    from capvec.engines.transformers.threads import computing_in

    source = resolve_model("pocket")
    loaded = load_model(source.path_or_id, context_length=source.context_length, device="cpu", packed=True)
    found = {}
    for function in (sdpa_attention_forward, attend):
        monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS._global_mapping, "sdpa", function)
        with computing_in(2):
            found[function.__name__] = same_in_any_threads(loaded)
    assert found == {"sdpa_attention_forward": False, "attend": True}
