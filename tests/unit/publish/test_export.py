"""`capvec export`: what it writes, what it refuses, and that it says no more than the numbers and no local path."""

from __future__ import annotations

import ast
import base64
import hashlib
import json
import os
import re
from dataclasses import replace

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from support.finished_run import RANKING, write_run
from support.recorded_run import write_recorded

from capvec.commands.main import main
from capvec.directions.direction import Direction, save_all
from capvec.directions.files import LARGEST_FILE
from capvec.engines.protocol import EngineInfo
from capvec.publish.export import rewritten, without_paths, without_private
from capvec.publish.usage import usage_of
from capvec.records import Config
from capvec.steering import Steer

pytestmark = pytest.mark.unit
HEALTH = EngineInfo("org/model", "abc", "LlamaForCausalLM", 4, 8, 64, "float32", "cpu", "0.1.0", "model.layers")


@pytest.fixture
def export(tmp_path, capsys):
    """Exports a run that is written to order; gives back the folder."""

    def run(*arguments, health=HEALTH, **changes):
        write_run(tmp_path / "reports" / "mine", health=health, **changes)
        out = tmp_path / "out"
        assert main(["export", str(tmp_path / "reports" / "mine"), "--out", str(out), *arguments]) == 0
        assert "README.md" in capsys.readouterr().out
        return out

    return run


def refused(capsys, *arguments):
    assert main(["export", *map(str, arguments)]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    return said


def files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_the_folder_has_the_layout_of_the_seed_study(export):
    out = export(ranking=RANKING)
    assert files(out) == {
        "README.md", "RESULTS.md", "results/mine/master_summary.csv", "vectors/ranking.csv",
        "vectors/dir.pt", "vectors/dir.safetensors", "vectors/dir.gguf",
        "report.html", "plots/difference.svg", "plots/matrix.svg", "plots/pass-rate.svg",
        "plots/matched-controls.svg", "plots/auc-by-layer.svg",
    }  # fmt: skip
    assert (out / "vectors" / "ranking.csv").read_text() == RANKING


def test_the_run_may_be_named_by_an_absolute_path(tmp_path, monkeypatch, export):
    """The lock of the folder says how capvec was called, as long as it is written."""
    run, out = str(tmp_path / "reports" / "mine"), str(tmp_path / "out")
    monkeypatch.setattr("sys.argv", ["capvec", "export", run, "--out", out])
    assert not (export() / ".lock").exists()


def test_the_card_begins_with_what_the_hub_reads(export):
    card = (export("--license", "apache-2.0") / "README.md").read_text()
    front = card.split("---\n")[1].splitlines()
    assert front[:3] == ["license: apache-2.0", "base_model: org/model", "tags:"]
    assert "- steering-vector" in front


def test_an_effect_that_is_none_is_called_none_and_an_auc_is_never_without_its_null(export):
    # 2/4 against 3/4: four tasks give no p below 2/16. The best layer's p is 0.4, of two layers: nothing.
    card = (export(ranking=RANKING) / "README.md").read_text()
    assert "underpowered: steered-" in card
    assert "4 tasks the smallest p is 0.12" in card
    assert "verdict: underpowered" in card
    assert "Layer 2 is not distinguishable from chance: p = 0.4, corrected over 2 layers p = 0.8" in card
    assert "| **2** | 1.000 (1.000) |" in card
    # 3/4 − 2/4, controls 2/4 − 2/4; none of two as high: 1/3, which is the least that two controls can give.
    assert "| steered-L2-a1.5 | +0.25 | 0/2 | 0.333 |" in card
    assert "cannot be below 0.333" in card
    assert "- met: `no_harm(0.5)`" in card
    assert "power 0.11 at n = 20" in card


def test_what_was_claimed_before_is_published_with_what_came(tmp_path, capsys):
    mine = tmp_path / "reports" / "mine"
    write_recorded(mine, claim={"attempts": 9})
    save_all(Direction.read(mine / "vectors" / "dir.safetensors"), mine / "vectors")
    assert main(["export", str(mine), "--out", str(tmp_path / "out")]) == 0, capsys.readouterr().err
    assert (tmp_path / "out" / "preregistration.json").read_bytes() == (mine / "preregistration.json").read_bytes()
    assert "in 1 point: 2 attempts in place of 9." in (tmp_path / "out" / "RESULTS.md").read_text()


def test_a_direction_that_was_loaded_has_no_ranking_and_the_card_says_so(export):
    out = export()
    assert "vectors/ranking.csv" not in files(out)
    card = (out / "README.md").read_text()
    assert "**Confounds: not known.**" in card
    assert "Its layers" not in card
    assert "are not known" in card


def test_no_path_of_this_machine_is_published(export, tmp_path):
    error = f"EngineUnavailable: see {tmp_path}/reports/mine/engine.log"
    out = export(source=str(tmp_path / "secret" / "dir.pt"), error=error)
    for name in files(out):
        assert str(tmp_path).encode() not in (out / name).read_bytes(), name
    assert "Loaded from `dir.pt`" in (out / "RESULTS.md").read_text()
    assert "see …/engine.log" in (out / "results/mine/master_summary.csv").read_text()


def test_trajectories_lose_what_is_private_and_keep_the_paths_of_their_container():
    places = ["/home/mü/reports", "/home/mü"]
    trajectory = {"steps": [{"reply": "cat /app/data/a.txt", "observation": "/home/mü/x"}], "tokens": 3}
    assert rewritten(trajectory, lambda text: without_private(text, places)) == {
        "steps": [{"reply": "cat /app/data/a.txt", "observation": "…/x"}],
        "tokens": 3,
    }


def test_the_page_and_the_charts_are_drawn_anew_and_the_card_says_so(export, tmp_path):
    out = export(ranking=RANKING)
    card = (out / "README.md").read_text()
    assert "- `report.html`" in card
    assert "- `plots/`" in card
    run = tmp_path / "reports" / "mine"
    for name in ("report.html", "RESULTS.md", "master_summary.csv"):
        (run / name).unlink()
    assert main(["export", str(run), "--out", str(tmp_path / "again")]) == 0
    assert {name: (tmp_path / "again" / name).read_bytes() for name in files(out)} == {
        name: (out / name).read_bytes() for name in files(out)
    }


@pytest.mark.parametrize("suffix", ["pt", "safetensors", "gguf"])
def test_vectors_of_another_direction_than_the_trials_had_are_refused(tmp_path, capsys, suffix):
    run = tmp_path / "reports" / "mine"
    write_run(run, health=HEALTH)
    path = run / "vectors" / f"dir.{suffix}"
    right = Direction.read(path)
    replace(right, vectors=-right.vectors).save(path)
    said = refused(capsys, run, "--out", tmp_path / "out")
    assert said.startswith(f"capvec: {path}: holds the direction ")
    assert f"and the trials are of {right.hash} (provenance.json); put that run's file back, or finish it" in said
    assert not (tmp_path / "out").exists() or not files(tmp_path / "out") - {".lock"}


def test_the_card_begins_with_what_else_the_direction_may_be_then_says_where_it_was_tried_and_what_came(tmp_path):
    run = tmp_path / "r"
    write_recorded(run)  # its failures are all longer than its passes
    for suffix in ("pt", "gguf"):
        Direction.read(run / "vectors" / "dir.safetensors").save(run / "vectors" / f"dir.{suffix}")
    assert main(["export", str(run), "--out", str(tmp_path / "out")]) == 0
    card = (tmp_path / "out" / "README.md").read_text()
    first = card.split("\n\n")[2]
    assert first.startswith("**Confounded:**")
    assert "the number of steps alone" in first
    assert "AUC 1.000" in first
    assert "layer 1 of m" in first
    assert "underpowered: steered-L1-a2, steered-L1-a4" in first
    assert "3 tasks, with 2 attempts" in card
    assert "Layer 1 is not distinguishable" in card  # steered, and not the best
    assert card.count("the number of steps alone") == 1
    page = (tmp_path / "out" / "report.html").read_text()
    for kind, text in re.findall(r"<(style|script)>(.*?)</", page, re.DOTALL):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src &#39;sha256-{digest}&#39;" in page  # or the browser would leave it out

    provenance = json.loads((run / "provenance.json").read_text())
    provenance["direction"]["audit"] |= {"confound_auc": 1.0, "confound_p": 0.0}
    provenance["direction"]["audit"]["confounds"] = [
        confound | {"auc": 0.95} for confound in provenance["direction"]["audit"]["confounds"]
    ]
    (run / "provenance.json").write_text(json.dumps(provenance))
    assert main(["export", str(run), "--out", str(tmp_path / "again")]) == 0
    first = (tmp_path / "again" / "README.md").read_text().split("\n\n")[2]
    assert first.startswith("**Confounds: none flagged.** None of task, model, steps, tokens")
    assert "AUC of 1 or more at p < 0." in first


def test_a_model_that_was_served_under_its_path_is_refused(tmp_path, capsys):
    # The vectors' own metadata would tell it.
    health = EngineInfo(str(tmp_path / "model"), "abc", "LlamaForCausalLM", 4, 8, 64, "float32", "cpu", "0.1.0")
    write_run(tmp_path / "mine", health=health)
    assert "a place on this machine" in refused(capsys, tmp_path / "mine", "--out", tmp_path / "out")


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("at /home/me/a b", "at …/a b"),
        ("`/tmp/x/dir.pt`, then", "`…/dir.pt`, then"),
        ("from ../mine/dir.pt", "from dir.pt"),
        ("https://huggingface.co/org/model and/or 1/3", "https://huggingface.co/org/model and/or 1/3"),
        ("touch /app", "touch /app"),
        ("/a/b/ and '/c/d/e'", "…/ and '…/e'"),
    ],
)
def test_paths_are_cut_to_their_last_part_and_nothing_else_is(text, clean):
    assert without_paths(text, ["../mine/dir.pt"]) == clean


def test_what_is_no_finished_sweep_is_refused_with_what_to_do(tmp_path, capsys):
    run, out = tmp_path / "mine", tmp_path / "out"
    assert "no run there" in refused(capsys, tmp_path / "none", "--out", out)
    write_run(run, health=HEALTH, missing=("task0-baseline-t1",))
    assert "task0-baseline-t1" in refused(capsys, run, "--out", out)
    assert not out.exists()
    (run / "summary.json").unlink()
    assert "--run mine --resume" in refused(capsys, run, "--out", out)


def grow(path):
    path.touch()
    os.truncate(path, LARGEST_FILE + 1)


@pytest.mark.parametrize(("damage", "why"), [(os.mkfifo, "is a fifo"), (grow, "has 1 GiB")])
def test_a_file_of_the_run_that_cannot_be_copied_is_blamed_and_not_the_new_folder(tmp_path, capsys, damage, why):
    run, out = tmp_path / "mine", tmp_path / "out"
    write_run(run, health=HEALTH, ranking=RANKING)
    ranking = run / "vectors" / "ranking.csv"
    ranking.unlink()
    damage(ranking)
    said = refused(capsys, run, "--out", out)
    assert str(ranking) in said
    assert why in said
    assert "cannot be written" not in said
    assert not out.exists() or not any(out.iterdir())


def test_a_calibration_an_older_run_and_a_folder_in_use_are_refused(tmp_path, capsys):
    run, out = tmp_path / "mine", tmp_path / "out"
    write_run(run, health=HEALTH)
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").touch()
    assert "not an empty folder" in refused(capsys, run, "--out", tmp_path / "used")
    (run / "vectors" / "dir.gguf").rename(run / "vectors" / "gone")
    assert "no vectors/dir.gguf" in refused(capsys, run, "--out", out)
    provenance = json.loads((run / "provenance.json").read_text())
    (run / "provenance.json").write_text(json.dumps(provenance | {"study": "calibration"}))
    assert "a calibration; expected a sweep" in refused(capsys, run, "--out", out)


# ------------------------------------------------------------------------------------------------ the snippet's parts


def usage(*steers, model="org/model"):
    return usage_of([Config("steered", "steered", steers)], replace(HEALTH, model=model))


def a_steer(layer=2, **changes):
    return replace(Steer(layer, "0" * 64, 1.5), **changes)


def test_llama_cpp_is_offered_for_an_addition_at_one_layer_above_0_and_for_nothing_else():
    assert usage(a_steer()).llama_cpp == (
        "llama-cli -m model.gguf --control-vector-scaled vectors/dir.gguf:1.5 --control-vector-layer-range 2 2"
    )
    for steers in (
        [a_steer(0)],
        [a_steer(2), a_steer(3)],
        [a_steer(op="ablate", alpha=1.0)],
        [a_steer(positions="prompt")],
        [a_steer(keep_norm=True)],
    ):
        assert usage(*steers).llama_cpp == ""


def test_a_snippet_that_does_otherwise_than_the_config_says_so():
    assert usage(a_steer()).difference == ""
    assert "there only at `generated`" in usage(a_steer(positions="generated")).difference
    assert usage_of([Config("baseline", "baseline")], HEALTH) is None


def test_the_bundled_model_comes_from_capvec_and_every_other_by_its_name():
    pocket = usage(a_steer(), model="pocket").snippet
    assert 'MODEL = resolve_model("pocket").path_or_id' in pocket
    other = usage(a_steer(2), a_steer(3, alpha=-0.5)).snippet
    assert 'MODEL = "org/model"' in other
    assert re.search(r"^STEERS = \{2: 1\.5, 3: -0\.5\}", other, re.MULTILINE)
    for snippet in (pocket, other):
        compile(snippet, "card", "exec")


@given(st.text())
@example('m"\nimport os; os.system("id")\n"')
@example("m\\")
def test_whatever_a_model_is_called_the_snippet_has_it_as_one_text(name):
    (model,) = [
        line.value for line in ast.parse(usage(a_steer(), model=f"/{name}").snippet).body
        if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == "MODEL"
    ]  # fmt: skip
    assert ast.literal_eval(model) == f"/{name}"


@pytest.mark.parametrize("name", ["m: x\nlicense: mit", "a: b", "#", "* x", '"', "{}", "yes\t", "a\u2028b"])
def test_whatever_a_model_is_called_the_hub_reads_it_as_one_text(tmp_path, name):
    write_run(tmp_path / "reports" / "mine", health=replace(HEALTH, model=name))
    assert main(["export", str(tmp_path / "reports" / "mine"), "--out", str(tmp_path / "out")]) == 0
    front = yaml.safe_load((tmp_path / "out" / "README.md").read_text().split("---\n")[1])
    assert {key: front[key] for key in ("license", "base_model")} == {"license": "unknown", "base_model": name}
    assert front.keys() == {"license", "base_model", "tags"}


@pytest.mark.parametrize("what", ["architecture", "dtype", "blocks"])
@pytest.mark.parametrize("name", ["X\nimport os", "X(), print(1)", 'a")', "1", "é"])
def test_a_name_that_would_be_more_than_a_name_in_the_snippet_is_refused(tmp_path, capsys, what, name):
    write_run(tmp_path / "reports" / "mine", health=replace(HEALTH, **{what: name}))
    said = refused(capsys, tmp_path / "reports" / "mine", "--out", tmp_path / "out")
    assert f"the model's {what} is " in said
    assert not (tmp_path / "out").exists()
