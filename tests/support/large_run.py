"""A run folder of any size, with outcomes that a seeded model draws: what reports over many trials are timed on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import numpy as np

from capvec.directions.direction import random_control
from capvec.directions.study_direction import StudyDirection
from capvec.engines.protocol import EngineInfo
from capvec.plan.configs import control_configs, steered_config
from capvec.plan.option_parsers import parse_controls
from capvec.plan.options import SweepOptions
from capvec.plan.plan import Plan, Settings, interleave
from capvec.records import Config, Episode, Measured, Outcome, Parse, Reply, Step, TrialSpec
from capvec.results import provenance
from capvec.results.ledger import TRIALS
from capvec.task_records import Task
from capvec.traces.write import write_trajectory
from support.recorded_run import built_direction

HEALTH = EngineInfo("m", "rev", "Arch", 3, 8, 4096, "float32", "cpu", "0")
EFFECTS = {2.0: 0.2, 4.0: 0.8}
"""α of the steered configs → change of a task's logit."""
CONTROLS = "zero,negated,random:2"
CONFIGS = 10
"""The baseline, two steered configs, the zero control of both, and three more controls of each."""


def write_large_run(
    folder: Path, tasks: int, attempts: int, keep: Callable[[TrialSpec], bool] = lambda _: True
) -> Plan:
    """Write the run folder of a sweep that ended before its reports were written, trajectories included.

    Args:
        folder: to make.
        tasks: number of tasks, a tenth as many families.
        attempts: of each task and config, of which there are `CONFIGS`.
        keep: the trials that are on record.
    """
    built = built_direction()
    direction = built.direction
    steered = [steered_config(direction, 1, alpha) for alpha in EFFECTS]
    matched = {"random": [random_control(direction, number) for number in range(2)]}
    controls = control_configs(parse_controls(CONTROLS), steered, direction, matched)
    configs = (Config("baseline", "baseline"), *steered, *controls)
    named = tuple(
        Task(f"task-{number}", Path(f"task-{number}"), "Do it.", f"{number:064x}", metadata={
            "family": f"family-{number % max(tasks // 10, 1)}", "split": "held-out" if number % 2 else "trained"
        })
        for number in range(tasks)
    )  # fmt: skip
    settings = Settings("m", "bash-block", "brief", 20, 96, 0.7)
    plan = Plan(folder.name, folder, named, configs, interleave(named, configs, attempts, 0), settings)
    (folder / "vectors").mkdir(parents=True)
    direction.save(folder / "vectors" / "dir.safetensors")
    found = StudyDirection(direction, "the traces", built)
    built.ranking.write_csv(folder / "vectors" / "ranking.csv", found.flags)
    options = SweepOptions(tasks="multi", controls=parse_controls(CONTROLS), attempts=attempts, gate="no_harm(0.05)")
    about = {"options": options.recorded("sweep"), "images": {task.name: "sha256:0" for task in named}}
    provenance.write(folder, command_line=["pytest"], plan=plan, health=HEALTH.to_json(), direction=found, **about)
    with (folder / TRIALS).open("w") as file, _unsynced():  # else as `Ledger.append` writes
        for spec, outcome in zip(plan.trials, draw_outcomes(plan), strict=True):
            if keep(spec):
                file.write(json.dumps(outcome.to_json(), allow_nan=False) + "\n")
                _write_trajectory(plan, spec, outcome)
    return plan


@contextmanager
def _unsynced() -> Iterator[None]:
    """Without waiting for the disk, which takes 10 ms a file."""
    with patch("os.fsync"):
        yield


def draw_outcomes(plan: Plan) -> Iterator[Outcome]:
    """An outcome for each trial: tasks differ in difficulty (logit SD 1.5), and one trial in 500 is an error.

    A trial of the zero control ends as that of the baseline does.
    """
    rng = np.random.default_rng(0)
    difficulty = {task.name: rng.normal(0.0, 1.5) for task in plan.tasks}
    chance: dict[tuple[str, int], float] = {}
    for number, spec in enumerate(plan.trials):
        config = plan.config(spec.config)
        kind = config.kind if config.control is None else config.control.kind
        effect = {"steered": 1.0, "negated": -1.0}.get(kind, 0.0) * EFFECTS[abs(config.alpha)] if config.alpha else 0.0
        same = kind in ("baseline", "zero")
        draw = chance.setdefault((spec.task, spec.attempt), rng.random()) if same else rng.random()
        solved = draw < 1 / (1 + np.exp(-difficulty[spec.task] - effect))
        steps = 1 + int(draw * 7)
        failed = number % 500 == 499 and not same
        yield Outcome(
            run=plan.run, task=spec.task, config=spec.config, layer=config.layer, alpha=config.alpha,
            attempt=spec.attempt, seed=spec.seed, outcome="error" if failed else "solved" if solved else "unsolved",
            reward=None if failed else float(solved), rewards={} if failed else {"reward": float(solved)},
            steps=steps, parse_fail=int(draw * 50) % 3 // 2, no_cmd=int(draw * 90) % 3 // 2,
            end_reason="error" if failed else "done", prompt_tokens=300 * steps, completion_tokens=20 * steps,
            model_s=round(2.0 * steps, 3), sandbox_s=0.01 * steps, wall_s=round(2.0 * steps + 2, 3),
            started="2026-11-25T03:45:02.655+00:00", worker=f"gw{number % 4}",
            measured=tuple(
                Measured(steer.layer, steer.op, target, target)
                for steer, target in zip(config.steers, config.targets, strict=True)
            ),
            error="DockerException: the container went away" if failed else "",
        )  # fmt: skip


def _write_trajectory(plan: Plan, spec: TrialSpec, outcome: Outcome) -> None:
    opening = ({"role": "system", "content": "You act."}, {"role": "user", "content": f"Do {spec.task}."})
    said = Parse("strict", ("ls",))
    steps = tuple(
        Step(index, Reply(f"```bash\nls {index}\n```", "stop", 300, 20, 2.0), said, observation=f"file-{index}\n" * 8)
        for index in range(outcome.steps)
    )
    write_trajectory(
        plan.folder / "trajectories" / f"{spec.id}.json",
        spec=spec, task=plan.task(spec.task), config=plan.config(spec.config), model_name="m", protocol="bash-block",
        episodes=[Episode(opening, steps, outcome.end_reason)], outcome=outcome,
    )  # fmt: skip
