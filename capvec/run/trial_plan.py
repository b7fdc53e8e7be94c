"""The plan of a study: its tasks and attempts, as dealt to this shard, under all of its configs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from capvec.plan.dealing import Dealing, deal
from capvec.plan.plan import Plan, Settings, interleave
from capvec.plan.seeds import drawn_order
from capvec.records import Config
from capvec.run.preparation import PreparedTasks
from capvec.run.study import Study
from capvec.task_records import Task


def dealt(study: Study) -> tuple[Dealing | None, tuple[Task, ...]]:
    """How the plan is dealt, and the tasks of this shard; None and all tasks without `--shard`."""
    options = study.options
    if options.shard is None:
        return None, study.tasks
    dealing = deal(options.shard, [task.name for task in study.tasks], options.attempts, options.seed)
    here = {name for name, _ in dealing.here}
    return dealing, tuple(task for task in study.tasks if task.name in here)


def plan_of(
    study: Study,
    folder: Path,
    configs: tuple[Config, ...],
    settings: Settings,
    prepared: PreparedTasks,
    dealing: Dealing | None,
) -> Plan:
    """The plan, with its trials in the order in which they begin, for tasks that `dealt` chose and that are fit."""
    options, tasks = study.options, prepared.tasks
    drawn = drawn_order((task.name for task in tasks), options.seed) if options.sequential else ()
    order = sorted(tasks, key=lambda task: drawn.index(task.name)) if drawn else tasks
    trials = interleave(order, configs, options.attempts, options.seed)
    if dealing is not None:
        here = dealing.here
        trials = tuple(trial for trial in trials if (trial.task, trial.attempt) in here)
    plan = Plan(folder.name, folder, tasks, configs, trials, settings, study.name)
    return replace(
        plan,
        sequential=options.sequential,
        effect=options.effect,
        left_out={**study.left_out, **prepared.unfit},
        unproved=prepared.unproved,
        dealing=dealing,
    )
