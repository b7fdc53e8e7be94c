"""A run goes on only as it began."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from capvec.directions.record import Direction
from capvec.errors import UsageError
from capvec.sweep.directions import SweepDirection
from capvec.sweep.plan import Manner, Plan, Settings, steered_config
from capvec.sweep.provenance import check_same_study

pytestmark = pytest.mark.unit

DIRECTION = Direction(np.ones((3, 4), np.float32))
HEALTH = {"model": "m", "revision": "r", "dtype": "float32"}
SETTINGS = Settings("m", "bash-block", "brief", 20, 96, 0.7)


def check(folder: Path, steers: list, config):
    """Compare a run that steered so with a plan of one config."""
    earlier = {
        "study": "sweep", "model": HEALTH, "settings": SETTINGS.to_json(), "direction": {"hash": DIRECTION.hash},
        "tasks": {}, "configs": [{"name": config.name, "steers": steers}],
    }  # fmt: skip
    (folder / "provenance.json").write_text(json.dumps(earlier))
    plan = Plan("r", folder, (), (config,), (), SETTINGS)
    check_same_study(folder, plan=plan, health=HEALTH, direction=SweepDirection(DIRECTION, "file"))


def test_a_run_from_before_a_steer_could_keep_the_norm_goes_on_where_none_does(tmp_path):
    config = steered_config(DIRECTION, 1, 4.0)
    old = {"layer": 1, "direction": DIRECTION.hash, "alpha": 4.0, "op": "add", "positions": "all"}
    check(tmp_path, [old], config)
    keeping = replace(steered_config(DIRECTION, 1, 4.0, "stored", Manner(keep_norm=True)), name=config.name)
    with pytest.raises(UsageError, match=r"was begun as another sweep \(config steered-L1-a4 was"):
        check(tmp_path, [old], keeping)


@pytest.mark.parametrize("manner", [Manner("set"), Manner("add", "prompt"), Manner("ablate")])
def test_a_run_does_not_go_on_with_another_operation_or_at_other_positions(tmp_path, manner):
    config = steered_config(DIRECTION, 1, 4.0, "stored", manner)
    check(tmp_path, config.to_json()["steers"], config)
    with pytest.raises(UsageError, match="was begun as another sweep"):
        check(tmp_path, steered_config(DIRECTION, 1, 1.0).to_json()["steers"], config)
