"""Proves tasks in real containers: the own solution of each must be judged solved, and doing nothing must not.

Both run as a trial would run them, in a container of the task's own, with the same verifier.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import replace
from functools import partial
from threading import Event

from capvec.decimals import as_written
from capvec.errors import (
    EnvironmentFault,
    InfrastructureError,
    ProcessStopped,
    SandboxUnavailable,
    StepFault,
    StorageExceeded,
    UsageError,
    VerifierFault,
)
from capvec.records import CommandResult
from capvec.run.blame import tried_again
from capvec.run.checked import Attempt, TaskCheck
from capvec.run.control import Scale
from capvec.run.progress import Work
from capvec.run.suspension import unsuspended
from capvec.sandbox.base import ENDED, Sandbox
from capvec.sandbox.docker import DockerProvider
from capvec.sandbox.ownership import closed_to_root
from capvec.sandbox.reaper import reap
from capvec.sandbox.skills import skills_in_words
from capvec.sandbox.solution import has_solution, solve
from capvec.sandbox.steps import begin, goes_on
from capvec.sandbox.symptoms import PROGRAM, Symptom, symptoms
from capvec.sandbox.verifier import verify
from capvec.task_records import Task, TaskStep
from capvec.tasks.unchanged import Unchanged
from capvec.text import one_line, printable

_SHOWN = 5
"""Last lines of an output to show."""
_PRINTED = " and printed: "
"""In the message of a fault, what a program printed comes after it."""
_SCRIPTS = ("tests/test.sh", "solution/solve.sh", "steps/*/tests/test.sh", "steps/*/solution/solve.sh")
_LONGEST_FIRST_LINE = 256
"""Bytes; Linux reads no more of it."""
_CUT_SHORT = "its check ends before its verifiers judge"


class Checker:
    """Checks tasks, several at a time."""

    def __init__(
        self, sandboxes: DockerProvider, scale: Scale, *, jobs: int, show: Callable[[Work], None] = lambda _work: None
    ) -> None:
        """Make one that checks `jobs` tasks at a time, and shows its progress whenever a task begins or ends."""
        self._sandboxes, self._scale, self._jobs, self._show = sandboxes, scale, jobs, show
        self._run = f"check-{os.getpid()}"
        self._stopped, self._unchanged = Event(), Unchanged()

    def check(
        self,
        tasks: Sequence[Task],
        proved: Sequence[Task] = (),
        *,
        keep: Callable[[Task, TaskCheck], None] = lambda _task, _check: None,
    ) -> tuple[TaskCheck, ...]:
        """Check each task once; in their order. What fails in the container of a task concerns that task alone.

        Tasks with which Docker fails are checked again after all others: such a fault is Docker's until it is shown to
        be the task's (`capvec.run.blame`).

        Args:
            tasks: to check.
            proved: others, with which all goes well.
            keep: is given each result as soon as it is there, so that it outlives what ends the check.

        Raises:
            InfrastructureError: Docker does not answer, or fails with a task and nothing shows that the task is at
                fault.
        """
        found, named = dict[str, TaskCheck](), {task.name: task for task in tasks}

        def show() -> None:
            # The pool takes them in order: at work are the first that have no result.
            at_work = [task.name for task in tasks if task.name not in found][: self._jobs]
            self._show(Work("tasks checked", len(found), len(tasks) - len(found), tuple(at_work)))

        def add(check: TaskCheck) -> None:
            found[check.task] = check
            keep(named[check.task], check)
            show()

        with ThreadPoolExecutor(self._jobs) as pool:
            show()
            try:
                for done in as_completed([pool.submit(self._first, task) for task in tasks]):
                    if (check := done.result()) is not None:
                        add(check)
                judged = (task for task in tasks if task.name in found and not found[task.name].fault)
                witness = next(iter((*judged, *proved)), None)
                for task in tasks:
                    if task.name not in found:
                        add(self._again(task, witness))
            except BaseException:
                self.stop()
                raise
        return tuple(found[task.name] for task in tasks)

    def stop(self) -> None:
        """End a check that another thread runs, and remove its containers."""
        self._stopped.set()
        with suppress(SandboxUnavailable):  # Docker is gone, and so are they
            reap(self._run, self._sandboxes.hosts)

    def go_on(self) -> None:
        """Do nothing, unless the check was stopped.

        Raises:
            InfrastructureError: it was.
        """
        if self._stopped.is_set():
            raise InfrastructureError("the check of the tasks was stopped")

    def _first(self, task: Task) -> TaskCheck | None:
        """The first check of a task; None where Docker fails with it, and answers."""
        try:
            return self._check_one(task)
        except SandboxUnavailable:
            self._sandboxes.check()
            return None

    def _again(self, task: Task, witness: Task | None) -> TaskCheck:
        """Further checks of a task with which Docker failed, and not with `witness`."""
        well = None if witness is None else partial(self._within_bounds, witness, solved=False)
        check = tried_again(task.name, partial(self._check_one, task), well, self._stopped.wait)
        return TaskCheck.without(task, check, _CUT_SHORT) if isinstance(check, SandboxUnavailable) else check

    def _check_one(self, task: Task) -> TaskCheck:
        """Check a task.

        Raises:
            SandboxUnavailable: Docker fails.
        """
        started = time.monotonic()
        try:
            nothing = self._within_bounds(task, solved=False)
            solution = self._within_bounds(task, solved=True) if has_solution(task) else None
            kept = None
            if solution is not None and solution.ended and not solution.solved:
                kept = self._within_bounds(task, solved=True, keep_processes=True)
            self._unchanged.check(task)
        except (UsageError, EnvironmentFault) as error:
            return TaskCheck.without(task, error)
        except InfrastructureError as error:
            self.go_on()  # `stop` removes containers that are at work
            if isinstance(error, SandboxUnavailable):
                raise
            return TaskCheck.without(task, error, _CUT_SHORT)
        networked = any(environment.limits.network for environment in task.environments)
        seconds = round(time.monotonic() - started, 3)
        capable = self._sandboxes.capabilities == "default"
        return TaskCheck(task.name, nothing, solution, seconds, networked, capable, self._scale.solved_at, kept)

    def _within_bounds(self, task: Task, *, solved: bool, keep_processes: bool = False) -> Attempt:
        """Make an attempt; make it anew where this process was suspended, or its host is lost and there are others."""
        host = ""
        try:
            with unsuspended(), self._sandboxes.place() as sandboxes:
                host = sandboxes.host
                kept = replace(sandboxes, keep_processes=keep_processes or sandboxes.keep_processes)
                return self._attempt(kept, task, solved=solved)
        except StorageExceeded as exceeded:
            return Attempt(None, evidence=(str(exceeded),))
        except InfrastructureError as error:
            self.go_on()
            if not (isinstance(error, ProcessStopped) or self._sandboxes.is_lost(host)):
                raise
        return self._within_bounds(task, solved=solved, keep_processes=keep_processes)

    def _attempt(self, sandboxes: DockerProvider, task: Task, *, solved: bool) -> Attempt:
        trial = f"{task.name}-{'solution' if solved else 'nothing'}"
        ran: list[tuple[str, CommandResult | None]] = []
        self.go_on()
        with sandboxes.open(task, run=self._run, trial=trial) as sandbox:
            self.go_on()  # `stop` removed the containers that it saw
            closed = "" if solved or sandboxes.capabilities == "default" else closed_to_root(sandbox, task)
            rewards = list[Mapping[str, float]]()
            try:
                for step in task.steps:
                    rewards.append(_do(sandbox, task, step, ran, solved=solved))
                    if not goes_on(step, rewards[-1]):
                        break
                judged = self._scale.judged(task, rewards)
            except (VerifierFault, StepFault) as fault:
                if isinstance(fault, VerifierFault):
                    ran += [(note, None) for note in fault.notes]
                what, _, printed = printable(str(fault)).partition(_PRINTED)
                lines = (f"{what}{_PRINTED.rstrip()}", *(f"  {line}" for line in printed.splitlines()))
                evidence = (*_evidence(ran), *(lines if printed else (what,)))
                signs = _signs(task, ran, CommandResult(printed or what, None))
                return Attempt(None, False, evidence, signs, _ended(ran), closed=closed)
        unreached = "".join(step.name for step in task.steps[len(rewards) :][:1])
        if unreached:
            ran.append((_below(task.steps[len(rewards) - 1], rewards[-1]), None))
        evidence, signs = tuple(_evidence(ran)), _signs(task, ran)
        return Attempt(judged.reward, judged.solved, evidence, signs, _ended(ran), unreached, closed)


def _do(
    sandbox: Sandbox, task: Task, step: TaskStep, ran: list[tuple[str, CommandResult | None]], *, solved: bool
) -> Mapping[str, float]:
    """Do one step and add what ran to `ran`. Returns its rewards; empty where it needs what was not done before.

    Raises:
        EnvironmentFault: its agent cannot read the task's skills.
    """
    of = f" of step {step.name}" if step.name else ""
    try:
        begin(sandbox, task, step)
    except StepFault:
        if solved or step == task.steps[0]:
            raise
        return {}
    if task.skills_dir is not None and not solved:
        skills_in_words(sandbox, task.skills_dir)
    if solved:
        ran.append((f"the solution{of}", solve(sandbox, task, step)))
    verified = verify(sandbox, task, step)
    ran += [(note, None) for note in verified.notes]
    ran.append((f"the verifier{of}", verified.ran))
    if verified.logs:
        ran.append((f"what the verifier{of} wrote to /logs/verifier", CommandResult(verified.logs, None)))
    return verified.rewards


def _evidence(ran: Sequence[tuple[str, CommandResult | None]]) -> Iterator[str]:
    for what, result in ran:
        if result is None:
            yield what
            continue
        lines = [one_line(line) for line in result.output.strip().splitlines()[-_SHOWN:]]
        if result.exit_code is None and not result.timed_out:
            yield f"{what} ends with:"
        else:
            ended = "ran out of time" if result.timed_out else f"ended with exit code {result.exit_code}"
            yield f"{what} {ended} and printed {'at last:' if lines else 'nothing'}"
        yield from (f"  {line}" for line in lines)


def _below(step: TaskStep, rewards: Mapping[str, float]) -> str:
    """What a step earned of the rewards that its `min_reward` asks for."""
    earned = (
        f"{name} {as_written(rewards[name]) if name in rewards else 'missing'}, and min_reward asks for "
        f"{as_written(least)}"
        for name, least in step.min_reward.items()
    )
    return f"in the step {step.name}: {'; '.join(earned)}"


def _ended(ran: Sequence[tuple[str, CommandResult | None]]) -> bool:
    """Whether a note says that processes were ended."""
    return any(result is None and what.startswith(ENDED) for what, result in ran)


def _signs(task: Task, ran: Sequence[tuple[str, CommandResult | None]], *others: CommandResult) -> tuple[Symptom, ...]:
    """The first sign of each kind; where a program is missing, the script whose line ends are the cause."""
    results = [*(result for _, result in ran if result is not None), *others]
    found = {symptom.kind: symptom for result in reversed(results) for symptom in symptoms(result)}
    if PROGRAM in found and (script := _with_windows_line_ends(task)):
        cause = f"{script} has Windows line ends, so that its first line names none that exists; save it with Unix ones"
        found[PROGRAM] = Symptom(PROGRAM, cause)
    return tuple(found.values())


def _with_windows_line_ends(task: Task) -> str:
    """The first script of a task, by its path in the folder, whose first line names a program so; empty if none has."""
    scripts = (script for pattern in _SCRIPTS for script in sorted(task.path.glob(pattern)))
    for script in scripts:
        with script.open("rb") as file:
            first = file.readline(_LONGEST_FIRST_LINE)
        if first.startswith(b"#!") and first.endswith(b"\r\n"):
            return str(script.relative_to(task.path))
    return ""
