"""Plans of any size, and probes of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from capvec.directions.direction import Direction, random_control
from capvec.plan.configs import control_configs, steered_config
from capvec.plan.dealing import deal
from capvec.plan.option_parsers import Shard, parse_controls
from capvec.plan.plan import Plan, Settings, interleave
from capvec.records import Config
from capvec.run.probe import Probe, Probed
from capvec.task_records import Task

DIRECTION = Direction(np.ones((30, 4), np.float32), np.full(30, 10.0))
SETTINGS = Settings("m", "bash-block", "zero-shot", 4, 32, 0.7)


def plan_of(tasks: int, configs: int, attempts: int, controls: str = "", folder: Path = Path("r")) -> Plan:
    """A plan of so many tasks, configs (a baseline among them) and attempts, with controls as `--controls` says."""
    steered = [steered_config(DIRECTION, 22, float(alpha)) for alpha in range(1, configs)]
    asked = parse_controls(controls)
    count = next((control.count for control in asked if control.kind == "random"), 0)
    matched = {"random": [random_control(DIRECTION, number) for number in range(count)]}
    arms = (Config("baseline", "baseline"), *steered)
    arms = (*arms, *control_configs(asked, steered, DIRECTION, matched))
    all_tasks = tuple(Task(f"task-{number}", folder, "Do it.", "0") for number in range(tasks))
    return Plan("r", folder, all_tasks, arms, interleave(all_tasks, arms, attempts, 0), SETTINGS)


def shard_of(plan: Plan, shard: Shard, seed: int = 0) -> Plan:
    """The part of a plan that `--shard` runs."""
    dealing = deal(shard, [task.name for task in plan.tasks], plan.attempts, seed)
    tasks = tuple(task for task in plan.tasks if task.name in {name for name, _ in dealing.here})
    trials = interleave(tasks, plan.configs, plan.attempts, seed)
    here = tuple(trial for trial in trials if (trial.task, trial.attempt) in dealing.here)
    return replace(plan, tasks=tasks, trials=here, dealing=dealing)


def probe_of(whole=(), cut=(), failed=(), jobs=1, seconds=30.0) -> Probe:
    """A probe whose trials took so many seconds, by how they ended."""
    ends = {"whole": whole, "cut": cut, "error": failed}
    trials = [
        Probed("t", took, end, "Fault: why" * (end == "error")) for end, all_of in ends.items() for took in all_of
    ]
    return Probe(tuple(trials), jobs, seconds)
