"""`capvec check`: tasks proved in real containers."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from capvec.commands.shared import say

if TYPE_CHECKING:
    from capvec.run.checked import TaskCheck
    from capvec.task_records import Task

EPILOG = """\
Every task runs twice, as a trial would: its own solution must be judged
solved, and doing nothing must not. A sweep checks what was not proved before
on this machine, and runs no task that fails. A task without a solution is
checked for doing nothing, and counts as unproved.
exit code: 0 when every task is fit, 1 when one is not

example: capvec check my/tasks
"""


def run(options: argparse.Namespace) -> int:
    """Check the tasks anew, and print a table; 1 when one is unfit."""
    from capvec.run.check import Checker  # noqa: PLC0415
    from capvec.run.control import Scale  # noqa: PLC0415
    from capvec.run.preparation import prepare_images  # noqa: PLC0415
    from capvec.run.process_limits import allow_trials  # noqa: PLC0415
    from capvec.run.proofs import Proofs  # noqa: PLC0415
    from capvec.run.status_line import progress_on_stdout  # noqa: PLC0415
    from capvec.sandbox.compose_file import check_services  # noqa: PLC0415
    from capvec.sandbox.docker import DockerProvider  # noqa: PLC0415
    from capvec.sandbox.hosts import reach  # noqa: PLC0415
    from capvec.sandbox.reaper import reap_and_say  # noqa: PLC0415
    from capvec.tasks import load_tasks  # noqa: PLC0415
    from capvec.tasks.loader import left_out_in_words, notes_in_words  # noqa: PLC0415
    from capvec.text import one_line  # noqa: PLC0415

    allow_trials(options.jobs, f"--jobs {options.jobs}")
    loaded = load_tasks(
        options.TASKS,
        skip=options.skip_unsupported,
        allow_network=options.allow_network,
        force_build=options.force_build,
        check=check_services,
    )
    scale = Scale(options.reward, options.solved_at)
    with ExitStack() as held:
        hosts = held.enter_context(reach(options.docker_host or ()))
        for line in (*notes_in_words(loaded.tasks), *left_out_in_words(loaded.left_out)):
            say(one_line(line))
        reap_and_say(say, hosts=hosts)
        progress = held.enter_context(progress_on_stdout(at_a_time=options.jobs))
        provider = DockerProvider.of(options, lambda line: progress.say(f"capvec: {line}"), hosts)
        images, unbuilt = prepare_images(provider, loaded.tasks, keep_going=True, show=progress.update)
        built = [task for task in loaded.tasks if task.name in images]
        proofs = Proofs(scale, options.capabilities, options.keep_processes)

        def keep(task: Task, check: TaskCheck) -> None:
            proofs.keep(task, images[task.name], check)

        checks = Checker(provider, scale, jobs=options.jobs, show=progress.update).check(built, keep=keep)
    checks = (*unbuilt.values(), *checks)
    print("\n".join(_report(checks)))
    return 1 if any(check.problem for check in checks) else 0


def _report(checks: Sequence[TaskCheck]) -> list[str]:
    """A table, and below it what is wrong with each unfit task."""
    from capvec.text import align, counted  # noqa: PLC0415

    rows = [
        (
            check.task,
            check.solution.shown if check.solution is not None else "–",
            check.nothing.shown,
            f"{check.seconds:.1f}",
            check.verdict,
        )
        for check in checks
    ]
    wrong = [line for check in checks for line in check.lines()]
    unfit = sum(bool(check.problem) for check in checks)
    unproved = sum(check.verdict == "unproved" for check in checks)
    counts = [f"{len(checks) - unfit - unproved} of {counted(len(checks), 'task')} proved"]
    counts += [f"{unfit} unfit"] if unfit else []
    counts += [f"{unproved} without a solution"] if unproved else []
    return ["", *align([("task", "solution", "nothing", "seconds", "verdict"), *rows]), "", *wrong, ", ".join(counts)]
