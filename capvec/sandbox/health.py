"""Waits until a container is ready, by the command that its task gives."""

from __future__ import annotations

import time

from capvec.errors import EnvironmentFault
from capvec.records import CommandResult
from capvec.sandbox.base import Sandbox
from capvec.task_records import Healthcheck

_SHOWN = 400


def wait_until_healthy(sandbox: Sandbox, check: Healthcheck) -> None:
    """Repeat the command of a healthcheck until it succeeds, with the meaning of Docker's `HEALTHCHECK`.

    Raises:
        EnvironmentFault: it failed as often in a row as the check allows; the message carries its last output.
        SandboxUnavailable: the sandbox is gone.
    """
    started, failures = time.monotonic(), 0
    while True:
        starting = time.monotonic() - started < check.start_period_s
        result = sandbox.execute(("sh", "-c", check.command), timeout_s=check.timeout_s)
        if result.exit_code == 0:
            return
        failures += not starting
        if failures >= check.retries:
            raise EnvironmentFault(
                f"the healthcheck {check.command!r} of the task failed {failures} times in a row; the last time it "
                f"{_ended(result, check)} and printed: {result.output.strip()[-_SHOWN:] or 'nothing'}"
            )
        time.sleep(check.start_interval_s if starting else check.interval_s)


def _ended(result: CommandResult, check: Healthcheck) -> str:
    return f"took longer than {check.timeout_s:g} s" if result.timed_out else f"ended with {result.exit_code}"
