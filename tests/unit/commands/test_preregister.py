"""`capvec preregister` from its arguments to its file, and `capvec judge` with it."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import safetensors.numpy
from support.judged import judged
from support.registered import signed

from capvec.commands.command_line import run_command
from capvec.tasks import load_tasks

pytestmark = pytest.mark.unit

CLAIM = ("--alpha", "4", "--layer", "22", "--tasks", "sprint", "--attempts", "2", "--hypothesis", "It solves more.")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def preregistered(capsys, *given):
    """The exit code, what was printed, and the file's content."""
    code = run_command(["preregister", *map(str, given), "claims/claim.json"])
    said = capsys.readouterr()
    return code, said.out + said.err


def test_the_file_holds_the_claim_and_the_tasks_by_checksum(tmp_path, capsys):
    gate = "improves(steered-L22-a4), no_harm(0.1)"
    code, said = preregistered(capsys, *CLAIM, "--controls", "zero,random:2,prompt", "--gate", gate, "--effect", "0.2")
    made = json.loads((tmp_path / "claims" / "claim.json").read_text())
    assert (code, said) == (0, f"claims/claim.json: {made['hash']}\n")
    assert made == signed(made)
    assert made["hypothesis"] == "It solves more."
    kinds = {"baseline": "baseline", "steered-L22-a4": "steered"}
    controls = ("zero-L22", "random1-L22-a4", "random2-L22-a4", "prompt")
    assert made["configs"] == kinds | dict.fromkeys(controls, "control")
    assert made["tasks"] == {task.name: task.checksum for task in load_tasks("sprint").tasks}
    assert (made["attempts"], made["margin"], made["gates"]) == (2, 0.2, ["improves(steered-L22-a4)", "no_harm(0.1)"])
    assert made["stopping"] == {"rule": "fixed", "analyses": [10]}
    assert made["model"] == {"name": "pocket", "revision": None, "engine": None}
    assert made["direction"]["hash"] is None
    assert made["direction"]["recipe"]["contrast"] == "same-model"


@pytest.mark.parametrize("cached", [True, False])
def test_a_model_of_the_hub_is_registered_with_the_commit_of_its_cache_and_the_engine_by_its_name(
    cached, tmp_path, capsys, monkeypatch
):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    repository, commit = tmp_path / "hub" / "models--org--name", "c0ffee" * 6 + "beef"
    if cached:
        for file, text in (("refs/main", commit), (f"snapshots/{commit}/config.json", "{}")):
            (repository / file).parent.mkdir(parents=True)
            (repository / file).write_text(text)
    arguments = ("--model", "org/name", "--direction", "dir.safetensors", "--engine", "vllm")
    safetensors.numpy.save_file({"directions": np.ones((30, 4), np.float32)}, tmp_path / "dir.safetensors")
    assert preregistered(capsys, *CLAIM, *arguments)[0] == 0
    made = json.loads((tmp_path / "claims" / "claim.json").read_text())
    assert made["model"] == {"name": "org/name", "revision": commit if cached else None, "engine": "vllm"}
    assert "engine" not in made["settings"]


def test_a_direction_from_a_file_is_registered_by_its_hash_and_the_layer_that_it_names(tmp_path, capsys):
    vectors = {"directions": np.ones((30, 4), np.float32)}
    safetensors.numpy.save_file(vectors, tmp_path / "dir.safetensors", {"layer": "7"})
    arguments = ("--direction", "dir.safetensors", "--tasks", "sprint", "--hypothesis", "It does.", "--sequential")
    assert preregistered(capsys, *arguments)[0] == 0
    made = json.loads((tmp_path / "claims" / "claim.json").read_text())
    assert list(made["configs"]) == ["baseline", "steered-L7-a4"]
    assert len(made["direction"]["hash"]) == 16
    assert made["direction"]["contrast"] is made["direction"]["recipe"] is None
    assert made["stopping"]["rule"] == "sequential"


def test_a_layer_that_is_left_to_the_ranking_is_auto(tmp_path, capsys):
    assert preregistered(capsys, "--tasks", "sprint", "--controls", "zero", "--hypothesis", "It does.")[0] == 0
    made = json.loads((tmp_path / "claims" / "claim.json").read_text())
    assert list(made["configs"]) == ["baseline", "steered-Lauto-a4", "zero-Lauto"]


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (("--gate", "improves(steered-L9-a4)"), "no config steered-L9-a4 is compared with the baseline"),
        (("--hypothesis", " "), "--hypothesis '': expected what the sweep is to show"),
        (("--tasks", "nowhere"), "nowhere"),
        (("--model", "nowhere"), "--model nowhere: no such model folder"),
    ],
)
def test_what_is_no_claim_writes_nothing(tmp_path, capsys, given, why):
    code, said = preregistered(capsys, *CLAIM, *given)
    assert code == 2
    assert why in said
    assert not (tmp_path / "claims").exists()


def test_a_file_is_never_written_over(tmp_path, capsys):
    assert preregistered(capsys, *CLAIM)[0] == 0
    before = (tmp_path / "claims" / "claim.json").read_bytes()
    code, said = preregistered(capsys, *CLAIM, "--attempts", "3")
    assert code == 2
    assert "claims/claim.json: is there already, and a preregistration is never overwritten" in said
    assert (tmp_path / "claims" / "claim.json").read_bytes() == before


# ------------------------------------------------------------------------------------------------ judge


def table(path, configs, attempts=2):
    """Two attempts at every registered task under each config."""
    tasks = json.loads((path.parent / "claims" / "claim.json").read_text())["tasks"]
    rows = [f"{task},{config},unsolved" for task in tasks for config in configs for _ in range(attempts)]
    path.write_text("\n".join(["task,config,outcome", *rows]))
    return path


def test_results_that_keep_to_the_claim_are_said_to_as_far_as_they_show(tmp_path, capsys):
    preregistered(capsys, *CLAIM)
    trials = table(tmp_path / "trials.csv", ("baseline", "steered-L22-a4"))
    _, said = judged(capsys, trials, "--preregistration", "claims/claim.json", "--out", "out")
    assert said.startswith("Preregistered (")
    assert "and the results kept to it as far as they can be compared." in said
    report = (tmp_path / "out" / "RESULTS.md").read_text()
    assert "**Status:** Preregistered (" in report
    assert "- whether it was written before the first trial" in report


def test_results_that_depart_from_the_claim_begin_with_that(tmp_path, capsys):
    preregistered(capsys, *CLAIM)
    trials = table(tmp_path / "trials.csv", ("baseline", "steered-L22-a4", "steered-L9-a4"), 1)
    _, said = judged(
        capsys, trials, "--preregistration", "claims/claim.json", "--gate", "no_harm(0.1)", "--effect", "0.3"
    )
    assert said.startswith("Departs from its preregistration (")
    assert (
        "in 4 points: configs added: steered-L9-a4; 1 attempt in place of 2; an equivalence margin of 0.3 in place of "
        "0.15; gates added: no_harm(0.1)."
    ) in said


def test_counts_alone_and_an_edited_file_are_refused(tmp_path, capsys):
    preregistered(capsys, *CLAIM)
    claim = tmp_path / "claims" / "claim.json"
    code, said = judged(capsys, "baseline=2/6", "a=1/6", "--preregistration", claim)
    assert code == 2
    assert "--preregistration: counts alone have no verdict that it could change" in said
    shutil.copy(claim, tmp_path / "edited.json")
    (tmp_path / "edited.json").write_text(claim.read_text().replace('"margin": 0.15', '"margin": 0.5'))
    trials = table(tmp_path / "trials.csv", ("baseline", "steered-L22-a4"))
    code, said = judged(capsys, trials, "--preregistration", "edited.json")
    assert code == 2
    assert "edited.json: was changed after it was written" in said
