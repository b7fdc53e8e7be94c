"""The folder of results that were made elsewhere: where they came from, and their report again."""

from __future__ import annotations

import hashlib
import json
import shutil
from datetime import datetime

import pandas as pd
import pytest
from support.judged import RESULTS, judged
from support.served_receipts import write_served

from capvec.commands.main import main
from capvec.errors import UsageError
from capvec.harnesses import Reading, read_source
from capvec.results import preregistration
from capvec.results.judged_folder import read_judged
from capvec.results.provenance import check_comparable
from capvec.results.run_folder import read_run_folder
from capvec.results.table import read_run

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def trials(tmp_path):
    """24 tasks, of which the baseline solves 5 and `a` solves 17; two configs are called as controls are."""
    solved = {"baseline": 5, "a": 17, "steered-L1-a4": 6, "random1-L1-a4": 7}
    rows = [
        {"problem": f"task{i}", "config": config, "won": i < count, "steps": 2, "seed": i}
        for config, count in solved.items()
        for i in range(24)
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "trials.csv", index=False)
    write_served(tmp_path / "receipts.jsonl", **dict.fromkeys(("baseline", "steered-L1-a4", "random1-L1-a4"), 48))
    return tmp_path / "trials.csv"


OPTIONS = (
    *("--columns", "task=problem,outcome=won", "--receipts", "receipts.jsonl", "--errors", "apart", "--effect", "0.1"),
    *("--gate", "no_harm(0.2)", "--out", "reports/ours"),
)


def written(folder):
    """The bytes of every file of a folder."""
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def again(folder):
    """Make the report again after everything that is of it was removed; all files are as they were."""
    before = written(folder)
    for name in ("RESULTS.md", "report.html", "summary.json", "master_summary.csv"):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / "plots", ignore_errors=True)
    assert main(["report", str(folder)]) == 0
    return written(folder) == before


def test_provenance_names_each_source_by_what_it_held_and_what_the_user_said(trials, tmp_path, capsys):
    judged(capsys, trials, *OPTIONS)
    record = json.loads((tmp_path / "reports/ours/provenance.json").read_text())
    digest = hashlib.sha256(trials.read_bytes()).hexdigest()
    (source,) = record["sources"]
    assert (source["path"], source["format"], source["trials"]) == (str(trials), "a table (CSV)", 96)
    assert source["files"] == [{"path": "trials.csv", "size": trials.stat().st_size, "sha256": digest}]
    assert record["study"] == "results"
    assert record["options"]["errors"] == "apart"
    assert record["options"]["reading"]["columns"] == {"task": "problem", "outcome": "won"}
    assert record["receipts"]["replies"]["steered-L1-a4"] == {"held": 48, "refused": 0, "repeated": 0}
    assert record["receipts"]["sha256"] == hashlib.sha256((tmp_path / "receipts.jsonl").read_bytes()).hexdigest()
    assert record["command_line"][:2] == ["capvec", "judge"]


def test_the_report_is_made_again_byte_for_byte_without_the_sources_and_under_another_name(trials, tmp_path, capsys):
    judged(capsys, trials, *OPTIONS)
    trials.unlink()
    (tmp_path / "receipts.jsonl").unlink()
    assert "# Results ours" in (tmp_path / "reports/ours/RESULTS.md").read_text()
    (tmp_path / "reports/ours").rename(tmp_path / "moved")
    assert again(tmp_path / "moved")


@pytest.mark.parametrize("tool", ["harbor", "lm_eval", "swe_bench", "inspect"])
def test_the_report_on_each_tools_files_is_made_again(tool, tmp_path, capsys):
    if tool == "inspect":
        pytest.importorskip("inspect_ai.log", reason="Inspect: pip install 'capvec[inspect]'")
    options = {
        "lm_eval": ["--reward", "exact_match,strict-match"],
        "swe_bench": ["--baseline", "deepseek__deepseek-chat.deepseek_chat_dev"],
    }
    judged(capsys, RESULTS / tool, *options.get(tool, []), "--out", "r")
    (source,) = json.loads((tmp_path / "r/provenance.json").read_text())["sources"]
    for file in source["files"]:
        assert hashlib.sha256((RESULTS / tool / file["path"]).read_bytes()).hexdigest() == file["sha256"]
    assert source["files"]
    assert again(tmp_path / "r")


def test_several_sources_keep_their_names(tmp_path, capsys):
    for name, count in (("one", 5), ("two", 17)):
        rows = [{"task": f"task{i}", "passed": i < count} for i in range(24)]
        pd.DataFrame(rows).to_csv(tmp_path / f"{name}.csv", index=False)
    judged(capsys, "baseline=one.csv", "b=two.csv", "--out", "r")
    record = json.loads((tmp_path / "r/provenance.json").read_text())
    assert [(one["config"], one["path"]) for one in record["sources"]] == [("baseline", "one.csv"), ("b", "two.csv")]
    assert again(tmp_path / "r")


def test_counts_alone_are_reported_again(tmp_path, capsys):
    judged(capsys, "plain=2/6", "steered=2/6,1/6", "--baseline", "plain", "--out", "r")
    record = json.loads((tmp_path / "r/provenance.json").read_text())
    assert record["counts"] == {"plain": [2, 6], "steered1": [2, 6], "steered2": [1, 6]}
    assert again(tmp_path / "r")


def test_a_preregistration_goes_along_and_one_that_was_changed_is_refused(trials, tmp_path, capsys):
    claim = ["preregister", "--alpha", "4", "--layer", "1", "--hypothesis", "It helps.", "claim.json"]
    assert main(claim) == 0
    judged(capsys, trials, *OPTIONS, "--preregistration", "claim.json")
    assert again(tmp_path / "reports/ours")
    copy = tmp_path / "reports/ours/preregistration.json"
    copy.write_text(copy.read_text().replace("It helps.", "It harms."))
    assert main(["report", "reports/ours"]) == 2
    assert "was changed after it was written" in capsys.readouterr().err


def test_a_claim_dated_after_the_results_were_judged_is_named_and_stays_so(trials, tmp_path, capsys, monkeypatch):
    with monkeypatch.context() as clock:
        clock.setattr(preregistration, "datetime", Tomorrow)
        assert main(["preregister", "--alpha", "4", "--layer", "1", "--hypothesis", "It helps.", "claim.json"]) == 0
    judged(capsys, trials, *OPTIONS, "--preregistration", "claim.json")
    written = json.loads((tmp_path / "reports/ours/provenance.json").read_text())["written"]
    first = (tmp_path / "reports/ours/RESULTS.md").read_text().splitlines()[2]
    assert f"it is dated 2999-01-01 00:00:00 UTC, and it was used at {written[:10]}" in first
    assert again(tmp_path / "reports/ours")


class Tomorrow(datetime):
    """A clock that is ahead."""

    @classmethod
    def now(cls, zone=None):
        return cls(2999, 1, 1, tzinfo=zone)


@pytest.mark.parametrize(
    ("old", "new"),
    [('"outcome": "unsolved"', '"outcome": "solved"'), ('"steps": 2', '"steps": 3'), ("}\n", "} \n")],
)
def test_trials_that_were_edited_after_they_were_judged_are_refused(trials, old, new, tmp_path, capsys):
    judged(capsys, trials, *OPTIONS)
    read, record = (tmp_path / "reports/ours" / name for name in ("results.jsonl", "provenance.json"))
    kept = json.loads(record.read_text())["results"]
    assert kept["sha256"] == hashlib.sha256(read.read_bytes()).hexdigest()
    read.write_text(read.read_text().replace(old, new, 1))
    before = written(tmp_path / "reports/ours")
    assert main(["report", "reports/ours"]) == 2
    assert "results.jsonl: is not what was judged, by its SHA-256 in provenance.json" in capsys.readouterr().err
    assert written(tmp_path / "reports/ours") == before


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["report", "r", "r", "--out", "all"], "no run of capvec"),
        (["report", "r", "--out", "all"], "no run of capvec"),
        (["export", "r", "--out", "card"], "no run of capvec"),
        (["judge", "r"], "capvec wrote it"),
    ],
)
def test_other_commands_refuse_such_a_folder_in_one_sentence(command, said, capsys):
    judged(capsys, RESULTS / "harbor", "--out", "r")
    assert main(command) == 2
    line = capsys.readouterr().err
    assert said in line
    assert line.count("\n") == 1


def test_no_reader_of_runs_takes_it_for_one(tmp_path, capsys):
    judged(capsys, RESULTS / "harbor", "--out", "r")
    for read in (read_run_folder, read_run, lambda folder: check_comparable(folder, folder / "trials.jsonl")):
        with pytest.raises(UsageError, match="no run of capvec"):
            read(tmp_path / "r")
    with pytest.raises(UsageError, match="capvec report"):
        read_source(tmp_path / "r", Reading())


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        ("results.jsonl", lambda text: text[: text.rindex('{"source"')], "and 8 were read"),
        ("results.jsonl", lambda text: text + "{}\n", "line 9: not a trial"),
        ("results.jsonl", lambda text: text.replace('"source": 0', '"source": 7', 1), "line 1: not a trial"),
        ("results.jsonl", lambda text: text.replace('"source": 0', '"source": true', 1), "line 1: not a trial that"),
        ("results.jsonl", lambda text: text.replace('"unsolved"', '"perhaps"', 1), "not a trial"),
        ("provenance.json", lambda text: text.replace('"sources"', '"sauces"'), "not what capvec writes"),
        ("provenance.json", lambda text: text.replace('"run": "r"', '"run": "a/b"'), "no folder can have"),
        ("provenance.json", lambda text: text[:90], "not JSON"),
    ],
)
def test_a_damaged_folder_is_one_sentence_that_names_the_file(file, change, said, tmp_path, capsys):
    judged(capsys, RESULTS / "harbor", "--out", "r")
    path = tmp_path / "r" / file
    path.write_text(change(path.read_text()))
    assert main(["report", "r"]) == 2
    line = capsys.readouterr().err
    assert said in line
    assert f"r/{file}" in line
    assert line.count("\n") == 1


def test_what_was_read_is_what_is_read_again(trials, tmp_path, capsys):
    judged(capsys, trials, *OPTIONS)
    (_, source) = read_judged(tmp_path / "reports/ours").sources[0]
    fresh = read_source(trials, Reading({"task": "problem", "outcome": "won"}))
    assert source.trials == fresh.trials
    assert (source.tool, source.errors_apart, source.notes) == (fresh.tool, fresh.errors_apart, fresh.notes)
