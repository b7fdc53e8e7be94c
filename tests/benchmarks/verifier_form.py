"""What a verifier in a container of its own costs: `python tests/benchmarks/verifier_form.py [ROUNDS]`.

Bundled tasks are judged by turns in the agent's container, after it was taken back, and in a container of the
verifier's own. The two forms alternate, so that whatever else the machine does falls on both.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from statistics import median

from capvec.sandbox.docker import DockerProvider
from capvec.sandbox.verifier import verify
from capvec.task_records import Task
from capvec.tasks.loader import load_tasks

FAMILIES = ("append-line", "count-lines", "csv-sum", "fix-script", "make-folders", "pack-folder")


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


def main() -> None:
    """Print the medians of each family, and of all."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    shared, separate = [], []
    print(f"{'family':16}{'beside the agent':>18}{'apart':>8}{'difference':>12}")
    for name in FAMILIES:
        (task,) = load_tasks(f"{name}-1").tasks
        DockerProvider().prepare(task)
        pairs = [(judge(beside(task)), judge(task)) for _ in range(rounds)]
        shared += [one for one, _ in pairs]
        separate += [other for _, other in pairs]
        _print(name, [one for one, _ in pairs], [other for _, other in pairs])
    _print("all", shared, separate)


def _print(name: str, shared: list[float], separate: list[float]) -> None:
    difference = median(other - one for one, other in zip(shared, separate, strict=True))
    print(f"{name:16}{median(shared):>16.2f} s{median(separate):>6.2f} s{difference:>10.2f} s", flush=True)


if __name__ == "__main__":
    main()
