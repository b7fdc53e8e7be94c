"""A calibration's run folder, without having run it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from capvec.directions.direction import Direction, random_control
from capvec.engines.protocol import EngineInfo
from capvec.plan.plan import Plan, Settings, interleave
from capvec.results import provenance
from capvec.results.direction import DirectionSummary
from capvec.results.ledger import reconcile
from capvec.results.zero_control import Comparison
from capvec.studies.calibration.configs import Arms, arms_of, configs_of
from capvec.studies.calibration.judge import SELECTED, judge_calibration
from capvec.studies.calibration.positive_controls import PositiveControls
from capvec.studies.calibration.selection import GridPoint, Selection
from capvec.studies.calibration.study import parse_calibration_options
from capvec.studies.calibration.verdicts import SplitOutcomes
from capvec.studies.reporting import write_all
from capvec.task_records import Task
from support.outcomes import outcome
from support.results import results_of

SETTINGS = Settings("m", "bash-block", "zero-shot", 4, 32, 0.7)


def task(name, family, split="trained"):
    return Task(name, Path(name), f"Do {name}.", "0" * 64, metadata={"family": family, "split": split})


def point(mode="skill", layer=26, alpha=1.0, dose=0.3, n=20, solved=10, parse_fail=0.0):
    return GridPoint(mode, layer, alpha, 100.0, dose, n, solved, 0, parse_fail, 0.0)


def a_selection(**changes):
    base = Selection(
        model="m", revision="1", tasks="full", dev_families=("a",), contrast_tasks=("a-1",), attempts=1, seed=0,
        settings=SETTINGS, rules=("rule",), baseline=GridPoint("baseline", None, None, None, None, 4, 2, 0, 0.0, 0.0),
        skill=point(layer=1, alpha=1.0), format=point("format", 2, 0.5), grid=(point(), point("format", 2, 0.5)),
    )  # fmt: skip
    return replace(base, **changes)


def write_calibration_run(folder):
    """The run folder, without trajectories. Returns what the terminal shows.

    The positive control solves all 12 tasks, its reverse none, and every other config half of them.
    """
    (folder / "vectors").mkdir(parents=True)
    tasks = tuple(task(f"t{k:02}", f"fam{k % 4}", "held-out" if k % 4 == 3 else "trained") for k in range(12))
    skill = Direction(np.ones((3, 2), np.float32), np.full(3, 10.0))
    configs = configs_of(a_selection(), skill, skill, [random_control(skill, 0)])
    plan = Plan("r", folder, tasks, configs, interleave(tasks, configs, 1, 0), SETTINGS, "calibration")
    options = parse_calibration_options(
        {
            "model": "m",
            "seed": "0",
            "temperature": "0.7",
            "protocol": "bash-block",
            "tasks": "full",
            "controls": "random:1",
        }
    )
    planted = PositiveControls(skill, "two prompts", format=skill, contrast_tasks=("a-1",), revision="1")
    health = EngineInfo("m", "1", "Arch", 3, 2, 512, "float32", "cpu", "0")
    provenance.write(
        folder,
        command_line=["pytest"],
        options=options.recorded("calibration") | {SELECTED: a_selection().to_json()},
        plan=plan,
        health=health.to_json(),
        direction=planted,
        images={one.name: "sha256:0" for one in tasks},
    )
    solved = dict(zip(arms_of(a_selection(), 1).names, (6, 12, 0, 6, 6, 6, 6), strict=True))
    outcomes = [
        outcome(
            one.config,
            one.task,
            "solved" if int(one.task[1:]) < solved[one.config] else "unsolved",
            parse_fail=int(one.config.startswith("format")),
        )
        for one in plan.trials
    ]
    lines = [json.dumps(one.to_json()) + "\n" for one in outcomes]
    (folder / "trials.jsonl").write_text("".join(lines))
    zero = [Comparison("t00", 1, 3, None, False)]
    judgement = judge_calibration(plan, outcomes, a_selection(), 1, zero)
    ran = [one.id for one in outcomes]
    about = {"judgement": judgement, "gates": judgement.gates, "completeness": reconcile(ran, outcomes, ran)}
    return write_all(results_of(plan, outcomes, direction=DirectionSummary.of(planted), **about))


def trials(config, solved, n=20, **changes):
    """One trial of each of `n` tasks, the first ones solved."""
    return [outcome(config, f"t{k:02}", "solved" if k < solved else "unsolved", **changes) for k in range(n)]


def measured(*groups, held_out=()):
    return SplitOutcomes([o for group in groups for o in group], [o for group in held_out for o in group])


ARMS = Arms("p", "r", ("random1",), "z", "f", "g")


def ideal():
    """Everything as it should be, on 20 tasks."""
    return measured(
        trials("baseline", 10), trials("p", 20), trials("r", 0), trials("random1", 11), trials("z", 10),
        trials("f", 10, parse_fail=2), trials("g", 10),
    )  # fmt: skip
