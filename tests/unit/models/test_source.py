"""What `--model` accepts, and the bundled traces."""

import json

import pytest
from support import hostile

from capvec.directions.contrast import select_contrast
from capvec.directions.recipe import Recipe
from capvec.errors import UsageError
from capvec.models import base_folder, bundled_traces, resolve_model, source
from capvec.traces import read_traces

pytestmark = pytest.mark.unit


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


def test_a_folder_may_say_how_its_model_is_served(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "capvec.json").write_text(json.dumps({"serve": {"name": "mine", "prompt_style": "brief"}}))
    found = resolve_model(str(tmp_path))
    assert (found.name, found.defaults.prompt_style, found.defaults.max_steps) == ("mine", "brief", 30)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[1]", "not JSON"),
        ("{", "not JSON"),
        ('{"serve": 1}', "not JSON"),
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


def test_an_installation_without_its_traces_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(source, "BUNDLED_TRACES", tmp_path)
    with pytest.raises(UsageError, match="--traces"):
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
def test_the_bundled_traces_are_enough_for_the_contrasts_of_the_original_study(contrast, positives, negatives):
    chosen = select_contrast(Recipe(contrast), read_traces(bundled_traces(contrast)), "pocket")
    assert len(chosen.positives) >= positives
    assert len(chosen.negatives) >= negatives
    assert {trace.model for trace in chosen.positives} == {"pocket"}
    others = {trace.model for trace in chosen.negatives} - {"pocket"}
    assert len(others) == (2 if contrast == "cross-model" else 0)


@pytest.mark.parametrize("kind", ["fifo", "socket", "link to a device", "link to itself"])
@pytest.mark.parametrize("name", ["tokenizer.json", "model.safetensors", "more"])
def test_a_models_folder_with_something_that_is_no_file_is_refused_by_name(tmp_path, name, kind):
    (tmp_path / "config.json").write_text("{}")
    hostile.put(tmp_path / name, kind)
    with pytest.raises(UsageError, match=f"{name}: "):
        resolve_model(str(tmp_path))


@pytest.mark.parametrize("text", ["[" * 100_000, "[]", "{", '{"a": ' + "9" * 5000 + "}"])
@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "model.safetensors.index.json"])
def test_a_config_that_is_no_json_object_is_refused_before_transformers_reads_it(tmp_path, name, text):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=f"{name}: (not JSON|expected a JSON object)"):
        resolve_model(str(tmp_path))


def test_links_of_the_hubs_cache_lead_out_of_a_models_folder(tmp_path):
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "1").write_text("{}")
    (tmp_path / "snapshot").mkdir()
    (tmp_path / "snapshot" / "config.json").symlink_to("../blobs/1")
    (tmp_path / "snapshot" / "model.safetensors").symlink_to("../blobs/2")  # not downloaded
    assert resolve_model(str(tmp_path / "snapshot")).path_or_id == str(tmp_path / "snapshot")
