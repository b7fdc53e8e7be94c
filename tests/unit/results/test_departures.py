"""Every kind of departure from a preregistration is named, and a run that keeps to it has none."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from support.plans import DIRECTION, plan_of, shard_of
from support.recorded_run import built_direction, write_recorded
from support.registered import registered_for

from capvec.commands.main import main
from capvec.directions.direction import Direction
from capvec.directions.recipe import Recipe
from capvec.directions.study_direction import StudyDirection
from capvec.errors import UsageError
from capvec.plan.option_parsers import Shard
from capvec.plan.options import SweepOptions
from capvec.results import provenance
from capvec.results.departures import compare_plan, compare_results, compared
from capvec.results.preregistration import settings_of
from capvec.results.run_folder import read_run_folder
from capvec.studies.regenerate import report, results_of_run

pytestmark = pytest.mark.unit

HEALTH = {"model": "m", "revision": "r1", "defaults": {"max_steps": 20, "max_tokens": 96}}
GATES = "no_harm(0.1),improves(steered-L22-a1)"


def found(plan, options, **changes):
    """What departs where a plan is run that was registered as another one."""
    ran = StudyDirection(DIRECTION, "dir.pt")
    registered = registered_for(plan_of(3, 3, 2, "random:2"), SweepOptions(gate=GATES), ran, **changes)
    record = {"options": options.recorded("sweep"), "model": HEALTH, "direction": ran.provenance()}
    return [(one.kind, one.in_words()) for one in compare_plan(registered, plan, record)]


AS_REGISTERED = plan_of(3, 3, 2, "random:2")


def test_what_was_registered_departs_in_nothing():
    assert found(AS_REGISTERED, SweepOptions(gate=GATES)) == []


@pytest.mark.parametrize(
    ("plan", "departures"),
    [
        (plan_of(3, 2, 2, "random:2"),
         ["configs missing: steered-L22-a2, random1-L22-a2, random2-L22-a2"]),
        (plan_of(3, 4, 2, "random:2"),
         ["configs added: steered-L22-a3, random1-L22-a3, random2-L22-a3"]),
        (plan_of(2, 3, 2, "random:2"), ["tasks missing: task-2"]),
        (plan_of(4, 3, 2, "random:2"), ["tasks added: task-3"]),
        (plan_of(3, 3, 1, "random:2"), ["1 attempt in place of 2"]),
        (replace(AS_REGISTERED, tasks=tuple(replace(one, checksum=one.name) for one in AS_REGISTERED.tasks)),
         ["tasks with other files: task-0, task-1, task-2"]),
        (replace(AS_REGISTERED, effect=0.3), ["an equivalence margin of 0.3 in place of 0.15"]),
        (replace(AS_REGISTERED, sequential=True),
         ["interim analyses after 6 (task, attempt) pairs in place of a fixed number of trials"]),
    ],
)  # fmt: skip
def test_a_plan_that_is_another_one_is_named_by_what_differs(plan, departures):
    assert [words for _, words in found(plan, SweepOptions(gate=GATES))] == departures


@pytest.mark.parametrize(
    ("options", "departures"),
    [
        ({"gate": None}, [("gates", "gates dropped: no_harm(0.1), improves(steered-L22-a1)")]),
        ({"gate": f"steps<=baseline,{GATES}"}, [("gates", "gates added: steps<=baseline")]),
        ({"temperature": 0.0}, [("settings", "--temperature 0.0 in place of 0.7")]),
        ({"seed": 7}, [("settings", "--seed 7 in place of 0")]),
        ({"max_steps": 30}, [("settings", "--max-steps 30 in place of 20")]),
        ({"max_steps": 20, "thinking": "off"}, []),  # what would have been so anyway
        ({"solved_at": 0.5, "reward": "tests"},
         [("settings", '--reward "tests" in place of null'), ("settings", "--solved-at 0.5 in place of 1.0")]),
        ({"retries": 5, "run": "another", "tasks": "./here", "engine": "vllm"}, []),
    ],
)  # fmt: skip
def test_options_that_trials_depend_on_are_compared_and_others_are_not(options, departures):
    assert found(AS_REGISTERED, SweepOptions(**{"gate": GATES, **options})) == departures


SETTINGS = settings_of(SweepOptions().recorded("preregister"))


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_is_compared_whatever_options_a_sweep_comes_to_have(name):
    ((kind, words),) = found(AS_REGISTERED, SweepOptions(gate=GATES), settings=SETTINGS | {name: "another"})
    assert kind == "settings"
    assert words.startswith(f"--{name.replace('_', '-')} ")
    assert words.endswith(' in place of "another"')


@pytest.mark.parametrize(
    ("change", "departure"),
    [
        ({"model": {"name": "other"}}, ("model", "the model m in place of other")),
        ({"model": {"name": "m", "revision": "r0"}}, ("model", "revision r1 of the model in place of r0")),
        ({"model": {"name": "m", "engine": "vllm"}}, ("engine", "the engine transformers in place of vllm")),
        ({"direction": {"hash": "abc"}}, ("direction", f"the direction {DIRECTION.hash} in place of abc")),
        ({"direction": {"contrast": "c0"}},
         ("direction", f"the direction {DIRECTION.hash} of a file in place of the contrast c0")),
        ({"test": "coin"}, ("test", "a two-sided sign-flip test over tasks at 0.05, after Holm over the steered "
                                    "configs in place of a coin")),
    ],
)  # fmt: skip
def test_another_model_direction_or_test_is_named(change, departure):
    assert found(AS_REGISTERED, SweepOptions(gate=GATES), **change) == [departure]


def test_a_file_of_single_layers_is_the_direction_that_was_registered_whatever_layers_the_model_has():
    short = Direction(DIRECTION.vectors)
    ran = StudyDirection(Direction(np.pad(short.vectors, ((0, 7), (0, 0)))), "dir.pt")
    registered = registered_for(AS_REGISTERED, SweepOptions(gate=GATES), ran, direction={"hash": short.hash})
    record = {"options": SweepOptions(gate=GATES).recorded("sweep"), "model": HEALTH, "direction": ran.provenance()}
    assert ran.direction.hash != short.hash
    assert list(compare_plan(registered, AS_REGISTERED, record)) == []


def test_a_config_that_became_a_control_is_named():
    kinds = {config.name: config.kind for config in AS_REGISTERED.configs} | {"steered-L22-a2": "control"}
    assert found(AS_REGISTERED, SweepOptions(gate=GATES), configs=kinds) == [
        ("configs", "steered-L22-a2 is compared and was to be a control")
    ]


OPEN = {"baseline": "baseline", "steered-Lauto-a1": "steered"}


@pytest.mark.parametrize(
    ("layers", "departures"),
    [
        (None, []),
        (((22,),), [("direction", "layers that were named in place of the best one of the ranking")]),
    ],
)
def test_a_layer_that_was_left_to_the_ranking_is_any_that_the_ranking_chose(layers, departures):
    options = SweepOptions(gate="improves(steered-L22-a1)", layers=layers)
    gates = ["improves(steered-Lauto-a1)"]
    assert found(plan_of(3, 2, 2), options, configs=OPEN, gates=gates) == departures


def test_a_shard_is_compared_as_the_whole_plan_that_it_is_of():
    assert found(shard_of(AS_REGISTERED, Shard(1, 3)), SweepOptions(gate=GATES)) == []


def test_results_from_elsewhere_are_compared_by_their_names():
    plan = plan_of(3, 3, 2)
    registered = registered_for(plan, SweepOptions(gate="no_harm(0.1)"))
    other = replace(plan, configs=(replace(plan.configs[0], name="plain"), *plan.configs[1:]))
    reading = {"reward": None, "solved_at": 1.0}
    kept = compare_results(registered, other, "no_harm(0.1)", registered.time, reading=reading)
    assert kept.departures == ()
    assert "the files of the tasks" in kept.not_compared
    left = replace(plan, configs=(*plan.configs[:2], replace(plan.configs[2], kind="control")))
    departed = compare_results(registered, left, None, registered.time, reading={"reward": "tests", "solved_at": 0.5})
    assert [one.in_words() for one in departed.departures] == [
        "steered-L22-a2 is a control and was to be compared",
        "gates dropped: no_harm(0.1)",
        '--reward "tests" in place of null',
        "--solved-at 0.5 in place of 1.0",
    ]


# ------------------------------------------------------------------------------------------------ of run folders


def departures(folder):
    run = read_run_folder(folder)
    return [one.in_words() for one in compared(run.plan, run.provenance, run.outcomes, None).departures]


def test_a_run_that_kept_to_its_preregistration_is_reported_so_and_the_report_is_the_same_again(tmp_path):
    write_recorded(tmp_path / "r", claim={})
    assert departures(tmp_path / "r") == []
    summary = json.loads((tmp_path / "r" / "summary.json").read_text())["preregistration"]
    known = json.loads((tmp_path / "r" / "provenance.json").read_text())["preregistration"]
    assert {name: summary[name] for name in known} == known
    assert summary["departures"] == []
    before = (tmp_path / "r" / "RESULTS.md").read_bytes()
    assert f"**Status:** Preregistered ({known['hash'][:12]}, written 2026-11-24 10:00:00 UTC)".encode() in before
    assert b", and the sweep kept to it." in before
    report([tmp_path / "r"], None)
    assert (tmp_path / "r" / "RESULTS.md").read_bytes() == before


@pytest.mark.parametrize(
    ("contrast", "recipe", "named"),
    [
        (None, Recipe(), []),
        (None, Recipe(estimator="logistic"), ['--estimator "mean-difference" in place of "logistic"']),
        ("c0", Recipe(), ["the contrast {} in place of the contrast c0"]),
    ],
)
def test_a_direction_that_was_not_yet_built_is_compared_by_its_traces_and_rules(tmp_path, contrast, recipe, named):
    built = built_direction().contrast.hash
    claimed = {"hash": None, "contrast": contrast or built, "recipe": recipe.to_json()}
    write_recorded(tmp_path / "r", claim={"direction": claimed})
    assert departures(tmp_path / "r") == [words.format(built) for words in named]


def test_a_run_stopped_early_is_named(tmp_path):
    write_recorded(tmp_path / "r", claim={}, keep=lambda spec: spec.task != "task2")
    assert departures(tmp_path / "r") == ["40 of 60 planned trials are on record"]


def test_a_preregistration_written_after_the_first_trial_is_named(tmp_path):
    write_recorded(tmp_path / "r", claim={"written": "2026-11-25T03:45:03+00:00"})
    assert departures(tmp_path / "r") == [
        "it was written at 2026-11-25 03:45:03 UTC, after the first trial began at 2026-11-25 03:45:02 UTC"
    ]


@pytest.mark.parametrize(
    ("again", "named"),
    [
        ("2026-11-25T03:45:30+00:00", ["it went on after a session that could report 20 of 60 trials"]),
        ("2026-11-25T03:45:00+00:00", []),  # nothing was on record
        ("2026-11-25T03:47:00+00:00", []),  # nothing ran afterwards
    ],
)
def test_a_session_that_could_report_a_part_before_others_ran_is_named(tmp_path, again, named):
    write_recorded(tmp_path / "r", claim={})
    folder = tmp_path / "r"
    late = {str(one.id): "2026-11-25T03:46:00+00:00" for one in read_run_folder(folder).outcomes[20:]}
    lines = [json.loads(line) for line in (folder / "trials.jsonl").read_text().splitlines()]
    lines = [{**line, "started": late.get(line["trial"], line["started"])} for line in lines]
    (folder / "trials.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    data = json.loads((folder / "provenance.json").read_text())
    first = {name: value for name, value in data.items() if name != "earlier_sessions"}
    sessions = {"earlier_sessions": [first | {"written": "2026-11-25T03:40:00+00:00"}], "written": again}
    (folder / "provenance.json").write_text(json.dumps(data | sessions))
    assert departures(folder) == named
    main(["report", str(folder), "--out", str(tmp_path / "copy")])
    assert departures(tmp_path / "copy") == named


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda path: path.unlink(), "preregistration.json: no such file"),
        (lambda path: path.write_text(path.read_text().replace("It helps", "It harms")), "was changed after it was"),
        (lambda path: path.write_text(registered_for(AS_REGISTERED, SweepOptions()).text), "and the run began with"),
    ],
)
def test_a_folder_whose_copy_is_lost_changed_or_another_is_refused(tmp_path, spoil, why):
    write_recorded(tmp_path / "r", claim={})
    spoil(tmp_path / "r" / "preregistration.json")
    with pytest.raises(UsageError, match=why):
        results_of_run(read_run_folder(tmp_path / "r"))


def test_merged_shards_are_compared_as_one_run(tmp_path, capsys):
    for number in (1, 2, 3):
        write_recorded(tmp_path / f"s{number}", claim={}, shard=Shard(number, 3))
    parts = [str(tmp_path / f"s{number}") for number in (1, 2, 3)]
    main(["report", *parts, "--out", str(tmp_path / "all")])
    assert departures(tmp_path / "all") == []
    main(["report", *parts[:2], "--out", str(tmp_path / "some")])
    assert departures(tmp_path / "some") == ["40 of 60 planned trials are on record"]
    capsys.readouterr()
    write_recorded(tmp_path / "s4", claim={"hypothesis": "Another."}, shard=Shard(3, 3))
    assert main(["report", *parts[:2], str(tmp_path / "s4"), "--out", str(tmp_path / "no")]) == 2
    assert "these runs do not belong together: --preregistration is" in capsys.readouterr().err


def test_a_part_that_began_without_it_is_named(tmp_path):
    write_recorded(tmp_path / "s1", shard=Shard(1, 2))
    write_recorded(tmp_path / "s2", claim={}, shard=Shard(2, 2))
    main(["report", str(tmp_path / "s1"), str(tmp_path / "s2"), "--out", str(tmp_path / "all")])
    assert departures(tmp_path / "all") == ["parts that began without it: s1"]


def test_a_run_without_a_preregistration_is_compared_with_none(tmp_path):
    plan = write_recorded(tmp_path / "r", finished=False)
    assert compared(plan, provenance.read(tmp_path / "r"), (), None) is None
    assert "preregister" not in (tmp_path / "r" / "provenance.json").read_text().replace('"preregistration": null', "")
