"""The processes of one container: programs are started in it, read, and ended."""

from __future__ import annotations

import time
from contextlib import closing
from typing import Any, cast

import docker
import docker.errors

from capvec.errors import SandboxUnavailable
from capvec.sandbox.streams import ExecStream, Output

GRACE_S = 3.0
"""How long to repeat an attempt that fails for a reason that passes by itself."""
_LIST_KEEPERS = """
child=
until [ "$child" ]; do
  for entry in /proc/[0-9]*; do
    while read -r key value; do
      [ "$key $value" = "PPid: 1" ] && child=${entry#/proc/}
    done < "$entry/status"
  done 2>/dev/null
done
echo "1 $child"
"""
"""Prints the PIDs of init and of its child, and waits for the child if it has to.

The child is found by its parent's PID. A process of `docker exec` cannot be mistaken for it: its parent is outside the
container and counts as 0.
"""
_KILL_OTHERS = """
round=0
while [ $((round += 1)) -lt 2000 ]; do
  left=
  for entry in /proc/[0-9]*; do
    pid=${entry#/proc/}
    case " $0 $$ " in *" $pid "*) continue ;; esac
    kill -9 "$pid" 2>/dev/null && left=1
    [ -d "$entry" ] && left=1
  done
  [ -z "$left" ] && exit 0
done
exit 1
"""
"""Kills every process except those named in `$0`. It uses builtins only, so that it works where no process can start.

It exits with 0 after a whole round that found nothing, and with 1 if a process is left that it cannot kill.
"""


class Processes:
    """The programs that run in one container."""

    def __init__(self, client: docker.DockerClient, container: str, *, user: str) -> None:
        """Find the container's own processes.

        Args:
            client: connected to the container's Docker.
            container: name of a running container.
            user: who runs the programs.

        Raises:
            SandboxUnavailable: the container has no `sh`.
        """
        self._api, self._container, self._user = cast("Any", client.api), container, user
        self.restarted = False
        """Whether the container was restarted since it was last known to be the image's."""
        self.keepers = self.find_keepers()
        """PIDs of the container's own processes, init and its child, separated by a space."""

    def start(
        self, argv: list[str], *, stdin: bool = False, env: dict[str, str] | None = None, workdir: str = "/"
    ) -> tuple[str, ExecStream]:
        """Start a program. Returns the id of its `docker exec`, and its output."""
        deadline = time.monotonic() + GRACE_S
        while True:
            try:
                created = self._api.exec_create(
                    self._container, argv, stdin=stdin, environment=env, workdir=workdir, user=self._user
                )
                return created["Id"], ExecStream(self._api.exec_start(created["Id"], socket=True))
            except docker.errors.APIError as error:
                # After a pause, Docker believes for a moment longer that the container is paused.
                if "is paused" not in str(error.explanation) or time.monotonic() > deadline:
                    raise
                error.response.close()
                time.sleep(0.02)

    def collect(self, exec_id: str, stream: ExecStream, output: Output, deadline: float) -> int | None:
        """Read what a program prints until it ends. Returns its exit code; None if the deadline passed first."""
        while True:
            now = time.monotonic()
            if piece := stream.receive(min(deadline, now + 1.0)):
                output.add(piece)
                continue
            # The end of the program counts, not the end of its output: a process that it left behind may hold the
            # output open for ever.
            code = self._api.exec_inspect(exec_id)["ExitCode"]
            if code is not None:
                return int(code)
            if now >= deadline:
                return None
            if stream.ended:
                time.sleep(0.02)

    def exit_code(self, exec_id: str) -> int | None:
        """The exit code of a program that has ended. Docker may need a moment to notice; None after a second."""
        for _ in range(50):
            code = self._api.exec_inspect(exec_id)["ExitCode"]
            if code is not None:
                return int(code)
            time.sleep(0.02)
        return None

    def kill_others(self, keep: int | None = None) -> None:
        """Kill everything except the container's own processes and the PID `keep`, until nothing is left."""
        kept = f"{self.keepers} {keep}" if keep is not None else self.keepers
        exec_id, stream = self.start(["sh", "-c", _KILL_OTHERS, kept])
        with closing(stream):
            exit_code = self.collect(exec_id, stream, Output(), time.monotonic() + 10)
        if exit_code != 0:
            # They multiply faster than they die, or run as another user, whom only CAP_KILL could touch, or the
            # killer cannot start. Ending the container ends them all at once, and keeps the files.
            self.restart()
            self.restarted = True

    def restart(self) -> None:
        """End every process by restarting the container, which keeps its files."""
        self._api.restart(self._container, timeout=0)
        self.keepers = self.find_keepers()

    def find_keepers(self) -> str:
        """Ask the container for the PIDs of its own processes, `keepers`."""
        output = Output()
        exec_id, stream = self.start(["sh", "-c", _LIST_KEEPERS])
        with closing(stream):
            exit_code = self.collect(exec_id, stream, output, time.monotonic() + 20)
        if exit_code != 0:
            raise SandboxUnavailable(f"the container cannot run sh, which every command needs: {output.text().strip()}")
        return " ".join(output.text().split())
