"""Shards of one plan, merged: the whole, a part of it, and what does not belong together."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
from support.plans import shard_of
from support.recorded_run import HEALTH, built_direction, report_texts, write_recorded

from capvec.commands.main import main
from capvec.directions.direction import Direction
from capvec.directions.study_direction import StudyDirection
from capvec.errors import UsageError
from capvec.plan.dealing import deal
from capvec.plan.option_parsers import Shard
from capvec.publish.export import export
from capvec.results.provenance import check_same_study
from capvec.results.run_folder import read_run_folder
from capvec.results.shards import planned_trials
from capvec.studies.regenerate import report

pytestmark = pytest.mark.unit


def shards(folder, of, numbers=None, **asked):
    """The folders of shards, written as sessions leave them."""
    for number in numbers or range(1, of + 1):
        write_recorded(folder / f"s{number}", shard=Shard(number, of), **asked)
    return sorted(folder.glob("s*"))


def summary_of(folder):
    return json.loads((folder / "summary.json").read_text())


@pytest.mark.parametrize("of", [1, 2, 4, 6])
def test_merged_shards_are_the_unsharded_run_trial_for_trial(tmp_path, of):
    folders = shards(tmp_path, of)[::-1]
    write_recorded(tmp_path / "whole")
    reported = report(folders, tmp_path / "all")
    merged, whole = read_run_folder(tmp_path / "all"), read_run_folder(tmp_path / "whole")
    assert [trial.id for trial in merged.plan.trials] == [trial.id for trial in whole.plan.trials]
    assert merged.provenance["seeds"] == whole.provenance["seeds"]
    assert [vars(one) | {"run": ""} for one in merged.outcomes] == [vars(one) | {"run": ""} for one in whole.outcomes]
    assert merged.plan.tasks == whole.plan.tasks
    found, expected = summary_of(tmp_path / "all"), summary_of(tmp_path / "whole")
    for summary in (found, expected):  # workers and the order of time are of each session
        summary.pop("drift")
    assert {**found, "run": "whole"} == expected
    assert not reported.good  # of the recorded trials one is an error
    before = report_texts(tmp_path / "all")
    report([tmp_path / "all"], None)
    assert report_texts(tmp_path / "all") == before


def test_a_shard_alone_has_no_verdict_and_no_gate_of_the_plan(tmp_path):
    (folder,) = shards(tmp_path, 3, [2])
    summary = summary_of(folder)
    assert all(row["verdict"] is None for row in summary["configs"])
    assert summary["verdict"].startswith("No verdict: this is shard 2 of 3, with 20 of the plan's 60 trials.")
    assert summary["warnings"] == []
    assert "no_harm(0.5)" not in [gate["condition"] for gate in summary["gates"]]
    text = (folder / "RESULTS.md").read_text()
    assert "No verdict: this is shard 2 of 3" in next(line for line in text.splitlines() if "**Status:**" in line)
    assert "## Interpretation" not in text
    assert "NOT RUN" not in text
    before = report_texts(folder)
    reported = report([folder], None)
    assert report_texts(folder) == before
    assert reported.good
    assert sum("No verdict" in line for line in reported.lines) == 1


def test_missing_shards_are_named_with_their_share_of_the_plan_and_no_gate_is_judged(tmp_path, capsys):
    folders = shards(tmp_path, 6, [1, 3, 6])
    assert main(["report", *map(str, folders), "--out", str(tmp_path / "all")]) == 1
    said = capsys.readouterr().out
    words = "Shards 2, 4 and 5 of 6 are missing, with 3 of the plan's 6 (task, attempt) pairs."
    assert words in said.replace("\n  ", " ")
    assert "30 of 60 trials recorded; NOT RUN: " in said.replace("\n  ", " ")
    status = next(line for line in (tmp_path / "all" / "RESULTS.md").read_text().splitlines() if "Status" in line)
    assert words in status
    assert "no gate is judged yet" in (tmp_path / "all" / "RESULTS.md").read_text()
    summary = summary_of(tmp_path / "all")
    assert (summary["expected_trials"], len(summary["missing_trials"])) == (60, 30)
    assert main(["report", str(tmp_path / "all")]) == 1  # and again


def test_shards_that_arrive_later_are_merged_with_those_that_were(tmp_path):
    folders = shards(tmp_path, 3)
    report([folders[2], folders[0]], tmp_path / "some")
    report([tmp_path / "some", folders[1]], tmp_path / "all")
    merged = read_run_folder(tmp_path / "all")
    assert merged.plan.dealing.shards == (1, 2, 3)
    assert len(merged.outcomes) == 60
    line = merged.plan.merged[0]
    assert "from 3 shards of one plan: `s3` (shard 3), `s1` (shard 1), `s2` (shard 2)." in line
    with pytest.raises(UsageError, match=r"some and .*s1 both hold shard 1 of 3; a shard counts once"):
        report([tmp_path / "some", folders[0]], tmp_path / "twice")


def test_one_shard_twice_is_refused_by_its_number_whether_its_outcomes_differ_or_not(tmp_path):
    folders = shards(tmp_path, 3, [1, 2])
    shutil.copytree(folders[0], tmp_path / "copy")
    with pytest.raises(UsageError, match=r"s1 and .*copy both hold shard 1 of 3; a shard counts once"):
        report([*folders, tmp_path / "copy"], tmp_path / "all")
    assert not (tmp_path / "all").exists()


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"shard": Shard(1, 2)}, r"different plans: --shard is shard 1 of 3 in .*s1 and shard 1 of 2 in .*other"),
        ({"shard": None}, r"s1 is shard 1 of 3 and .*other is no shard; merge the shards of one plan"),
        ({"shard": Shard(2, 3), "attempts": 3}, r"different plans: --attempts is 2 in .*s1 and 3 in .*other"),
        ({"shard": Shard(2, 3), "seed": 1}, r"different plans: --seed is 0 in .*s1 and 1 in .*other"),
        ({"shard": Shard(2, 3), "temperature": 0.1}, r"belong together: settings.temperature is 0.7 in .*s1"),
    ],
)
def test_shards_of_another_plan_are_refused_in_either_order(tmp_path, other, words):
    (first,) = shards(tmp_path, 3, [1])
    write_recorded(tmp_path / "other", **other)
    with pytest.raises(UsageError, match=words):
        report([first, tmp_path / "other"], tmp_path / "all")
    with pytest.raises(UsageError, match=r"different plans|is no shard|do not belong together"):
        report([tmp_path / "other", first], tmp_path / "all")


def test_a_run_goes_on_with_its_own_shard_alone(tmp_path):
    plan = write_recorded(tmp_path / "run", shard=Shard(1, 3))
    whole = write_recorded(tmp_path / "whole")
    built = built_direction()
    about = {
        "options": read_run_folder(tmp_path / "run").provenance["options"],
        "health": HEALTH.to_json(),
        "direction": StudyDirection(built.direction, "the traces", built),
        "images": {task.name: "sha256:0" for task in whole.tasks},
    }
    check_same_study(tmp_path / "run", plan=plan, **about)
    for other, words in (
        (shard_of(whole, Shard(2, 3)), "shard 2 of 3"),
        (whole, "the whole plan"),
    ):
        with pytest.raises(UsageError, match=rf"another run \(--shard was shard 1 of 3 and is {words}"):
            check_same_study(tmp_path / "run", plan=other, **about)
    more = replace(plan, dealing=replace(plan.dealing, attempts=3))
    with pytest.raises(UsageError, match="--attempts was 2 and is 3"):
        check_same_study(tmp_path / "run", plan=more, **about)


def rewrite(folder, change):
    path = folder / "provenance.json"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


def test_shards_of_other_tasks_or_configs_are_refused_by_name(tmp_path):
    folders = shards(tmp_path, 3)
    rewrite(folders[1], lambda record: record["dealing"]["tasks"].append("extra"))
    with pytest.raises(UsageError, match=r"the list of tasks is 3 tasks in .*s1 and 4 tasks, extra among them in"):
        report(folders[:2], tmp_path / "all")

    def drop(record):
        gone = record["configs"].pop()["name"]
        record["seeds"] = {trial: seed for trial, seed in record["seeds"].items() if gone not in trial}

    rewrite(folders[2], drop)
    with pytest.raises(UsageError, match=r"the list of configs is baseline, .* in .*s1 and baseline, "):
        report([folders[0], folders[2]], tmp_path / "all")


def test_a_task_that_one_shard_left_out_and_another_ran_is_missing_and_one_that_all_left_out_is_not(tmp_path):
    folders = shards(tmp_path, 6)
    report(folders, tmp_path / "all")
    whole = read_run_folder(tmp_path / "all").plan
    ran = tuple(task for task in whole.tasks if task.name != "task1")
    assert {trial.task for trial in planned_trials(replace(whole, tasks=ran))} == {"task0", "task2"}
    gone = next(
        number for number in range(1, 7) if ("task1", 2) in deal(Shard(number, 6), whole.dealing.tasks, 2, 0).here
    )
    some = replace(whole.dealing, shards=tuple(number for number in range(1, 7) if number != gone))
    assert planned_trials(replace(whole, tasks=ran, dealing=some)) == planned_trials(whole)
    assert len(planned_trials(whole)) == 60


def test_errors_are_counted_shard_by_shard(tmp_path):
    report(shards(tmp_path, 2), tmp_path / "all")
    text = (tmp_path / "all" / "RESULTS.md").read_text()
    assert "Ended in an error: 1 of 30 trials in `s" in text
    assert "0 of 30 trials in `s" in text


def test_neither_a_shard_nor_a_merge_without_some_is_published(tmp_path):
    folders = shards(tmp_path, 3)
    with pytest.raises(UsageError, match=r"s1: shard 1 of 3; expected the whole sweep: merge it with capvec report"):
        export(folders[0], tmp_path / "out", license_id="mit", say=print)
    report(folders[:2], tmp_path / "some")
    direction = Direction.read(tmp_path / "some" / "vectors" / "dir.safetensors")
    for name in ("dir.pt", "dir.gguf"):
        direction.save(tmp_path / "some" / "vectors" / name)
    with pytest.raises(UsageError, match=r"Shard 3 of 3 is missing.*Merge it"):
        export(tmp_path / "some", tmp_path / "out", license_id="mit", say=print)
