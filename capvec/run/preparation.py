"""Makes tasks ready for trials: their images, and the proof that each can be judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

from capvec.errors import InfrastructureError, UsageError
from capvec.plan.options import SweepOptions
from capvec.run.check import Checker, TaskCheck, refusal
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
        InfrastructureError: Docker does not answer; or it cannot do with an image of a task what is asked, which the
            message names, and that is to end the work.
    """
    found = dict[str, str | TaskCheck]()

    def prepare(task: Task) -> tuple[Task, str | TaskCheck]:
        go_on()
        try:
            return task, sandboxes.prepare(task)
        except UsageError as error:
            if not keep_going:
                raise
            return task, TaskCheck.without(task, error)
        except InfrastructureError as error:
            sandboxes.check()
            if not keep_going:
                raise InfrastructureError(f"task {task.name}: {error}") from error
            return task, TaskCheck.without(task, error)

    def show_all() -> None:
        at_work = [task.name for task in tasks if task.name not in found][:_JOBS]
        show(Work("images ready", len(found), len(tasks) - len(found), tuple(at_work)))

    with ThreadPoolExecutor(_JOBS) as pool:
        show_all()
        try:
            for done in as_completed([pool.submit(prepare, task) for task in tasks]):
                task, image = done.result()
                found[task.name] = image
                show_all()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            docker_cli.end_all()
            raise
    in_order = [(task.name, found[task.name]) for task in tasks]
    images = {name: image for name, image in in_order if isinstance(image, str)}
    return images, {name: check for name, check in in_order if isinstance(check, TaskCheck)}


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
