"""vLLM runs in an environment of its own, with another torch: `make test-vllm`, or any that has vllm and capvec."""

from __future__ import annotations

import importlib.util
import os

import pytest
from support.tiny_models import save_tiny

from capvec.engines.process import client_of
from capvec.engines.protocol import ModelSource

if (found := importlib.util.find_spec("vllm")) is None or found.origin is None:  # this folder has the name too
    collect_ignore_glob = ["test_vllm_*.py"]
else:
    # Read when vLLM is imported. Threads of tiny models only get into each other's way.
    os.environ |= {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_USE_V2_MODEL_RUNNER": "0",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }


def pytest_collection_modifyitems(items):
    """What vLLM and its torch warn of when they are imported in a test's process is theirs to mend."""
    for item in items:
        if "test_vllm_" in item.nodeid:
            item.add_marker(pytest.mark.filterwarnings("ignore::DeprecationWarning"))


@pytest.fixture(scope="session")
def plugin_found(tmp_path_factory):
    """A folder for `sys.path`, in which worker processes find the plugin of a capvec that is not installed."""
    folder = tmp_path_factory.mktemp("plugin")
    described = folder / "capvec_plugin-0.dist-info"
    described.mkdir()
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: capvec-plugin\nVersion: 0\n")
    (described / "entry_points.txt").write_text(
        "[vllm.general_plugins]\ncapvec = capvec.engines.vllm.plugin.worker:register\n"
    )
    return folder


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A tiny model in a folder."""
    return ModelSource(str(save_tiny(tmp_path_factory.mktemp("model"), "llama-32")), "tiny")


@pytest.fixture(scope="module")
def client(source, tmp_path_factory, request):
    """Of an engine with the `CHOICE` of the module that asks for it."""
    with client_of(source, tmp_path_factory.mktemp("log") / "engine.log", request.module.CHOICE) as client:
        yield client


@pytest.fixture(scope="module")
def reference(source, tmp_path_factory):
    """Of the transformers engine."""
    with client_of(source, tmp_path_factory.mktemp("log") / "engine.log") as client:
        yield client
