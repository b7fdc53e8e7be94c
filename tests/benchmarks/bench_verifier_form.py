"""What a verifier in a container of its own costs.

Bundled tasks are judged by turns in the agent's container, after it was taken back, and in a container of the
verifier's own.
"""

from __future__ import annotations

import time
from dataclasses import replace
from statistics import median

import pytest
from support.benchmarks import by_turns

from capvec.sandbox.docker import DockerProvider
from capvec.sandbox.verifier import verify
from capvec.task_records import Task
from capvec.tasks.loader import load_tasks

pytestmark = pytest.mark.bench


def beside(task: Task) -> Task:
    """The task with its verifier in the agent's container."""
    return replace(task, verifier=replace(task.verifier, environment=None))


def judge(task: Task) -> float:
    """Seconds from the end of an agent's work to the reward."""
    with DockerProvider().open(task, run="benchmark", trial=task.name) as sandbox:
        sandbox.run("true", timeout_s=10)
        began = time.perf_counter()
        verify(sandbox, task)
        return time.perf_counter() - began


def test_verifier_form(bench):
    sizes = bench.sizes(
        {
            "rounds": 7,
            "families": ("append-line", "count-lines", "csv-sum", "fix-script", "make-folders", "pack-folder"),
        },
        {"rounds": 1, "families": ("append-line",)},
    )
    all_of_them: dict[str, list[float]] = {"beside": [], "apart": []}

    def row(name: str, found: dict[str, list[float]]) -> None:
        difference = median(apart - one for one, apart in zip(found["beside"], found["apart"], strict=True))
        bench.add(
            f"{name:16}{median(found['beside']):>14.2f} s beside the agent{median(found['apart']):>8.2f} s apart"
            f"{difference:>8.2f} s more",
            family=name, **found, difference=difference,
        )  # fmt: skip

    for name in sizes.families:
        (task,) = load_tasks(f"{name}-1").tasks
        DockerProvider().prepare(task)
        sides = {"beside": lambda task=task: judge(beside(task)), "apart": lambda task=task: judge(task)}
        found = by_turns(sizes.rounds, sides)
        for side, seconds in found.items():
            all_of_them[side] += seconds
        row(name, found)
    row("all", all_of_them)
