"""Makes tasks ready for trials: their images, and the proof that each can be judged."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial

from capvec.errors import InfrastructureError, SandboxUnavailable, UsageError
from capvec.plan.options import SweepOptions
from capvec.run.blame import tried_again
from capvec.run.check import Checker
from capvec.run.checked import TaskCheck, refusal
from capvec.run.control import Scale
from capvec.run.progress import Work
from capvec.run.proofs import Proofs
from capvec.run.status_line import ProgressDisplay
from capvec.sandbox import docker_cli
from capvec.sandbox.base import SandboxProvider
from capvec.sandbox.docker import DockerProvider
from capvec.sandbox.hosts import DockerHosts
from capvec.task_records import Task
from capvec.text import counted, one_line

NOT_CHECKED, NO_SOLUTION = "it was not checked (--no-check)", "it has no solution"
_JOBS = 4
"""Tasks to make ready at a time."""
_LOOK_S = 0.2
"""Between two looks whether the work was ended meanwhile."""


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


def prepare_images(
    sandboxes: SandboxProvider,
    tasks: Sequence[Task],
    *,
    keep_going: bool,
    go_on: Callable[[], None] = lambda: None,
    show: Callable[[Work], None] = lambda _work: None,
) -> tuple[dict[str, str], dict[str, TaskCheck]]:
    """Build, pull or find the images of tasks, several at a time.

    Args:
        sandboxes: whose images they are.
        tasks: to be checked, or run.
        keep_going: whether a task whose images cannot be had is one of the result, and does not end the work.
        go_on: called before each task, in any thread; an exception of it ends the work.
        show: takes the progress.

    Returns:
        Task → id of its image; and task → its check, for those whose images cannot be had.

    Raises:
        UsageError: the images of a task cannot be had, and that is to end the work.
        InfrastructureError: Docker does not answer, or fails with a task and nothing shows that the task is at
            fault; or the task is, which the message names, and that is to end the work.
    """
    work = _Images(sandboxes, keep_going, go_on)
    found = dict[str, str | TaskCheck]()

    def show_all() -> None:
        at_work = [task.name for task in tasks if task.name not in found][:_JOBS]
        show(Work("images ready", len(found), len(tasks) - len(found), tuple(at_work)))

    with ThreadPoolExecutor(_JOBS) as pool:
        show_all()
        try:
            for done in as_completed([pool.submit(work.first, task) for task in tasks]):
                task, image = done.result()
                if image is not None:
                    found[task.name] = image
                    show_all()
            ready = next((task for task in tasks if isinstance(found.get(task.name), str)), None)
            for task in tasks:
                if task.name not in found:
                    found[task.name] = work.again(task, ready)
                    show_all()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            docker_cli.end_all()
            raise
    in_order = [(task.name, found[task.name]) for task in tasks]
    images = {name: image for name, image in in_order if isinstance(image, str)}
    return images, {name: check for name, check in in_order if isinstance(check, TaskCheck)}


@dataclass(frozen=True)
class _Images:
    """As the arguments of `prepare_images` of the same names."""

    sandboxes: SandboxProvider
    keep_going: bool
    go_on: Callable[[], None]

    def first(self, task: Task) -> tuple[Task, str | TaskCheck | None]:
        """A task, and its image or why it has none; None where Docker fails with it, and answers."""
        try:
            return task, self._prepare(task)
        except SandboxUnavailable:
            self.sandboxes.check()
            return task, None

    def again(self, task: Task, ready: Task | None) -> str | TaskCheck:
        """The same of a task with which Docker failed, and not with `ready`."""
        witness = None if ready is None else partial(self.sandboxes.prepare, ready)
        image = tried_again(task.name, partial(self._prepare, task), witness, self._pause)
        return self._without(task, image) if isinstance(image, SandboxUnavailable) else image

    def _prepare(self, task: Task) -> str | TaskCheck:
        self.go_on()
        try:
            return self.sandboxes.prepare(task)
        except SandboxUnavailable:
            raise
        except (UsageError, InfrastructureError) as error:
            return self._without(task, error)

    def _without(self, task: Task, error: UsageError | InfrastructureError) -> TaskCheck:
        if self.keep_going:
            return TaskCheck.without(task, error)
        if isinstance(error, UsageError):
            raise error
        raise InfrastructureError(f"task {task.name}: {error}") from error

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.go_on()
            time.sleep(_LOOK_S)


class TaskPreparation:
    """Prepares the tasks of a run."""

    def __init__(self, options: SweepOptions, hosts: DockerHosts, say: Callable[[str], None]) -> None:
        """Do it as the options say on these hosts, and print progress with `say`."""
        self._options, self._print = options, say
        self._display = ProgressDisplay(self._write, live=False, at_a_time=_JOBS)
        self._sandboxes = DockerProvider.of(options, self._say, hosts)
        scale = Scale(options.reward, options.solved_at)
        self._proofs = Proofs(scale, options.capabilities, options.keep_processes)
        self._checker = Checker(self._sandboxes, scale, jobs=_JOBS, show=self._display.update)

    def prepare(self, tasks: Sequence[Task]) -> PreparedTasks:
        """Build the images, and check the tasks that were not proved before on this machine.

        Raises:
            UsageError: an image does not build, or nothing can be measured with a task (with `--skip-unfit`, with any).
            InfrastructureError: Docker does not answer.
        """
        images, unbuilt = prepare_images(
            self._sandboxes,
            tasks,
            keep_going=self._options.skip_unfit,
            go_on=self._checker.go_on,
            show=self._display.update,
        )
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

    def _say(self, line: str) -> None:
        self._print(one_line(line))

    def _write(self, line: str) -> None:
        self._say(line.strip().removeprefix("capvec: "))

    def _checks(self, tasks: Sequence[Task], images: Mapping[str, str]) -> dict[str, TaskCheck]:
        proofs = {task.name: self._proofs.read(task, images[task.name]) for task in tasks}
        kept = {name: proof for name, proof in proofs.items() if proof is not None}
        new = [task for task in tasks if task.name not in kept]
        if new:
            self._say(f"checking {counted(len(new), 'task')} that this machine has not proved before")

        def keep(task: Task, check: TaskCheck) -> None:
            self._proofs.keep(task, images[task.name], check)

        checks = self._checker.check(new, [task for task in tasks if task.name in kept], keep=keep)
        return kept | {check.task: check for check in checks}


def _in_words(prepared: PreparedTasks) -> list[str]:
    lines = [f"left out {name}: {why}" for name, why in prepared.unfit.items()]
    if NO_SOLUTION in prepared.unproved.values():
        names = ", ".join(prepared.unproved)
        lines.append(f"{counted(len(prepared.unproved), 'task')} unproved, without a solution: {names}")
    return lines
