"""Both engines against one suite: what an engine answers, what it refuses, and how it ends."""

from __future__ import annotations

import pytest
from support.engine_conformance import EngineConformance
from support.tiny_models import save_tiny

from capvec.engines.selection import EngineChoice
from capvec.engines.vllm import versions

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("model"), "llama-32")


class TestTransformersEngine(EngineConformance):
    choice = EngineChoice("transformers")


@pytest.mark.skipif(bool(versions.problem()), reason=f"{versions.problem()}; make test-vllm runs these")
class TestVllmEngine(EngineConformance):
    choice = EngineChoice("vllm", {"enforce_eager": True})
