"""A run goes on only as it began."""

import json
import os
import shutil
from dataclasses import MISSING, fields, replace
from pathlib import Path

import numpy as np
import pytest
from support.recorded_run import HEALTH as RECORDED
from support.recorded_run import built_direction, plan_for, write_recorded
from support.tasks import make_task

from capvec.commands.main import main
from capvec.directions.direction import Direction
from capvec.directions.recipe import Recipe
from capvec.directions.study_direction import StudyDirection
from capvec.errors import UsageError
from capvec.plan.configs import SteeringMode, steered_config
from capvec.plan.options import SweepOptions
from capvec.plan.plan import SHAPING, Plan, Settings
from capvec.results.provenance import check_comparable, check_same_study, differences, write
from capvec.steering import Steer
from capvec.task_records import Environment

pytestmark = pytest.mark.unit

DIRECTION = Direction(np.ones((3, 4), np.float32))
HEALTH = {"model": "m", "revision": "r", "dtype": "float32"}
SETTINGS = Settings("m", "bash-block", "brief", 20, 96, 0.7)
SWEEP = SweepOptions()


def check(
    folder: Path, steers: list, config, before: SweepOptions = SWEEP, now: SweepOptions = SWEEP, settings=SETTINGS
):
    """Compare a run that steered so, and was asked for so, with a plan of one config and these settings."""
    earlier = {
        "study": "sweep", "model": HEALTH, "settings": SETTINGS.to_json(), "direction": {"hash": DIRECTION.hash},
        "tasks": {}, "configs": [{"name": config.name, "steers": steers}], "options": before.to_json(), "seeds": {},
    }  # fmt: skip
    (folder / "provenance.json").write_text(json.dumps(earlier))
    plan = Plan("r", folder, (), (config,), (), settings)
    about = {"plan": plan, "health": HEALTH, "direction": StudyDirection(DIRECTION, "file"), "images": {}}
    check_same_study(folder, options=now.to_json(), **about)


def test_what_a_run_says_of_its_machine_is_system_and_processor_and_no_build_of_its_kernel(tmp_path):
    folder = write_recorded(tmp_path / "r", finished=False).folder
    about = os.uname()
    assert json.loads((folder / "provenance.json").read_text())["platform"] == f"{about.sysname} {about.machine}"


def test_a_run_does_not_go_on_with_the_norm_kept(tmp_path):
    config = steered_config(DIRECTION, 1, 4.0)
    keeping = replace(steered_config(DIRECTION, 1, 4.0, "stored", SteeringMode(keep_norm=True)), name=config.name)
    with pytest.raises(UsageError, match=r"holds another run \(config steered-L1-a4 was"):
        check(tmp_path, config.to_json()["steers"], keeping)


@pytest.mark.parametrize("manner", [SteeringMode("set"), SteeringMode("add", "prompt"), SteeringMode("ablate")])
def test_a_run_does_not_go_on_with_another_operation_or_at_other_positions(tmp_path, manner):
    config = steered_config(DIRECTION, 1, 4.0, "stored", manner)
    check(tmp_path, config.to_json()["steers"], config)
    with pytest.raises(UsageError, match="holds another run"):
        check(tmp_path, steered_config(DIRECTION, 1, 1.0).to_json()["steers"], config)


def test_a_run_does_not_go_on_with_another_manner_of_thinking(tmp_path):
    config = steered_config(DIRECTION, 1, 4.0)
    with pytest.raises(UsageError, match=r"settings.thinking was None and is on"):
        check(tmp_path, config.to_json()["steers"], config, settings=replace(SETTINGS, thinking="on"))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"confound_auc": 0.8}, r"--confound-auc was 0\.9 and is 0\.8"),
        ({"confound_p": 0.01}, r"--confound-p was 0\.05 and is 0\.01"),
        ({"length_caliper": 0.5}, r"--length-caliper was 0\.2 and is 0\.5"),
        ({"negative_min_steps": 10}, r"--negative-min-steps was 15 and is 10"),
    ],
)
def test_a_run_does_not_go_on_with_another_threshold_unless_its_direction_was_loaded(tmp_path, change, named):
    config = steered_config(DIRECTION, 1, 4.0)
    steers, other = config.to_json()["steers"], Recipe(**change)
    with pytest.raises(UsageError, match=named):
        check(tmp_path, steers, config, now=SweepOptions(recipe=other))
    loaded = SweepOptions(direction="dir.pt")
    check(tmp_path, steers, config, loaded, replace(loaded, recipe=other))


def test_a_run_does_not_go_on_with_another_engine_and_an_old_one_had_the_reference(tmp_path):
    config = steered_config(DIRECTION, 1, 4.0)
    check(tmp_path, config.to_json()["steers"], config)
    about = {"direction": StudyDirection(DIRECTION, "file"), "options": SWEEP.to_json(), "images": {}}
    about["plan"] = Plan("r", tmp_path, (), (config,), (), SETTINGS)
    check_same_study(tmp_path, health=HEALTH | {"backend": "transformers", "backend_args": {}}, **about)
    vllm = {"backend": "vllm 0.26.0", "backend_args": {"tensor_parallel_size": 2}}
    with pytest.raises(UsageError, match=r"engine was transformers and is vllm 0\.26\.0 tensor_parallel_size=2"):
        check_same_study(tmp_path, health=HEALTH | vllm, **about)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"solved_at": 0.5}, r"settings\.solved_at was 1\.0 and is 0\.5"),
        ({"reward": "accuracy"}, r"settings\.reward was None and is accuracy"),
        ({"keep_processes": True}, r"settings\.keep_processes was False and is True"),
    ],
)
def test_a_run_does_not_go_on_where_it_is_judged_otherwise(tmp_path, change, named):
    config = steered_config(DIRECTION, 1, 4.0)
    with pytest.raises(UsageError, match=named):
        check(tmp_path, config.to_json()["steers"], config, settings=replace(SETTINGS, **change))


@pytest.mark.parametrize(
    ("before", "now", "changed"),
    [
        ("sha256:1 from environment/Dockerfile", "sha256:2 from environment/Dockerfile", {}),
        ("sha256:1", "sha256:1 from environment/Dockerfile", {}),  # a run of an earlier capvec
        ("sha256:1", "sha256:2 from environment/Dockerfile", {"images of t": (["sha256:1"], ["sha256:2"])}),
        ("", "sha256:2 from environment/Dockerfile", {"images of t": ([""], ["sha256:2"])}),
        (
            "sha256:1 from debian:12, sha256:2 from tests/Dockerfile",
            "sha256:1 from environment/Dockerfile, sha256:2 from tests/Dockerfile",
            {
                "images of t": (
                    ["sha256:1 from debian:12", "tests/Dockerfile"],
                    ["environment/Dockerfile", "tests/Dockerfile"],
                )
            },
        ),
        ("sha256:1 from debian:12", "sha256:1 from debian:12", {}),
        (
            "sha256:1 from debian:12",
            "sha256:2 from debian:12",
            {"images of t": (["sha256:1 from debian:12"], ["sha256:2 from debian:12"])},
        ),
        (
            "sha256:1 from environment/docker-compose.yaml (main), sha256:2 from redis:7",
            "sha256:3 from environment/docker-compose.yaml (main), sha256:2 from redis:7",
            {},
        ),
    ],
)
def test_a_run_goes_on_with_rebuilt_images_and_not_with_images_from_elsewhere(before, now, changed):
    one, other = (
        {
            "model": HEALTH, "settings": SETTINGS.to_json(), "direction": None, "configs": [],
            "tasks": {"t": {"checksum": "0", "image": image}},
        }
        for image in (before, now)
    )  # fmt: skip
    assert differences(one, other) == changed


@pytest.mark.parametrize(
    ("before", "now", "changed"),
    [
        (["x86_64"], ["x86_64", "x86_64"], {}),
        ([], ["aarch64"], {}),  # nothing says what the Docker of the environment was
        (["x86_64"], ["aarch64"], {"architecture of the Docker hosts": (["x86_64"], ["aarch64"])}),
    ],
)
def test_a_run_goes_on_on_other_hosts_of_the_same_architecture(before, now, changed):
    one, other = (
        {
            "model": HEALTH, "settings": SETTINGS.to_json(), "direction": None, "configs": [], "tasks": {},
            "docker_hosts": [{"name": str(number), "architecture": name} for number, name in enumerate(hosts)],
        }
        for hosts in (before, now)
    )  # fmt: skip
    assert differences(one, other) == changed


@pytest.fixture
def recorded(tmp_path):
    return write_recorded(tmp_path / "r", finished=False).folder


def refusal(folder) -> str:
    with pytest.raises(UsageError) as refused:
        check_comparable(folder, folder / "trials.jsonl")
    assert "\n" not in str(refused.value)
    assert "put the file of that run back, or choose another --run" in str(refused.value)
    return str(refused.value)


def test_a_folder_without_a_trial_has_nothing_to_compare(tmp_path):
    check_comparable(tmp_path, tmp_path / "trials.jsonl")
    (tmp_path / "trials.jsonl").touch()
    check_comparable(tmp_path, tmp_path / "trials.jsonl")


def test_trials_of_which_nothing_says_what_they_were_are_never_taken(recorded):
    check_comparable(recorded, recorded / "trials.jsonl")
    (recorded / "provenance.json").unlink()
    assert refusal(recorded).startswith(f"--resume: {recorded}: no provenance.json, so nothing shows")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda text: text[: len(text) // 2], ": not JSON ("),
        (lambda _: "", ": not JSON ("),
        (lambda text: text.encode() + b"\xff", ": not JSON (byte "),
        (lambda _: "[" * 100_000, ": not JSON (nested more than 128 levels deep)"),
        (lambda _: "9" * 5000, ": not JSON ("),
        (lambda _: "[]", "lacks everything: it is no JSON object"),
        (lambda _: "{}", "lacks options, settings, model, direction, configs, tasks, seeds"),
    ],
    ids=["cut off", "empty", "bytes", "nested", "huge number", "list", "no key"],
)
def test_a_damaged_provenance_is_one_sentence(recorded, damage, said, capsys):
    path = recorded / "provenance.json"
    damaged = damage(path.read_text())
    path.write_bytes(damaged.encode() if isinstance(damaged, str) else damaged)
    assert said in refusal(recorded)
    assert main(["report", str(recorded)]) == 2
    assert said in capsys.readouterr().err


def test_a_ledger_that_is_gone_is_no_run_that_has_not_begun(recorded):
    (recorded / "trials.jsonl").unlink()
    assert refusal(recorded).startswith(f"--resume: {recorded} has provenance.json and no trials.jsonl, so nothing")


def resume(folder: Path, plan: Plan | None = None, images: dict[str, str] | None = None) -> None:
    """Compare a run with a plan, by default its own."""
    built = built_direction()
    plan = plan or plan_for(folder, built.direction)
    about = {
        "plan": plan,
        "health": RECORDED.to_json(),
        "direction": StudyDirection(built.direction, "the traces", built),
    }
    options = SweepOptions(tasks="multi", gate="no_harm(0.5)").recorded("sweep")
    images = images or {task.name: "sha256:0" for task in plan.tasks}
    check_same_study(folder, options=options, images=images, **about)


def rewrite(folder: Path, change) -> None:
    path = folder / "provenance.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


def left_out_since(record, **changed):
    """A session that ran all trials, with something else than today, and one that left `task1` out."""
    first = record | {"tasks": record["tasks"] | {"task1": record["tasks"]["task1"] | changed}}
    tasks = {name: task for name, task in record["tasks"].items() if name != "task1"}
    return record | {"tasks": tasks, "written": "2026-11-26T00:00:00+00:00", "earlier_sessions": [first]}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"checksum": "f"}, r"task task1 was f and is 1111"),
        ({"modes": "f"}, r"file modes of task1 was f and is "),
        ({"variables": "f"}, r"variables of task1 was f and is "),
        ({"image": "sha256:9"}, r"images of task1 was \['sha256:9'\] and is \['sha256:0'\]"),
    ],
)
def test_a_kept_trial_is_compared_with_the_session_that_ran_it(recorded, changed, said):
    rewrite(recorded, left_out_since)
    resume(recorded)
    rewrite(recorded, lambda record: left_out_since(record["earlier_sessions"][0], **changed))
    with pytest.raises(UsageError, match=rf"--resume: .* holds another run \({said}"):
        resume(recorded)


def test_a_kept_trial_is_compared_with_the_session_that_ran_it_though_the_clock_was_set_back_since(recorded):
    """By the time, all trials would be of the second session, which left the task out and ran none."""
    rewrite(recorded, lambda record: left_out_since(record, checksum="f") | {"written": "2026-11-24T00:00:00+00:00"})
    with pytest.raises(UsageError, match="lacks task1"):
        resume(recorded)
    rewrite(recorded, with_identities)
    lines = [json.loads(line) | {"session": "a"} for line in (recorded / "trials.jsonl").read_text().splitlines()]
    (recorded / "trials.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(UsageError, match=r"holds another run \(task task1 was f and is 1111"):
        resume(recorded)


def with_identities(record):
    return record | {"session": "b", "earlier_sessions": [record["earlier_sessions"][0] | {"session": "a"}]}


def test_what_was_changed_and_ran_anew_goes_on(recorded):
    """Of the first session no trial of the task is kept."""
    rewrite(recorded, lambda record: left_out_since(record, checksum="f") | {"tasks": record["tasks"]})
    lines = [json.loads(line) for line in (recorded / "trials.jsonl").read_text().splitlines()]
    for line in lines:
        if line["task"] == "task1":
            line["started"] = "2026-11-26T00:00:01.000+00:00"
    (recorded / "trials.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    resume(recorded)


@pytest.mark.parametrize(("name", "value"), [("written", None), ("written", "yesterday"), ("tasks", {})])
def test_where_nothing_shows_which_session_ran_a_kept_trial_or_what_it_was_the_run_does_not_go_on(
    recorded, name, value
):
    rewrite(recorded, lambda record: left_out_since(record) | {"tasks": record["tasks"]})
    rewrite(recorded, lambda record: record | {"earlier_sessions": [record["earlier_sessions"][0] | {name: value}]})
    with pytest.raises(UsageError, match="choose another --run"):
        resume(recorded)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda folder: (folder / "environment" / "Dockerfile").chmod(0o600), "file modes of task0"),
        (lambda folder: (folder / "environment").chmod(0o700), "file modes of task0"),
        (lambda _: {"env": {"LEVEL": "hard"}}, "variables of task0"),
    ],
    ids=["of a file", "of a folder", "variable"],
)
def test_a_run_does_not_go_on_under_other_modes_or_variables(tmp_path, change, said):
    folder, plan = tmp_path / "r", plan_for(tmp_path / "r", built_direction().direction)
    path = make_task(tmp_path)

    def with_task(env) -> Plan:
        task = replace(plan.tasks[0], path=path, environment=Environment(env=env))
        return replace(plan, tasks=(task, *plan.tasks[1:]))

    before = with_task({"LEVEL": "easy"})
    write_recorded(folder, finished=False)
    images = {task.name: "sha256:0" for task in before.tasks}
    (folder / "provenance.json").unlink()
    built = built_direction()
    about = {"health": RECORDED.to_json(), "direction": StudyDirection(built.direction, "the traces", built)}
    options = SweepOptions(tasks="multi", gate="no_harm(0.5)").recorded("sweep")
    write(folder, command_line=[], options=options, plan=before, images=images, **about)
    resume(folder, before, images)
    changed = change(path) or {}
    with pytest.raises(UsageError, match=rf"holds another run \({said} was "):
        resume(folder, with_task(changed.get("env", {"LEVEL": "easy"})), images)


def lacking(path: Path, *key) -> None:
    """Take a key out of a JSON file."""
    record = json.loads(path.read_text())
    place = record
    for name in key[:-1]:
        place = place[name]
    del place[key[-1]]
    path.write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (("options",), "options"),
        (("settings",), "settings"),
        (("model",), "model"),
        (("model", "revision"), "model.revision"),
        (("direction",), "direction"),
        (("direction", "hash"), "direction.hash"),
        (("tasks", "task0", "checksum"), "the checksum of task0"),
        (("configs", 0, "steers"), "the steers of baseline"),
        (("seeds",), "seeds"),
    ],
)
def test_a_key_that_is_missing_switches_no_comparison_off(recorded, key, said):
    path = recorded / "provenance.json"
    lacking(path, *key)
    assert f"{path} lacks {said}, so nothing shows" in refusal(recorded)


def with_defaults(record) -> list[str]:
    """The fields that its JSON may lack."""
    return [one.name for one in fields(record) if one.default is not MISSING or one.default_factory is not MISSING]


KEYS = [
    ("study",),
    *(("settings", name) for name in with_defaults(Settings)),
    *(("options", name) for name in ("direction", "sequential", "effect", "seed", "recipe")),
    *(("options", "recipe", name) for name in with_defaults(Recipe)),
    *(("configs", 1, "steers", 0, name) for name in with_defaults(Steer)),
    *(("tasks", "task0", name) for name in ("image", "modes", "variables")),
]
"""All that a comparison goes by beside what every run has had."""


@pytest.mark.parametrize("key", KEYS, ids=lambda key: "-".join(map(str, key)))
def test_what_an_earlier_capvec_did_not_record_or_somebody_took_out_is_compared_by_no_default(recorded, capsys, key):
    """Neither for `--resume` nor for a merge, whichever of the runs lacks it. A report of that run alone is made."""
    whole, path = recorded.parent / "whole", recorded / "provenance.json"
    shutil.copytree(recorded, whole)
    lacking(path, *key)
    assert f"{path} lacks " in refusal(recorded)
    for both in ((whole, recorded), (recorded, recorded)):
        assert main(["report", *map(str, both), "--out", str(recorded.parent / "merged")]) == 2
        said = capsys.readouterr().err
        assert f"{path} lacks " in said
        assert "so nothing shows that these runs belong together" in said
    assert main(["report", str(recorded)]) == 0


def test_a_run_from_before_the_options_of_sampling_goes_on_without_them_alone(recorded):
    """Such a capvec could shape nothing, so what it drew from is known."""
    path = recorded / "provenance.json"
    for name in SHAPING:
        lacking(path, "settings", name)
    resume(recorded)
    plan = plan_for(recorded, built_direction().direction)
    for name, value in {"top_p": 0.9, "top_k": 5, "min_p": 0.1, "repetition_penalty": 1.2}.items():
        changed = replace(plan, settings=replace(plan.settings, **{name: value}))
        with pytest.raises(UsageError, match=rf"holds another run \(settings.{name} was [01](\.0)? and is {value}"):
            resume(recorded, changed)
