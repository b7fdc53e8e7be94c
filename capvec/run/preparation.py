"""Makes tasks ready for trials: their images, and the proof that each can be judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from capvec.errors import UsageError
from capvec.plan.options import SweepOptions
from capvec.records import Task
from capvec.run.check import Checker, TaskCheck, refusal
from capvec.run.control import Scale
from capvec.run.proofs import Proofs
from capvec.sandbox.docker import DockerProvider
from capvec.text import counted, one_line

NOT_CHECKED, NO_SOLUTION = "it was not checked (--no-check)", "it has no solution"
_JOBS = 4
"""Tasks to check at a time."""


@dataclass(frozen=True)
class PreparedTasks:
    """The tasks that run, and what is known of them."""

    tasks: tuple[Task, ...]
    images: Mapping[str, str]
    """Task → id of its image."""
    unfit: Mapping[str, str]
    """Task that is left out, since nothing can be measured with it → why."""
    unproved: Mapping[str, str]
    """Task that runs, and of which it is not known that it can be solved → why."""


class TaskPreparation:
    """Prepares the tasks of a run."""

    def __init__(self, options: SweepOptions, say: Callable[[str], None]) -> None:
        """Do it as the options say, and print progress with `say`."""
        self._options, self._print = options, say
        self._sandboxes = DockerProvider.of(options, self._say)
        scale = Scale(options.reward, options.solved_at)
        self._proofs = Proofs(scale, options.capabilities, options.keep_processes)
        self._checker = Checker(self._sandboxes, scale, jobs=_JOBS, say=self._say)

    def prepare(self, tasks: Sequence[Task]) -> PreparedTasks:
        """Build the images, and check the tasks that were not proved before on this machine.

        Raises:
            UsageError: an image does not build, or nothing can be measured with a task (with `--skip-unfit`, with any).
            InfrastructureError: Docker does not answer.
        """
        images, unbuilt = self._images(tasks)
        built = [task for task in tasks if task.name in images]
        checks = unbuilt | ({} if self._options.no_check else self._checks(built, images))
        unfit = [check for check in checks.values() if check.problem]
        if unfit and not (self._options.skip_unfit and len(unfit) < len(tasks)):
            ways = ("leave them out with --skip-unfit, or ",) if len(unfit) < len(tasks) else ()
            raise refusal(unfit, len(tasks), f"{''.join(ways)}run them as they are with --no-check")
        left_out = {check.task: check.reason for check in unfit}
        fit = tuple(task for task in built if task.name not in left_out)
        unproved = {task.name: NOT_CHECKED for task in fit if task.name not in checks}
        unproved |= {
            task.name: NO_SOLUTION for task in fit if task.name in checks and checks[task.name].solution is None
        }
        prepared = PreparedTasks(fit, images, left_out, unproved)
        for line in _in_words(prepared):
            self._say(line)
        return prepared

    def stop(self) -> None:
        """End a preparation that another thread runs, as soon as its container can be removed."""
        self._checker.stop()

    def _images(self, tasks: Sequence[Task]) -> tuple[dict[str, str], dict[str, TaskCheck]]:
        """The images, and the tasks that `--skip-unfit` leaves out since theirs cannot be had."""
        images, unbuilt = dict[str, str](), dict[str, TaskCheck]()
        for task in tasks:
            self._checker.go_on()
            try:
                images[task.name] = self._sandboxes.prepare(task)
            except UsageError as error:
                if not self._options.skip_unfit:
                    raise
                unbuilt[task.name] = TaskCheck.unbuilt(task, error)
        return images, unbuilt

    def _say(self, line: str) -> None:
        self._print(one_line(line))

    def _checks(self, tasks: Sequence[Task], images: Mapping[str, str]) -> dict[str, TaskCheck]:
        proofs = {task.name: self._proofs.read(task, images[task.name]) for task in tasks}
        kept = {name: proof for name, proof in proofs.items() if proof is not None}
        new = [task for task in tasks if task.name not in kept]
        if new:
            self._say(f"checking {counted(len(new), 'task')} that this machine has not proved before")
        checks = self._checker.check(new)
        for task, check in zip(new, checks, strict=True):
            self._proofs.keep(task, images[task.name], check)
        return kept | {check.task: check for check in checks}


def _in_words(prepared: PreparedTasks) -> list[str]:
    lines = [f"left out {name}: {why}" for name, why in prepared.unfit.items()]
    if NO_SOLUTION in prepared.unproved.values():
        names = ", ".join(prepared.unproved)
        lines.append(f"{counted(len(prepared.unproved), 'task')} unproved, without a solution: {names}")
    return lines
