"""The processes of one container: programs are started in it, read, and ended."""

from __future__ import annotations

import time
from contextlib import closing
from typing import Any, NamedTuple, cast

import docker
import docker.errors

from capvec.errors import SandboxUnavailable
from capvec.sandbox.accounts import are_readable
from capvec.sandbox.docker_api import OWN_FAULT
from capvec.sandbox.programs import cannot_execute, end_of, follow, start_program
from capvec.sandbox.shell import ShellLost
from capvec.sandbox.streams import ASKED, ExecStream, Output
from capvec.sandbox.witness import check_host

GRACE_S = 3.0
"""How long to repeat an attempt that fails for a reason that passes by itself."""
ANSWER_S = 20.0
"""How long to wait for a program that always prints: for its end, and then for what it printed."""
_TICKS_PER_S = 100
"""Of the kernel's clock ticks, as programs see them: the same number on every architecture that Docker runs on."""
READY_S = 10
"""How long to wait for an image's ENTRYPOINT to start the container's command."""
SPARED = r"""
# fields PID: `$stat` has what follows the name in /proc/PID/stat. The name is the agent's, and may hold lines and `) `.
fields() {
  stat=
  while read -r line; do stat="$stat $line"; done 2>/dev/null <"/proc/$1/stat"
  stat=${stat##*) }
  [ "$stat" ]
}
# spared PID: it is one of $keep, and no later process of that number; where there is $born, also one that they started.
spared() {
  case " $keep " in *" $1 "*) listed=1 ;; *) listed= ;; esac
  if [ -z "$born" ]; then [ "$listed" ]; return; fi
  fields "$1" || return 1
  set -- $stat
  if [ "$listed" ] && [ "${20}" -le "$born" ]; then return 0; fi
  case $2 in 0 | 1) return 1 ;; esac
  spared "$2"
}
"""
"""Shell functions that tell the container's own processes. They use builtins only.

Where an agent's process loses its parent, init adopts it; so that init has started something says nothing.
"""
_LIST_KEEPERS = """
_child=
until [ "$_child" ]; do
  for _entry in /proc/[0-9]*; do
    while read -r _key _value; do
      [ "$_key $_value" = "PPid: 1" ] && _child=${_entry#/proc/}
    done < "$_entry/status"
  done 2>/dev/null
done
echo "1 $_child"
"""
"""Prints the PIDs of init and of its child, and waits for the child if it has to.

The child is found by its parent's PID. A process of `docker exec` cannot be mistaken for it: its parent is outside the
container and counts as 0. The names of variables are none that an image gives to its programs, which may follow.
"""
_LIST_SERVICES = f"""
_tries=0
while [ $((_tries += 1)) -le {READY_S * 10} ]; do
  for _entry in /proc/[0-9]*; do
    case $(tr '\\0' ' ' <"$_entry/cmdline") in "sleep infinity "|"sh -c sleep infinity ") break 2 ;; esac
  done 2>/dev/null
  sleep 0.1
done
_found=
for _entry in /proc/[0-9]*; do
  [ "$_entry" = "/proc/$$" ] || _found="$_found ${{_entry#/proc/}}"
done
read -r _stat <"/proc/$$/stat"
set -- ${{_stat##*) }}
echo "${{20}}$_found"
"""
"""Waits until an ENTRYPOINT has started the container's command. Prints when it looked, and the PIDs of all others."""
_KILL_OTHERS = (
    """
keep=$0 born=$1 also=$2 before=$3
"""
    + SPARED
    + """
# older PID: it is from before $before, or was started by such a one other than $also.
older() {
  [ "$before" ] || return 1
  fields "$1" || return 1
  set -- $stat
  if [ "${20}" -lt "$before" ]; then return 0; fi
  case $2 in 0 | 1 | "$also") return 1 ;; esac
  older "$2"
}
round=0
while [ $((round += 1)) -lt 2000 ]; do
  left=
  for entry in /proc/[0-9]*; do
    pid=${entry#/proc/}
    case " $also $$ " in *" $pid "*) continue ;; esac
    spared "$pid" && continue
    older "$pid" && continue
    kill -9 "$pid" 2>/dev/null && left=1
    [ -d "$entry" ] && left=1
  done
  [ -z "$left" ] && exit 42
done
exit 1
"""
)
"""Kills every process except the container's own, the PID `$2` and, where there is `$3`, those from before that time.

It uses builtins only, so that it works where no process can start.

It exits with 42 after a whole round that found nothing, as no other program called `sh` would, and with 1 if a process
is left that it cannot kill.
"""
_KILLED = 42


class Keepers(NamedTuple):
    """The processes of a container that are its own."""

    pids: str
    """Separated by spaces."""
    born: str
    """None of them started later, in clock ticks since the boot; what they start is the container's own too. Empty for
    a container without an ENTRYPOINT, whose own processes start nothing."""


class Processes:
    """The programs that run in one container."""

    def __init__(
        self, client: docker.DockerClient, container: str, *, user: str, killer: str | None, services: bool
    ) -> None:
        """Take a container.

        Args:
            client: connected to the container's Docker.
            container: name of a running container.
            user: number of the user who runs the programs.
            killer: number of the user who may end those of all others; None if there is none.
            services: whether the image's ENTRYPOINT runs, and may have started further processes.
        """
        self._client, self._api, self._container = client, cast("Any", client.api), container
        self.user, self._killer, self._services = user, killer, services
        self.restarted = False
        """Whether the container was restarted since it was last known to be the image's."""
        self.clock: float | None = None
        """Seconds since the boot, less monotonic seconds here; None before a shell has told the first."""
        self.lost: ShellLost | None = None
        """Why no program can be started, which nothing in the container can change any more."""
        self.keepers = Keepers("1", "")
        """The container's own processes: init and its child, or all that the ENTRYPOINT started."""
        self._may_restart = False
        self._doubted = True
        """Whether a program that cannot be started is the container's fault: none could be before, and no agent was
        there then, or Docker was well."""

    @property
    def listing(self) -> str:
        """Shell text that prints the container's own processes, for `know`."""
        return _LIST_SERVICES if self._services else _LIST_KEEPERS

    def know(self, listed: str = "") -> None:
        """Find the container's own processes, while no agent can have changed anything.

        Args:
            listed: what `listing` printed; empty where it did not run.

        Raises:
            SandboxUnavailable: the container has no `sh`.
        """
        try:
            self.keepers = self._read(listed) if listed else self.find_keepers()
        except ShellLost as lost:
            raise SandboxUnavailable(f"the container cannot run sh, which every command needs: {lost}") from lost
        self._may_restart = True

    def start(
        self,
        argv: list[str],
        *,
        stdin: bool = False,
        env: dict[str, str] | None = None,
        workdir: str = "/",
        user: str | None = None,
    ) -> tuple[str, ExecStream]:
        """Start a program. Returns the id of its `docker exec`, and its output.

        A container that has ended was ended by the agent, and is started again. Where Docker cannot start the program
        although all is well beside this container, it is asked once more.

        Raises:
            ShellLost: it cannot be started again, or what Docker needs to start a program in it is gone.
        """
        if self.lost is not None:
            raise ShellLost(str(self.lost)) from self.lost
        deadline = time.monotonic() + GRACE_S
        while True:
            self._check_accounts()
            try:
                settings = {"stdin": stdin, "environment": env, "workdir": workdir, "user": user or self.user}
                started = start_program(self._api, self._container, argv, **settings)
            except docker.errors.APIError as error:
                said = str(error.explanation)
                # After a pause, Docker believes for a moment longer that the container is paused.
                passes = "is paused" in said or (self._may_restart and _ended(said))
                refused = cannot_execute(said)
                if (refused or error.status_code >= OWN_FAULT) and not passes and not self._doubted:
                    error.response.close()
                    check_host(self._client, self._container)
                    self._doubted = True
                    continue
                if refused:
                    error.response.close()
                    raise ShellLost(said) from error
                if time.monotonic() > deadline or not passes:
                    raise
                error.response.close()
                if _ended(said):
                    self.restart()
                time.sleep(0.02)
            else:
                self._doubted = False
                return started

    def collect(self, exec_id: str, stream: ExecStream, output: Output, deadline: float) -> int | None:
        """See `follow`."""
        return follow(self._api, exec_id, stream, output, deadline)

    def exit_code(self, exec_id: str) -> int | None:
        """The exit code of a program whose output has ended. See `end_of`."""
        return end_of(self._api, exec_id)

    def kill_others(self, keep: int | None = None, *, since: float | None = None) -> None:
        """Kill everything except the container's own processes and the PID `keep`, until nothing is left.

        Args:
            keep: a PID.
            since: in monotonic seconds; processes that are older, and what they started, live on if `clock` is known.

        Raises:
            ShellLost: nothing in the container can do it, and the container cannot be started again.
        """
        before = "" if since is None or self.clock is None else str(int((since + self.clock) * _TICKS_PER_S))
        arguments = (*self.keepers, str(keep or ""), before)
        exec_id, stream = self.start(["sh", "-c", _KILL_OTHERS, *arguments], user=self._killer)
        with closing(stream):
            exit_code = self.collect(exec_id, stream, Output(), time.monotonic() + 10)
        if exit_code != _KILLED:
            # They multiply faster than they die, or run as another user, whom only CAP_KILL could touch, or the
            # killer cannot start. Ending the container ends them all at once, and keeps the files.
            self.restart()

    def alive(self) -> bool:
        """Whether the container runs, so that any process of its can."""
        return bool(self._api.inspect_container(self._container)["State"]["Running"])

    def revive(self) -> None:
        """Start the container again if the agent ended it.

        Raises:
            ShellLost: it cannot be started again.
        """
        if not self.alive():
            self.restart()

    def restart(self) -> None:
        """End every process by restarting the container, which keeps its files.

        Raises:
            ShellLost: what the container or its `sh` needs is gone.
        """
        self.restarted, self._may_restart, self.lost = True, False, None
        try:
            self._restart()
        except ShellLost as lost:
            self.lost = lost
            raise
        finally:
            self._may_restart = True

    def _restart(self) -> None:
        for again in (False, True):
            try:
                self._api.stop(self._container, timeout=0)
                self._check_accounts()
                self._api.start(self._container)
                self.keepers = self.find_keepers()
            except docker.errors.APIError as error:
                if isinstance(error, docker.errors.NotFound):
                    raise
                error.response.close()
                if again:
                    # It could be started before, so what it needs for that is gone.
                    raise ShellLost("the container cannot be started again") from error
                check_host(self._client, self._container)
            else:
                return

    def _check_accounts(self) -> None:
        """Check that Docker can start a program without being held up for ever.

        Raises:
            ShellLost: it cannot.
        """
        if not are_readable(self._client, self._container):
            raise ShellLost("Docker cannot read the container's /etc/passwd or /etc/group")

    def find_keepers(self) -> Keepers:
        """Ask the container for its own processes, `keepers`.

        Raises:
            ShellLost: its `sh` does not answer.
        """
        for _ in range(ASKED):
            exit_code, said = self._list()
            if exit_code != 0 or said:
                break
        if exit_code != 0:
            raise ShellLost(said.strip()[-200:] or f"sh ended with exit code {exit_code} and printed nothing")
        return self._read(said)

    def _read(self, listed: str) -> Keepers:
        """What `listing` printed.

        Raises:
            ShellLost: it printed something else.
        """
        first, *others = numbers = listed.split() or [""]
        if not all(number.isdecimal() for number in numbers):
            raise ShellLost(listed.strip()[-200:] or "sh printed nothing")
        return Keepers(" ".join(others), first) if self._services else Keepers(" ".join((first, *others)), "")

    def _list(self) -> tuple[int | None, str]:
        """Exit code and output of the list of the container's own processes."""
        output = Output()
        exec_id, stream = self.start(["sh", "-c", self.listing])
        with closing(stream):
            limit = ANSWER_S + (READY_S if self._services else 0)
            exit_code = self.collect(exec_id, stream, output, time.monotonic() + limit)
            # On busy cores the end of a program is known before what it printed has arrived.
            late = time.monotonic() + ANSWER_S
            while exit_code == 0 and not output.text() and not stream.ended and time.monotonic() < late:
                output.add(stream.receive(late))
        return exit_code, output.text()


def _ended(said: str) -> bool:
    """Whether Docker says that a container is not running."""
    return "is not running" in said or "stopped" in said
