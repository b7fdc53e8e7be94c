"""Runs the verifier `tests/test.sh` in the sandbox and reads the rewards that it writes.

The verifier runs where the agent was root. What it can trust there, and what it cannot:

- No process of the agent is alive, unless `--keep-processes` was given; the environment is the image's and the task's.
- The system's own commands and libraries, and the files that the dynamic loader reads, are the image's
  (`capvec.sandbox.system_files` lists the paths). No file that the agent put elsewhere on `PATH` replaces one of them.
  `Verified.notes` lists the paths that had to be restored, and the processes that were ended.
- `/tests` holds the task's files, and `/logs/verifier` is empty.
- Everything else is as the agent left it, since it may be what the task asks for. This includes an interpreter of the
  image under `/usr/local` or `/opt`, and the places where interpreters look for modules and settings
  (`/usr/local/lib`, `/usr/share`, `/etc`, the home folder). A verifier that runs the agent's own files trusts them.
- A task whose result belongs in the system's own directories cannot be judged, because its result is restored too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from capvec.errors import FileTooLarge, VerifierFault
from capvec.records import CommandResult
from capvec.sandbox.base import Sandbox
from capvec.sandbox.evidence import Evidence, make_room, saved
from capvec.sandbox.reward import read_rewards
from capvec.task_records import Task, TaskStep

LOGS = "/logs/verifier"
_READ_LOGS = r"""
for file in "$1"/* "$1"/*/*; do
  case $file in */reward.* | *.json | *.xml) continue ;; esac
  if [ -f "$file" ] && [ ! -L "$file" ]; then tail -c 65536 "$file"; fi
done
true
"""
"""Prints the ends of the files into which a verifier sent what its tools said, but for reports of tests that ran."""
_READ_LOGS_S = 10.0
_SHOWN = 400


@dataclass(frozen=True)
class Verified:
    """What a verifier did."""

    rewards: Mapping[str, float]
    """By name; at least one."""
    ran: CommandResult
    """How `tests/test.sh` ended, and what it printed."""
    logs: str = ""
    """What it wrote into files of `/logs/verifier`, cut in the middle; empty where every reward is 1."""
    notes: tuple[str, ...] = ()
    """What became of the agent's work before the verifier saw it, in sentences."""
    failed: tuple[str, ...] = ()
    """Those of them that tell of a command of `verifier.collect` that failed beside the agent's container."""


def verify(sandbox: Sandbox, task: Task, step: TaskStep | None = None, evidence: Evidence | None = None) -> Verified:
    """Run the task's verifier and read its rewards (`capvec.sandbox.reward`).

    It runs in the sandbox, which is taken back before; or in one of its own, to which the artifacts are copied.

    Args:
        sandbox: the agent's sandbox, after the agent has ended.
        task: the task that was worked on.
        step: the step of it; None for the first.
        evidence: what was saved of the attempt; None to save it now.

    Raises:
        VerifierFault: the verifier ran out of time, or wrote no reward, or one that is no usable number.
        SandboxUnavailable: the sandbox is gone or cannot be restored.
    """
    step = step or task.steps[0]
    if evidence is None:
        with saved(sandbox, task, step) as now:
            return verify(sandbox, task, step, now)
    if step.verifier.environment is not None:
        with sandbox.open_verifier(step, partial(_make_ready, task, step)) as own:
            evidence.place(own)
            return _judge(own, task, step, evidence.notes, evidence.failed)
    notes = (*evidence.notes, *sandbox.take_back().in_words())
    return _judge(sandbox, task, step, notes, evidence.failed)


def expect_verifier(sandbox: Sandbox, task: Task, step: TaskStep) -> None:
    """Say that a step is to be verified, so that what takes long may be done while the agent works.

    Args:
        sandbox: the agent's.
        task: that is worked on.
        step: of it.
    """
    if step.verifier.environment is not None:
        sandbox.expect_verifier(step, partial(_make_ready, task, step))


def _make_ready(task: Task, step: TaskStep, own: Sandbox) -> None:
    """Put a step's tests into a sandbox of the verifier's own, and make room for the agent's artifacts."""
    make_room(own, step)
    _put_tests(own, task, step)
    own.enter(user=step.verifier.user, network=None)


def _put_tests(sandbox: Sandbox, task: Task, step: TaskStep) -> None:
    for folder in step.verifier.tests:
        sandbox.upload(task.path / folder, "/tests")
    if not step.verifier.tests:
        sandbox.enter(user="root", network=None)
        sandbox.execute(("chmod", "+x", "/tests/test.sh"), timeout_s=60)  # the image's own, as by Harbor


def _judge(sandbox: Sandbox, task: Task, step: TaskStep, notes: Sequence[str], failed: Sequence[str]) -> Verified:
    """Run the verifier in a sandbox that can be trusted, and read its rewards."""
    try:
        rewards, result, logs = _run(sandbox, task, step)
    except VerifierFault as fault:
        fault.notes = tuple(notes)
        raise
    return Verified(rewards, result, logs, tuple(notes), tuple(failed))


def _run(sandbox: Sandbox, task: Task, step: TaskStep) -> tuple[Mapping[str, float], CommandResult, str]:
    verifier = step.verifier
    if verifier.environment is None:
        _put_tests(sandbox, task, step)
    sandbox.enter(user=verifier.user, network=verifier.network)
    # Not `bash /tests/test.sh`: as in Harbor, its first line says what runs it, or else it is for bash.
    result = sandbox.execute(("bash", "-c", "/tests/test.sh"), timeout_s=verifier.timeout_s, env=dict(verifier.env))
    if result.timed_out:
        raise VerifierFault(
            f"tests/test.sh ran longer than verifier.timeout_sec, {verifier.timeout_s:g} s; it printed: {_tail(result)}"
        )
    try:
        rewards = read_rewards(sandbox.read(f"{LOGS}/reward.json"), sandbox.read(f"{LOGS}/reward.txt"))
    except (ValueError, FileTooLarge) as error:
        raise VerifierFault(
            f"{error}; tests/test.sh ended with exit code {result.exit_code} and printed: {_tail(result)}"
            f"{_also(sandbox)}"
        ) from error
    return rewards, result, "" if {*rewards.values()} == {1.0} else _logs(sandbox)


def _tail(result: CommandResult) -> str:
    return result.output.strip()[-_SHOWN:] or "nothing"


def _also(sandbox: Sandbox) -> str:
    logs = _logs(sandbox).strip()[-_SHOWN:]
    return f"\nIts files in {LOGS} end with: {logs}" if logs else ""


def _logs(sandbox: Sandbox) -> str:
    """What the verifier wrote into files; it only tells why a verifier failed, and never decides."""
    read = sandbox.execute(("sh", "-c", _READ_LOGS, "sh", LOGS), timeout_s=_READ_LOGS_S)
    return read.output if read.exit_code == 0 else ""
