"""`capvec judge` from its arguments to its report and exit code."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict

import pandas as pd
import pytest
from support import REPOSITORY
from support.judged import RESULTS, judged
from support.served_receipts import write_served

from capvec.results.run_folder import read_run_folder
from capvec.results.summary_file import read_summary
from capvec.studies.regenerate import results_of_run

pytestmark = pytest.mark.unit

EXAMPLE = REPOSITORY / "reports" / "example"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def table(tmp_path, name="trials.csv", **solved):
    """24 tasks of one attempt, of which each config solves the first ones."""
    rows = [
        {"task": f"task{i}", "config": config, "outcome": "solved" if i < count else "unsolved"}
        for config, count in solved.items()
        for i in range(24)
    ]
    pd.DataFrame(rows).to_csv(tmp_path / name, index=False)
    return tmp_path / name


NOT_IN_THE_TABLE = {"repaired_per_run", "repaired_per_reply", "end_reasons", "sensitivity"}
"""Of a config: `master_summary.csv` has no column for repaired replies, by which `sensitivity` counts."""


def test_the_table_of_a_sweep_gives_every_number_of_its_own_report_to_the_last_bit(tmp_path, capsys):
    code, _ = judged(capsys, EXAMPLE / "master_summary.csv", "--out", tmp_path / "again")
    assert code == 0
    ours = read_summary(tmp_path / "again" / "summary.json")
    results, _ = results_of_run(read_run_folder(EXAMPLE))
    its = json.loads(json.dumps(results.summary.to_json()))
    assert len(its["configs"]) == 9
    for mine, own in zip(ours["configs"], its["configs"], strict=True):
        assert {name: mine[name] for name in own if name not in NOT_IN_THE_TABLE} == {
            name: own[name] for name in own if name not in NOT_IN_THE_TABLE
        }
    assert {name: ours[name] for name in its if name not in ("configs", "drift")} == {
        name: its[name] for name in its if name not in ("configs", "drift")
    }
    assert ours["matched_controls"] == json.loads(json.dumps([asdict(one) for one in results.controls]))


def test_the_table_of_a_sweep_gives_what_its_committed_report_says(tmp_path, capsys):
    judged(capsys, EXAMPLE / "master_summary.csv", "--out", tmp_path / "again")
    ours, its = read_summary(tmp_path / "again" / "summary.json"), read_summary(EXAMPLE / "summary.json")
    for mine, own in zip(ours["configs"], its["configs"], strict=True):
        for name in ("verdict", "wilson", "clopper_pearson", "fisher", "sign_flip", "mcnemar", "cmh", "mediation"):
            assert mine[name] == own[name], name
        if own["effect"] is None:
            assert mine["effect"] is None
        else:
            effect, known = mine["effect"], own["effect"]
            for name in ("difference", "value", "baseline", "pvalue", "holm"):  # to twelve digits, by an earlier capvec
                assert effect[name] == pytest.approx(known[name], abs=1e-11)
            for end in ("low", "high"):
                assert effect["interval"][end] == pytest.approx(known["interval"][end], abs=1e-11)
    report = (tmp_path / "again" / "RESULTS.md").read_text()
    verdicts = [line for line in (EXAMPLE / "RESULTS.md").read_text().splitlines() if line.startswith("- steered-")]
    assert len(verdicts) == 3
    assert all(line in report for line in verdicts)


def test_what_a_report_wrote_is_judged_alike(tmp_path, capsys):
    judged(capsys, table(tmp_path, baseline=5, a=17), "--out", "one")
    judged(capsys, "one/master_summary.csv", "--out", "two")
    one, two = (json.loads((tmp_path / name / "summary.json").read_text()) for name in ("one", "two"))
    assert one["configs"] == two["configs"]


def test_the_report_says_that_no_receipt_proves_the_steer_and_what_is_not_known(tmp_path, capsys):
    code, said = judged(capsys, table(tmp_path, baseline=5, a=17), "--out", "reports/ours")
    report = (tmp_path / "reports/ours/RESULTS.md").read_text()
    assert code == 0
    assert "a improves" in said
    assert "Steering not proved" in said
    for part in (
        "Steering not proved",
        "`--seeds shared`",
        "`--errors apart`",
        "`parse_fail` and `no_cmd` are not on record",
    ):
        assert part in report
    assert "| config | solved | rate | 95 % Wilson | errors | Fisher p |" in report
    for absent in ("temperature", "The direction", "parse_fail | no_cmd", "Did the baseline drift", "--resume"):
        assert absent not in report
    header = (tmp_path / "reports/ours/master_summary.csv").read_text().splitlines()[0]
    assert header == "run,task,config,attempt,outcome,reward,error,family,split"


def test_what_the_user_states_is_said_to_be_stated(tmp_path, capsys):
    file = table(tmp_path, baseline=5, a=17)
    _, said = judged(capsys, file, "--seeds", "shared", "--errors", "failures", "--out", "r")
    assert "trajectories" not in said  # there never were any
    report = (tmp_path / "r/RESULTS.md").read_text()
    assert "share a seed (as stated on the command line)" in report
    assert "count as unsolved (as stated on the command line)" in report


def test_without_out_nothing_is_written(tmp_path, capsys):
    file = table(tmp_path, baseline=5, a=17)
    assert judged(capsys, file)[0] == 0
    assert list(tmp_path.iterdir()) == [file]


def test_gates_and_errors_decide_the_exit_code(tmp_path, capsys):
    file = table(tmp_path, baseline=5, a=17)
    assert judged(capsys, file, "--gate", "improves(a)")[0] == 0
    code, said = judged(capsys, file, "--gate", "no_harm(0.1), improves(a)", "--baseline", "a")
    assert (code, "no config a is compared" in said) == (2, True)
    assert judged(capsys, file, "--baseline", "a", "--gate", "no_harm(0.1)")[0] == 1
    file.write_text(file.read_text() + "task0,b,error\n")
    code, said = judged(capsys, file)
    assert (code, "error: task0-b-t1" in said) == (1, True)


def test_a_gate_on_a_count_that_is_not_on_record_is_refused(tmp_path, capsys):
    code, said = judged(capsys, table(tmp_path, baseline=5, a=17), "--gate", "steps<=baseline")
    assert (code, "--columns steps=NAME" in said) == (2, True)


def test_sources_are_joined_and_named(tmp_path, capsys):
    one, two = table(tmp_path, "plain.csv", x=5), table(tmp_path, "vector.csv", y=17)
    code, said = judged(capsys, one, two)
    assert (code, "the outcomes are of x, y" in said, "--baseline NAME" in said) == (2, True, True)
    code, said = judged(capsys, f"baseline={one}", f"steered={two}")
    assert (code, "steered improves" in said) == (0, True)


def test_trials_without_a_config_are_named_by_the_user(tmp_path, capsys):
    for name, count in (("plain", 5), ("vector", 17)):
        frame = pd.DataFrame({"task": [f"task{i}" for i in range(24)], "passed": [i < count for i in range(24)]})
        frame.to_csv(tmp_path / f"{name}.csv", index=False)
    code, said = judged(capsys, "plain.csv", "vector.csv")
    assert (code, "baseline=plain.csv" in said) == (2, True)
    assert "vector improves" in judged(capsys, "baseline=plain.csv", "vector=vector.csv")[1]


def test_a_file_that_is_named_twice_is_refused(tmp_path, capsys):
    file = table(tmp_path, baseline=5, a=17)
    pd.read_csv(file).drop(columns="attempt", errors="ignore").to_csv(file, index=False)
    code, said = judged(capsys, file, file)
    assert (code, "give each file once" in said, said.count("capvec:")) == (2, True, 1)


def test_unequal_tasks_and_attempts_are_compared_where_both_have_trials(tmp_path, capsys):
    file = table(tmp_path, baseline=5, a=17)
    rows = pd.read_csv(file)
    rows = rows[(rows["config"] == "baseline") | (rows.index % 2 == 0)]  # a lacks every second task
    pd.concat([rows, rows[rows["config"] == "a"].head(3)]).to_csv(file, index=False)
    assert judged(capsys, file, "--out", "r")[0] == 0
    report = (tmp_path / "r/RESULTS.md").read_text()
    assert "a has 12" in report
    assert "Tasks differ in their attempts" in report
    assert "12 tasks" in next(line for line in report.splitlines() if line.startswith("- a "))


def test_controls_are_named_or_known_by_capvecs_names(tmp_path, capsys):
    names = {"baseline": 5, "steered-L1-a4": 17, "random1-L1-a4": 6, "other": 5}
    file = table(tmp_path, **names)
    judged(capsys, file, "--out", "known")
    judged(capsys, file, "--controls", "other,random1-L1-a4", "--out", "named")
    known, named = (json.loads((tmp_path / name / "summary.json").read_text()) for name in ("known", "named"))
    assert known["comparisons"] == ["steered-L1-a4", "other"]
    assert named["comparisons"] == ["steered-L1-a4"]
    assert {one["kind"] for one in named["matched_controls"]} == {"random"}
    assert "for controls by their names: `random1-L1-a4`" in (tmp_path / "known/RESULTS.md").read_text()


def test_counts_alone_give_fishers_test_and_no_verdict(tmp_path, capsys):
    code, said = judged(capsys, "baseline=2/6", "steered=2/6,1/6", "--out", "r")
    assert code == 0
    assert "Counts alone give no verdict" in said
    report = (tmp_path / "r/RESULTS.md").read_text()
    assert "| steered2 | 1/6 |" in report
    assert "no rise of any size" in report
    assert (tmp_path / "r/report.html").is_file()
    assert judged(capsys, "baseline=2/6", "steered=1/6", "--gate", "no_harm(0.1)")[0] == 2
    _, said = judged(capsys, "baseline=2000/5000", "steered=2010/5000")
    assert "of any size" not in said
    assert "a rise of 0.028 or more and a fall of 0.028 or more" in " ".join(said.split())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["baseline=2/6"], "one config"),
        (["baseline=7/6", "a=1/6"], "7 of 6"),
        (["baseline=0/0", "a=1/6"], "0 of 0"),
        (["baseline=2/6", "baseline=1/6"], "there twice"),
        (["a=2/6", "b=1/6"], "--baseline NAME"),
        (["baseline=2/6", "trials.csv"], "trials.csv: given together with counts"),
        (["baseline=2.5/6", "a=1/6"], "baseline=2.5/6: '2.5/6' is no count; expected SOLVED/TRIALS in whole numbers"),
        (["baseline=2/6", "a=-1/6"], "a=-1/6: '-1/6' is no count"),
        (["baseline=2/6", "a=1/6.5"], "'1/6.5' is no count"),
        (["baseline=2/6", "a=1/"], "'1/' is no count"),
        (["baseline=2/6", "a=1/6,"], "'' is no count"),
        (["a=2.5/6"], "'2.5/6' is no count"),
        (["baseline=2/6", "a=1/10000001"], "a=1/10000001: more than 10,000,000 trials"),
        (["baseline=2/6", f"a=1/{'9' * 3000}"], "more than 10,000,000 trials"),
        (["baseline=2/6", "a=1/6", "--solved-at", "1"], "--solved-at: counts alone have no verdict"),
        (["trials.csv"], "no such file"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(capsys, given, said):
    code, line = judged(capsys, *given)
    assert (code, said in line, line.count("capvec:")) == (2, True, 1)


def test_a_path_of_digits_and_dots_is_no_count(tmp_path, capsys):
    for name in ("1", "2"):
        (tmp_path / name).mkdir()
        table(tmp_path / name, name="r", **{f"of{name}": 5})
    assert "is no count" not in judged(capsys, "baseline=./", "a=../")[1]
    (tmp_path / "1.5").mkdir()
    (tmp_path / "1.5" / "6").write_text("{}")
    assert "is no count" not in judged(capsys, "baseline=1.5/6")[1]


def test_scores_of_0_to_100_are_refused_with_their_range_until_a_threshold_is_named(tmp_path, capsys):
    file = table(tmp_path, baseline=5, a=17)
    rows = pd.read_csv(file)
    rows.assign(outcome=100 * (rows["outcome"] == "solved") + 3).to_csv(file, index=False)
    code, said = judged(capsys, file)
    assert (code, "column outcome goes from 3 to 103" in said, "--solved-at R" in said) == (2, True, True)
    code, said = judged(capsys, file, "--solved-at", "50", "--out", "r")
    assert (code, "a improves" in said) == (0, True)
    assert "A reward of 50 or more is solved" in (tmp_path / "r/RESULTS.md").read_text()
    for bad in ("-1", "0", "104"):
        assert judged(capsys, file, "--solved-at", bad)[0] == 2


def test_rewards_between_0_and_1_are_said_to_count_as_unsolved(tmp_path, capsys):
    file = table(tmp_path, baseline=5, a=17)
    rows = pd.read_csv(file)
    rows.assign(outcome=(rows["outcome"] == "solved") * 0.5 + 0.5).to_csv(file, index=False)
    judged(capsys, file, "--out", "r")
    assert "26 trials with a reward above 0 and below 1 count as unsolved" in (tmp_path / "r/RESULTS.md").read_text()
    judged(capsys, file, "--solved-at", "0.4", "--out", "s")
    assert "count as unsolved" not in (tmp_path / "s/RESULTS.md").read_text()
    rows.assign(outcome=(rows["outcome"] == "solved") * 0.5).rename(columns={"outcome": "pass@4"}).to_csv(
        file, index=False
    )
    code, said = judged(capsys, file, "--columns", "outcome=pass@4")
    assert (code, "column pass@4 holds 0.5, a share of several attempts" in said) == (2, True)


def test_a_folder_that_is_used_is_not_written_over(tmp_path, capsys):
    file = table(tmp_path, baseline=5, a=17)
    assert judged(capsys, file, "--out", "r")[0] == 0
    assert judged(capsys, file, "--out", "r")[0] == 2


@pytest.mark.parametrize("tool", ["harbor", "lm_eval", "swe_bench", "inspect"])
def test_results_of_each_tool_end_in_a_report(tmp_path, capsys, tool):
    if tool == "inspect":
        pytest.importorskip("inspect_ai.log", reason="Inspect: pip install 'capvec[inspect]'")
    shutil.copytree(RESULTS / tool, tmp_path / tool)
    options = {
        "lm_eval": ["--reward", "exact_match,strict-match"],
        "swe_bench": ["--baseline", "deepseek__deepseek-chat.deepseek_chat_dev"],
    }
    code, said = judged(capsys, tool, *options.get(tool, []), "--out", "r")
    assert code == (1 if tool in ("harbor", "inspect") else 0)  # their errors
    assert "95 % Wilson" in said
    assert (tmp_path / "r/report.html").is_file()


STEERED = "steered-L1-a4"


def served(tmp_path, baseline, steered=0):
    """A file of receipts with so many replies of both configs that hold."""
    return write_served(tmp_path / "receipts.jsonl", **{"baseline": baseline, STEERED: steered})


def two_configs(tmp_path):
    """24 tasks under both."""
    return table(tmp_path, **{"baseline": 5, STEERED: 17})


@pytest.mark.parametrize(
    ("held", "said"),
    [
        (48, "The server has receipts for every config"),
        (47, f"Steering not proved: too few receipts for {STEERED}."),
        (0, f"Steering not proved: too few receipts for {STEERED}."),
    ],
)
def test_receipts_of_a_server_must_be_as_many_as_the_replies_of_the_trials(tmp_path, capsys, held, said):
    file = two_configs(tmp_path)
    pd.read_csv(file).assign(steps=2).to_csv(file, index=False)  # 24 trials of two replies
    _, line = judged(capsys, file, "--receipts", served(tmp_path, 48, held), "--out", "r")
    assert said in line
    report = (tmp_path / "r/RESULTS.md").read_text()
    assert f"| {STEERED} | {held} | 0 | 48 |" in report
    assert said in report


@pytest.mark.parametrize(("held", "said"), [(24, "The server has receipts"), (23, "Steering not proved: too few")])
def test_where_replies_are_not_known_there_must_be_a_receipt_for_each_trial(tmp_path, capsys, held, said):
    _, line = judged(capsys, two_configs(tmp_path), "--receipts", served(tmp_path, 24, held), "--out", "r")
    assert said in line
    assert f"| {STEERED} | {held} | 0 | – |" in (tmp_path / "r/RESULTS.md").read_text()


def test_a_receipt_that_is_repeated_counts_once_and_the_report_says_so(tmp_path, capsys):
    receipts = served(tmp_path, 24, 12)
    receipts.write_text(receipts.read_text() * 2)
    _, line = judged(capsys, two_configs(tmp_path), "--receipts", receipts, "--out", "r")
    assert f"Steering not proved: too few receipts for {STEERED}." in line
    report = (tmp_path / "r/RESULTS.md").read_text()
    assert f"| {STEERED} | 12 | 0 | – |" in report
    assert "repeat the reply of an earlier line, and are not counted: 36." in report


def test_receipts_under_other_names_than_the_results_are_named(tmp_path, capsys):
    receipts = served(tmp_path, 24, 24)
    _, line = judged(capsys, table(tmp_path, baseline=5, a=17), "--receipts", receipts)
    assert f"too few receipts for a. No config is called {STEERED}, as in the file of the receipts." in line


def test_a_file_that_says_it_holds_is_not_believed(tmp_path, capsys):
    receipts = served(tmp_path, 24, 24)
    text = receipts.read_text()
    receipts.write_text(text.replace('"shift_mean": 12.0', '"shift_mean": 0.0', 1))
    assert receipts.read_text() != text
    code, said = judged(capsys, two_configs(tmp_path), "--receipts", receipts, "--out", "r")
    assert (code, "line 25: says that its receipts hold, and they do not" in said) == (2, True)
    assert not (tmp_path / "r").exists()


def test_a_line_that_is_no_receipt_is_named(tmp_path, capsys):
    file = served(tmp_path, 1)
    file.write_text(file.read_text() + '{"a": 1}\n')
    code, said = judged(capsys, two_configs(tmp_path), "--receipts", file)
    assert (code, "receipts.jsonl, line 2" in said) == (2, True)
