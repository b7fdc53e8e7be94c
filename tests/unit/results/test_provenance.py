"""A run goes on only as it began."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.recorded_run import write_recorded

from capvec.directions.direction import Direction
from capvec.directions.recipe import Recipe
from capvec.directions.study_direction import StudyDirection
from capvec.errors import UsageError
from capvec.plan.options import SweepOptions
from capvec.plan.plan import Plan, Settings, SteeringMode, steered_config
from capvec.results.provenance import check_same_study, differences

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
        "tasks": {}, "configs": [{"name": config.name, "steers": steers}], "options": before.to_json(),
    }  # fmt: skip
    (folder / "provenance.json").write_text(json.dumps(earlier))
    plan = Plan("r", folder, (), (config,), (), settings)
    about = {"plan": plan, "health": HEALTH, "direction": StudyDirection(DIRECTION, "file")}
    check_same_study(folder, options=now.to_json(), **about)


def test_what_a_run_says_of_its_machine_is_system_and_processor_and_no_build_of_its_kernel(tmp_path):
    folder = write_recorded(tmp_path / "r", finished=False).folder
    about = os.uname()
    assert json.loads((folder / "provenance.json").read_text())["platform"] == f"{about.sysname} {about.machine}"


def test_a_run_from_before_a_steer_could_keep_the_norm_goes_on_where_none_does(tmp_path):
    config = steered_config(DIRECTION, 1, 4.0)
    old = {"layer": 1, "direction": DIRECTION.hash, "alpha": 4.0, "op": "add", "positions": "all"}
    check(tmp_path, [old], config)
    keeping = replace(steered_config(DIRECTION, 1, 4.0, "stored", SteeringMode(keep_norm=True)), name=config.name)
    with pytest.raises(UsageError, match=r"holds another run \(config steered-L1-a4 was"):
        check(tmp_path, [old], keeping)


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


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"solved_at": 0.5}, r"settings\.solved_at was 1\.0 and is 0\.5"),
        ({"reward": "accuracy"}, r"settings\.reward was None and is accuracy"),
        ({"keep_processes": True}, r"settings\.keep_processes was False and is True"),
    ],
)
def test_a_run_does_not_go_on_where_it_is_judged_otherwise_and_an_old_one_had_the_defaults(tmp_path, change, named):
    config, folder = steered_config(DIRECTION, 1, 4.0), tmp_path / "provenance.json"
    check(tmp_path, config.to_json()["steers"], config)
    old = json.loads(folder.read_text())
    for name in change:
        del old["settings"][name]
    folder.write_text(json.dumps(old))
    about = {"health": HEALTH, "direction": StudyDirection(DIRECTION, "file"), "options": SWEEP.to_json()}
    check_same_study(tmp_path, plan=Plan("r", tmp_path, (), (config,), (), SETTINGS), **about)
    with pytest.raises(UsageError, match=named):
        check_same_study(tmp_path, plan=Plan("r", tmp_path, (), (config,), (), replace(SETTINGS, **change)), **about)


def test_a_run_from_before_a_threshold_was_an_option_went_by_its_default(tmp_path):
    config, folder = steered_config(DIRECTION, 1, 4.0), tmp_path / "provenance.json"
    check(tmp_path, config.to_json()["steers"], config)
    old = json.loads(folder.read_text())
    del old["options"]["recipe"]["confound_auc"]
    folder.write_text(json.dumps(old))
    plan = Plan("r", tmp_path, (), (config,), (), SETTINGS)
    about = {"plan": plan, "health": HEALTH, "direction": StudyDirection(DIRECTION, "file")}
    check_same_study(tmp_path, options=SWEEP.to_json(), **about)
    with pytest.raises(UsageError, match=r"--confound-auc was 0\.9 and is 0\.8"):
        check_same_study(tmp_path, options=SweepOptions(recipe=Recipe(confound_auc=0.8)).to_json(), **about)


@pytest.mark.parametrize(
    ("before", "now", "changed"),
    [
        ("sha256:1 from environment/Dockerfile", "sha256:2 from environment/Dockerfile", {}),
        ("sha256:1", "sha256:1 from environment/Dockerfile", {}),  # a run of an earlier capvec
        (
            "sha256:1 from debian:12, sha256:2 from tests/Dockerfile",
            "sha256:1 from environment/Dockerfile, sha256:2 from tests/Dockerfile",
            {"images of t": (["debian:12", "tests/Dockerfile"], ["environment/Dockerfile", "tests/Dockerfile"])},
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
