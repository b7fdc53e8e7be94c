"""Makes a sandbox ready for a step of its task: what the step brings is put into it, set up, and waited for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from capvec.decimals import reaches
from capvec.errors import InfrastructureError, SandboxUnavailable, StepFault
from capvec.sandbox.base import LOG_FOLDERS, Sandbox
from capvec.sandbox.health import wait_until_healthy
from capvec.sandbox.verifier import expect_verifier
from capvec.task_records import Task, TaskStep

_SHOWN = 400


def begin(sandbox: Sandbox, task: Task, step: TaskStep) -> None:
    """Begin a step: afterwards its agent may act.

    Where the verifier of the step before ran in this sandbox, what it left is removed first: its processes, `/tests`,
    and what it changed of the system. The folders of logs are emptied, as Harbor moves what is in them to the step's
    results. Then the content of `steps/NAME/workdir` is copied into the
    working directory, `setup.sh` in it is run as the agent's user, and the step's healthcheck is waited for.

    Args:
        sandbox: in which all steps of the task happen.
        task: that is worked on.
        step: one of its steps.

    Raises:
        StepFault: `setup.sh` or the healthcheck failed.
        SandboxUnavailable: the sandbox is gone.
    """
    earlier = task.steps[: task.steps.index(step)]
    if earlier and earlier[-1].verifier.environment is None:
        sandbox.take_back()
    if earlier:
        sandbox.empty(LOG_FOLDERS)
    sandbox.enter(user=step.agent.user, network=None)
    if step.name:
        _set_up(sandbox, task, step, task.path / "steps" / step.name / "workdir")
    if step.healthcheck is not None:
        try:
            wait_until_healthy(sandbox, step.healthcheck)
        except SandboxUnavailable:
            raise
        except InfrastructureError as fault:
            raise StepFault(f"step {step.name}: {fault}") from fault
    sandbox.enter(user=step.agent.user, network=step.agent.network)
    expect_verifier(sandbox, task, step)


def goes_on(step: TaskStep, rewards: Mapping[str, float]) -> bool:
    """Whether the next step follows: the step was judged, and each reward in `min_reward` is there and large enough."""
    enough = (name in rewards and reaches(rewards[name], least) for name, least in step.min_reward.items())
    return bool(rewards) and all(enough)


def _set_up(sandbox: Sandbox, task: Task, step: TaskStep, files: Path) -> None:
    if not files.is_dir():
        return
    workdir = sandbox.execute(("pwd",), timeout_s=30).output.strip()
    if not workdir:
        raise StepFault(f"step {step.name}: the working directory cannot be told, since `pwd` printed nothing")
    sandbox.upload(files, workdir)
    if not (files / "setup.sh").is_file():
        return
    limit = task.environment.build_timeout_s
    ran = sandbox.execute(("bash", f"{workdir.rstrip('/')}/setup.sh"), timeout_s=limit)
    if ran.exit_code != 0:
        ended = f"ran longer than {limit:g} s" if ran.timed_out else f"ended with exit code {ran.exit_code}"
        said = ran.output.strip()[-_SHOWN:] or "nothing"
        raise StepFault(f"step {step.name}: its setup.sh {ended} and printed: {said}")
