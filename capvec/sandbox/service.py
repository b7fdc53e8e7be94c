"""A container beside the agent's: a service of a `docker-compose.yaml`.

The agent reaches it over their network, and through volumes that both mount. It cannot start a process there, or touch
other files, unless the service itself lets it.
"""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass
from typing import Any, cast

import docker
import docker.errors

from capvec.records import CommandResult
from capvec.sandbox.docker_host import reason
from capvec.sandbox.processes import GRACE_S
from capvec.sandbox.programs import cannot_execute, follow, start_program
from capvec.sandbox.streams import ExecStream, Output

_CANNOT, _MISSING = 126, 127
"""Exit codes of a shell, and of Docker, for a program that cannot be run."""


@dataclass(frozen=True)
class Service:
    """One such container."""

    client: docker.DockerClient
    container: str

    def execute(self, command: str, *, timeout_s: float, user: str | None) -> CommandResult:
        """Run a command with the container's `sh`, environment and working directory.

        Args:
            command: shell text.
            timeout_s: seconds until it is waited for no longer. Its processes may live on.
            user: name or number; None for the container's own user.

        Returns:
            As of `Sandbox.execute`. The exit code is 126 where the container has ended, or cannot run the command.

        Raises:
            docker.errors.APIError: Docker failed.
        """
        started, output, api = time.monotonic(), Output(), cast("Any", self.client.api)
        try:
            exec_id, stream = self._start(api, command, user or "")
        except docker.errors.APIError as error:
            if (why := self._why_not(error)) is None:
                raise
            error.response.close()
            return CommandResult(why, _CANNOT)
        with closing(stream):
            exit_code = follow(api, exec_id, stream, output, time.monotonic() + timeout_s)
            # On busy cores the end of a program is known before what it printed has arrived.
            late = time.monotonic() + GRACE_S
            while exit_code and not output.text() and not stream.ended and time.monotonic() < late:
                output.add(stream.receive(late))
        silent = exit_code in (_CANNOT, _MISSING) and not output.text()
        return CommandResult(
            output="nothing, as where the service has no sh" if silent else output.text(),
            exit_code=exit_code,
            timed_out=exit_code is None,
            dropped_bytes=output.dropped,
            duration_s=round(time.monotonic() - started, 4),
        )

    def _start(self, api: Any, command: str, user: str) -> tuple[str, ExecStream]:
        deadline = time.monotonic() + GRACE_S
        while True:
            try:
                return start_program(api, self.container, ["sh", "-c", command], user=user)
            except docker.errors.APIError as error:
                # After a pause, Docker believes for a moment longer that the container is paused.
                if "is paused" not in str(error.explanation) or time.monotonic() > deadline:
                    raise
                error.response.close()
                time.sleep(0.02)

    def _why_not(self, error: docker.errors.APIError) -> str | None:
        """Why a command cannot run, where that is not Docker's fault."""
        said = str(error.explanation)
        if "is not running" in said or "is restarting" in said:
            container = self.client.containers.get(self.container)
            printed = container.logs(tail=5).decode(errors="replace").strip()[-300:]
            code = container.attrs["State"]["ExitCode"]
            return f"the service has ended with exit code {code}; it printed last: {printed or 'nothing'}"
        return reason(error) if cannot_execute(said) else None
