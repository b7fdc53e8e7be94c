"""Waits until a container is ready, by the command that its task gives."""

from __future__ import annotations

import time

from capvec.errors import EnvironmentFault
from capvec.reading import size
from capvec.records import CommandResult
from capvec.sandbox.base import KEPT_BYTES, Sandbox
from capvec.task_records import Healthcheck
from capvec.text import one_line

_SHOWN = 200


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
                f"{_ended(result, check)} and printed{_printed(result)}"
            )
        time.sleep(check.start_interval_s if starting else check.interval_s)


def _printed(result: CommandResult) -> str:
    end = one_line(result.output[-_SHOWN:]) or "nothing"
    return f" more than {size(KEPT_BYTES)}, at last: {end}" if result.dropped_bytes else f": {end}"


def _ended(result: CommandResult, check: Healthcheck) -> str:
    return f"took longer than {check.timeout_s:g} s" if result.timed_out else f"ended with {result.exit_code}"
