"""The reports of a run, made again from its folder."""

import json
import shutil

import pytest
from support.recorded_run import report_texts, write_recorded, write_trial

from capvec.commands.main import main
from capvec.directions.ranking import Ranking
from capvec.errors import UsageError
from capvec.results.ledger import Ledger
from capvec.results.run_folder import read_run_folder
from capvec.results.table import read_run
from capvec.studies.regenerate import report

pytestmark = pytest.mark.unit


@pytest.fixture
def run(tmp_path):
    write_recorded(tmp_path / "r")
    return tmp_path / "r"


def test_reports_made_again_are_the_same_byte_by_byte(run):
    before = report_texts(run)
    assert {
        "plots/pass-rate.svg",
        "plots/dose-response.svg",
        "plots/matched-controls.svg",
        "plots/auc-by-layer.svg",
    } <= set(before)
    assert "## The contrast" in before["RESULTS.md"]
    assert "layers p =" in before["RESULTS.md"]
    for name in before:
        (run / name).unlink()
    (run / "summary.json").write_text(before["summary.json"])  # tells what was collected
    report([run], None)
    assert report_texts(run) == before


def test_lost_tries_are_a_column_and_a_section_and_go_along_when_runs_merge(run, tmp_path):
    ledger = run / "trials.jsonl"
    first, *others = ledger.read_text().splitlines()
    entry = json.loads(first) | {"lost": [{"error": "Fault: refused", "away": "engine", "waited_s": 3.2}]}
    ledger.write_text("\n".join([json.dumps(entry), *others, ""]))
    (run / "lost").mkdir()
    (run / "lost" / f"{entry['trial']}-try1.json").write_text("{}")
    assert "tries" not in (run / "master_summary.csv").read_text().splitlines()[0].split(",")
    shutil.copytree(run, tmp_path / "again")
    report([run, tmp_path / "again"], tmp_path / "all")
    assert (
        f"`{entry['trial']}`, try 1 (engine was out; waited 3 s): `Fault: refused`"
        in (tmp_path / "all" / "RESULTS.md").read_text()
    )
    table = read_run(tmp_path / "all")
    assert sorted(table["tries"])[-2:] == [1, 2]
    assert "tries" in (tmp_path / "all" / "master_summary.csv").read_text().splitlines()[0].split(",")
    assert [file.name for file in (tmp_path / "all" / "lost").iterdir()] == [f"{entry['trial']}-try1.json"]


def test_a_control_of_an_earlier_capvec_is_read_by_the_word_of_today(run):
    path = run / "provenance.json"
    path.write_text(path.read_text().replace("negated", "flip"))
    ledger = run / "trials.jsonl"
    ledger.write_text(ledger.read_text().replace("negated", "flip"))
    configs = {config.name: config for config in read_run_folder(run).plan.configs}
    assert configs["flip-L1-a4"].control.kind == "negated"


def test_the_folder_may_have_moved(run, tmp_path):
    before = report_texts(run)
    shutil.move(run, tmp_path / "elsewhere")
    report([tmp_path / "elsewhere"], None)
    assert report_texts(tmp_path / "elsewhere") == before


def test_a_summary_of_an_earlier_capvec_is_read_by_the_words_of_today(run):
    path = run / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"spared_trials": 3}))
    assert read_run_folder(run).earlier_summary()["skipped_trials"] == 3


def test_an_interrupted_run_is_reported_against_its_whole_plan(tmp_path):
    plan = write_recorded(tmp_path / "r", keep=lambda spec: spec.attempt == 1, finished=False)
    assert not (tmp_path / "r" / "summary.json").exists()
    lines = report([tmp_path / "r"], None).lines
    summary = json.loads((tmp_path / "r" / "summary.json").read_text())
    assert summary["expected_trials"] == len(plan.trials) == 60  # 10 configs × 3 tasks × 2 attempts
    assert len(summary["missing_trials"]) == 30
    assert any("30 of 60 trials recorded" in line for line in lines)


def test_a_run_of_which_some_trials_were_left_out_on_purpose_is_not_said_to_lack_them(tmp_path):
    write_recorded(tmp_path / "r", keep=lambda spec: spec.attempt == 1)
    before = report_texts(tmp_path / "r")
    assert json.loads(before["summary.json"])["missing_trials"] == []
    report([tmp_path / "r"], None)
    assert report_texts(tmp_path / "r") == before


def test_a_run_without_trajectories_keeps_its_verdict_on_alpha_0_while_the_counts_stand(run):
    gates = json.loads((run / "summary.json").read_text())["gates"]
    assert [gate["condition"] for gate in gates] == ["zero-L1: the baseline's tokens", "no_harm(0.5)"]
    shutil.rmtree(run / "trajectories")
    report([run], None)
    assert json.loads((run / "summary.json").read_text())["gates"] == gates
    recorded = read_run_folder(run)
    changed = write_trial(recorded.plan, recorded.plan.trials[0], 1)  # was solved
    shutil.rmtree(run / "trajectories")
    Ledger(run / "trials.jsonl").append(changed)
    report([run], None)
    unjudged, other = json.loads((run / "summary.json").read_text())["gates"]
    assert [unjudged["condition"], other["condition"]] == [gate["condition"] for gate in gates]
    assert not unjudged["met"]
    assert unjudged["reason"].endswith(".json is missing, so nothing shows that its replies are the baseline's")


def test_what_is_missing_of_a_run_is_said_where_its_reports_are_made_again(run):
    assert not any("is missing" in line for line in report([run], None).lines)
    (run / "vectors" / "ranking.csv").unlink()
    shutil.rmtree(run / "trajectories")
    missing = [line.partition(" is missing")[0] for line in report([run], None).lines if "is missing" in line]
    assert missing == [f"{run}/vectors/ranking.csv", f"{run}/trajectories"]


def test_what_an_earlier_capvec_did_not_write_down_is_left_out_and_said(run):
    path = run / "provenance.json"
    record = json.loads(path.read_text())
    for name in ("caveats", "ranking", "audit"):
        del record["direction"][name]
    path.write_text(json.dumps(record))
    report([run], None)
    text = (run / "RESULTS.md").read_text()
    assert "an earlier capvec wrote the run folder" in text
    assert "## The contrast" not in text


def test_a_folder_without_a_run_or_without_a_trial_is_refused(run, tmp_path, capsys):
    assert main(["report", str(tmp_path / "none")]) == 2
    assert "no run there (no provenance.json)" in capsys.readouterr().err
    (run / "trials.jsonl").write_text("")
    with pytest.raises(UsageError, match="holds no trial of the plan"):
        report([run], None)


def test_a_ranking_comes_back_as_it_was(run):
    words = json.loads((run / "provenance.json").read_text())["direction"]["ranking"]
    ranking = Ranking.read_csv(run / "vectors" / "ranking.csv", **words)
    ranking.write_csv(run / "again.csv", ("steps",))
    assert (run / "again.csv").read_text().splitlines()[1:] == [
        line.rpartition(",")[0] + ",steps" for line in (run / "vectors" / "ranking.csv").read_text().splitlines()[1:]
    ]
    (run / "vectors" / "ranking.csv").write_text("layer,auc\n1,0.5\n")
    with pytest.raises(UsageError, match="not the ranking of a direction by this version"):
        Ranking.read_csv(run / "vectors" / "ranking.csv", **words)


def test_a_report_is_written_whatever_its_gates_say_and_the_help_says_that_the_exit_code_does_not_tell(run, capsys):
    path = run / "provenance.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"options": record["options"] | {"gate": "improves(steered-L1-a2)"}}))
    assert main(["report", str(run)]) == 0
    assert "gate NOT MET: improves(steered-L1-a2) (" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["report", "--help"])
    assert "also where a gate is not met" in " ".join(capsys.readouterr().out.split())
