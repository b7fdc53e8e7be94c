"""Several runs of one plan, merged into one."""

import json
import shutil

import pytest
from support.recorded_run import report_texts, write_recorded, write_trial

from capvec.commands.main import main
from capvec.errors import UsageError
from capvec.results.battery import Answer, BatteryLedger, asked_configs
from capvec.results.ledger import Ledger
from capvec.results.run_folder import read_run_folder
from capvec.studies.regenerate import report

pytestmark = pytest.mark.unit


def shards(tmp_path, **second):
    write_recorded(tmp_path / "a", keep=lambda spec: spec.attempt == 1, finished=False)
    write_recorded(tmp_path / "b", **({"keep": lambda spec: spec.attempt == 2, "finished": False} | second))
    return [tmp_path / "a", tmp_path / "b"]


def test_two_halves_of_a_run_merge_into_the_whole(tmp_path):
    write_recorded(tmp_path / "whole")
    both = shards(tmp_path)
    assert main(["report", *map(str, both), "--out", str(tmp_path / "all")]) == 0
    whole, merged = (json.loads((tmp_path / name / "summary.json").read_text()) for name in ("whole", "all"))
    # Two runs have workers of their own, which nothing else depends on.
    own = ("runs", "workers", "pass_by_worker")
    apart, one = ([summary["drift"].pop(key) for key in own] for summary in (merged, whole))
    assert (apart[:2], one[:2]) == ([2, 2 * one[1]], [1, one[1]])
    assert {**merged, "run": "whole"} == whole
    rows = (tmp_path / "all" / "master_summary.csv").read_text().splitlines()[1:]
    assert [row.split(",")[0] for row in rows] == ["a"] * 30 + ["b"] * 30
    record = json.loads((tmp_path / "all" / "provenance.json").read_text())
    assert [shard["run"] for shard in record["merged"]] == ["a", "b"]
    assert len(list((tmp_path / "all" / "trajectories").iterdir())) == 60
    before = report_texts(tmp_path / "all")
    report([tmp_path / "all"], None)  # a merged run is a run
    assert report_texts(tmp_path / "all") == before


def answered(folder):
    """Gives a run a battery of one item, which was answered under every config."""
    rewrite(folder, battery={"sky": "d"})
    ledger = BatteryLedger(folder)
    for config in asked_configs(read_run_folder(folder).plan):
        ledger.append(Answer("sky", "d", config.name, right=True))
    return folder


def battery_in(folder):
    return json.loads((folder / "summary.json").read_text())["battery"]


def test_a_run_that_is_reported_into_another_folder_keeps_its_battery_and_merged_runs_have_none(tmp_path):
    runs = [answered(folder) for folder in shards(tmp_path)]
    report(runs[:1], tmp_path / "copy")
    report(runs[:1], None)
    assert battery_in(tmp_path / "copy") == battery_in(runs[0]) != []
    assert {row["answered"] for row in battery_in(runs[0])} == {1}
    report(runs, tmp_path / "all")
    assert battery_in(tmp_path / "all") == []
    assert "Off-task cost" not in (tmp_path / "all" / "RESULTS.md").read_text()


def rewrite(folder, **changes):
    """Change `provenance.json`: keys of `options`, and others by their name."""
    path = folder / "provenance.json"
    record = json.loads(path.read_text())
    options = {name: changes.pop(name) for name in ("gate", "effect") if name in changes}
    path.write_text(json.dumps(record | changes | {"options": record["options"] | options}))


def said_of_shards(folder):
    return next(line for line in (folder / "RESULTS.md").read_text().splitlines() if line.startswith("Merged by"))


def test_a_merged_report_names_its_shards_and_is_silent_of_what_they_share(tmp_path):
    report(shards(tmp_path), tmp_path / "all")
    assert said_of_shards(tmp_path / "all").startswith(
        "Merged by `capvec report` from 2 runs of one plan: `a`, `b`. Ended"
    )
    report([tmp_path / "a"], None)
    assert "Merged by" not in (tmp_path / "a" / "RESULTS.md").read_text()


def test_software_that_differs_between_shards_is_named_in_the_report(tmp_path):
    both = shards(tmp_path)
    versions = json.loads((both[0] / "provenance.json").read_text())["versions"]
    for folder, commit, transformers in zip(both, ("1" * 40, "2" * 40 + "+changes"), ("5.23", "5.24"), strict=True):
        rewrite(folder, commit=commit, versions=versions | {"transformers": transformers})
    report(both, tmp_path / "all")
    found = said_of_shards(tmp_path / "all")
    assert "commit `11111111` in `a`, `22222222+changes` in `b`" in found
    assert "transformers `5.23` in `a`, `5.24` in `b`" in found


def test_what_any_shard_asked_for_is_judged_and_the_report_says_that_they_asked_for_different_gates(tmp_path):
    both = shards(tmp_path)
    rewrite(both[0], gate="no_harm(0.5)")
    rewrite(both[1], gate="steps<=baseline, no_harm(0.5)")
    report(both, tmp_path / "all")
    gates = json.loads((tmp_path / "all" / "summary.json").read_text())["gates"]
    assert [gate["condition"] for gate in gates][-2:] == ["no_harm(0.5)", "steps<=baseline"]
    assert "`no_harm(0.5)` in `a`, `steps<=baseline, no_harm(0.5)` in `b`" in (said_of_shards(tmp_path / "all"))


def test_shards_that_asked_for_different_effects_are_refused_in_either_order(tmp_path):
    both = shards(tmp_path)
    rewrite(both[1], effect=0.3)
    for order, words in ((both, "None in .*/a and 0.3 in .*/b"), (both[::-1], "0.3 in .*/b and None in .*/a")):
        with pytest.raises(UsageError, match=f"do not belong together: --effect is {words}"):
            report(order, tmp_path / "all")


def test_a_shard_that_kept_trials_of_other_files_is_refused_whichever_it_is(tmp_path):
    """Its last session left the task out."""
    both = shards(tmp_path)
    record = json.loads((both[1] / "provenance.json").read_text())
    tasks = record["tasks"]
    first = record | {"tasks": tasks | {"task1": tasks["task1"] | {"checksum": "f"}}}
    rewrite(both[1], earlier_sessions=[first], written="2026-11-26T00:00:00+00:00")
    for order in (both, both[::-1]):
        with pytest.raises(UsageError, match=r"belong together: task task1 was f in a session of .*/b and is 1111"):
            report(order, tmp_path / "all")


def test_a_merged_run_says_what_no_shard_ran_and_what_was_unproved(tmp_path):
    both = shards(tmp_path)
    rewrite(both[0], left_out={"gpu": "it asks for a GPU"}, unproved={"task0": "it has no solution"})
    rewrite(both[1], left_out={"net": "no network", "task2": "unfit"}, unproved={"task1": "it has no solution"})
    report(both, tmp_path / "all")
    record = json.loads((tmp_path / "all" / "provenance.json").read_text())
    assert record["left_out"] == {"net": "no network", "gpu": "it asks for a GPU"}
    text = (tmp_path / "all" / "RESULTS.md").read_text()
    assert "2 tasks did not run:" in text
    assert "- `gpu`: it asks for a GPU" in text
    assert "2 tasks unproved, since it has no solution: task1, task0." in text


def test_a_merged_run_can_be_merged_again_and_still_names_every_shard(tmp_path):
    both = shards(tmp_path)
    report(both[:1], tmp_path / "one")
    report([tmp_path / "one", both[1]], tmp_path / "all")
    assert said_of_shards(tmp_path / "all").startswith(
        "Merged by `capvec report` from 2 runs of one plan: `a`, `b`. Ended"
    )


def test_a_trial_that_both_hold_with_the_same_outcome_counts_once(tmp_path):
    write_recorded(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    report([tmp_path / "a", tmp_path / "b"], tmp_path / "all")
    assert (tmp_path / "all" / "trials.jsonl").read_text() == (tmp_path / "a" / "trials.jsonl").read_text()


def test_one_trial_with_two_outcomes_is_refused(tmp_path):
    both = shards(tmp_path, keep=lambda _: True)
    recorded = read_run_folder(both[1])
    Ledger(both[1] / "trials.jsonl").append(write_trial(recorded.plan, recorded.plan.trials[0], 1))
    with pytest.raises(UsageError, match=r"both .*/a and .*/b ran task0-steered-L1-a2-t1, with different outcomes"):
        report(both, tmp_path / "all")
    assert not (tmp_path / "all").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": 1}, r"--seed is 0 in .*/a and 1 in .*/b"),
        ({"temperature": 0.2}, r"settings.temperature is 0.7 in .*/a and 0.2 in .*/b"),
    ],
)
def test_runs_of_other_seeds_or_settings_are_refused(tmp_path, change, words):
    with pytest.raises(UsageError, match=f"do not belong together: {words}"):
        report(shards(tmp_path, **change), tmp_path / "all")


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("study", lambda _: "calibration", "study is sweep"),
        ("model", lambda old: old | {"revision": "other"}, r"model is \('m', 'rev', 'float32'\)"),
        ("direction", lambda old: old | {"hash": "0" * 16}, "direction is "),
        ("tasks", lambda old: old | {"task1": old["task1"] | {"checksum": "f"}}, "task task1 is 1111"),
        (
            "tasks",
            lambda old: {name: task | {"checksum": "f"} for name, task in old.items()},
            r"what the files of 3 tasks \(task0, task1, task2\) hold is one thing in .*/a and another in ",
        ),
        ("configs", lambda old: [*old[:1], old[1] | {"steers": old[2]["steers"]}, *old[2:]], "config steered-L1-a2 is"),
    ],
)
def test_runs_of_another_study_model_direction_task_or_steer_are_refused(tmp_path, name, change, words):
    both = shards(tmp_path)
    path = both[1] / "provenance.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {name: change(record[name])}))
    with pytest.raises(UsageError, match=f"do not belong together: {words}"):
        report(both, tmp_path / "all")
    assert not (tmp_path / "all").exists()


def test_several_runs_need_a_folder_of_their_own(tmp_path):
    both = shards(tmp_path)
    with pytest.raises(UsageError, match="2 runs and no --out"):
        report(both, None)
    with pytest.raises(UsageError, match="not an empty folder"):
        report(both, both[0])
