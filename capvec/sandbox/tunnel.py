"""A tunnel to the Docker socket of another machine, by the system's own `ssh`.

The SDK's own way starts an `ssh` for each connection, and cannot attach to a container over it. One tunnel serves
every process of a run, the SDK and Docker's command line alike.
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import SplitResult, urlsplit

import docker

from capvec.errors import SandboxUnavailable, UsageError
from capvec.reading import shown
from capvec.sandbox.docker_host import DockerHost, is_address
from capvec.text import printable

START_S = 60.0
"""Most seconds until a tunnel is open."""
AGAIN_S = 2.0
"""Between the end of a tunnel and its next start."""
_SOCKET = "/var/run/docker.sock"
_OPTIONS = {
    "BatchMode": "yes",  # a question could not be answered where a tunnel is opened again
    "ControlPath": "none",  # a shared connection may end when another program likes
    "ExitOnForwardFailure": "yes",
    "StreamLocalBindUnlink": "yes",
    "StreamLocalBindMask": "0177",
    "ServerAliveInterval": "10",
    "ServerAliveCountMax": "3",
}


@contextmanager
def tunnel_to(name: str) -> Iterator[DockerHost]:
    """The host of this name; one at the end of `ssh://` is reached through a tunnel that lasts as long as the context.

    A tunnel that ends is opened again.

    Args:
        name: an address, or a context of Docker's command line.

    Raises:
        SandboxUnavailable: the tunnel does not open; the message has the reason that `ssh` gives.
        UsageError: there is no such context, or its address, or the one given, is none of SSH.
    """
    address = name if is_address(name) else _address_of(name)
    if not address.startswith("ssh://"):
        yield DockerHost(name)
        return
    with TemporaryDirectory(prefix="capvec-ssh-") as folder:
        tunnel = _Tunnel(name, _parts_of(name, address), Path(folder))
        try:
            tunnel.open()
            yield DockerHost(name, f"unix://{tunnel.near}")
        finally:
            tunnel.close()


def _address_of(context: str) -> str:
    """The address of a context.

    Raises:
        UsageError: there is none of this name.
    """
    try:
        found = docker.ContextAPI.get_context(context)
    except Exception as error:  # the SDK parses the user's settings without a check
        raise UsageError(f"--docker-host {context}: the context cannot be read ({error})") from error
    if found is None:
        raise UsageError(
            f"--docker-host {context}: there is no such context; `docker context ls` lists them. An address has a "
            "scheme, as in ssh://user@machine or tcp://10.0.0.5:2375"
        )
    return str(found.Host or "")


def _parts_of(name: str, address: str) -> SplitResult:
    """The parts of an address of SSH, of which the standard library checks some only where they are asked for.

    Raises:
        UsageError: it is none.
    """
    try:
        parts = urlsplit(address)
        if parts.hostname and parts.port != 0:
            return parts
        why = "it names no machine" if not parts.hostname else "no machine has port 0"
    except ValueError as error:
        why = str(error)
    raise UsageError(
        f"--docker-host {shown(name)}: {shown(address)} is no address of SSH ({shown(why)}); expected one such as "
        "ssh://user@machine or ssh://user@machine:2222"
    )


class _Tunnel:
    """One `ssh` at a time, which is started again where it ends."""

    def __init__(self, name: str, address: SplitResult, folder: Path) -> None:
        self.near = folder / "docker.sock"
        self._name, self._log, self._machine = name, folder / "log", str(address.hostname)
        options = [argument for key, value in _OPTIONS.items() for argument in ("-o", f"{key}={value}")]
        port = ["-p", str(address.port)] if address.port is not None else []
        user = ["-l", address.username] if address.username else []
        far = address.path if address.path not in ("", "/") else _SOCKET
        # `cat` ends with its input, so that no tunnel outlives a process that is killed.
        self._command = ["ssh", "-T", *options, *port, *user, "-L", f"{self.near}:{far}", "--"]
        self._command += [self._machine, "cat"]
        self._closed = threading.Event()
        self._ssh: subprocess.Popen[bytes] | None = None
        self._keeper = threading.Thread(target=self._keep, name=f"tunnel-{name}", daemon=True)

    def open(self) -> None:
        """Open it, and keep it open.

        Raises:
            SandboxUnavailable: it does not open.
        """
        ssh, deadline = self._start(), time.monotonic() + START_S
        while not self.near.exists():
            if ssh.poll() is not None or time.monotonic() > deadline:
                raise SandboxUnavailable(
                    f"the Docker host {self._name} cannot be reached by SSH ({self._said()}). Make "
                    f"`ssh {self._machine}` work without a question, or leave this --docker-host out"
                )
            time.sleep(0.02)
        self._keeper.start()

    def close(self) -> None:
        """Close it."""
        self._closed.set()
        if self._keeper.is_alive():
            self._end()
            self._keeper.join(AGAIN_S)
        self._end()

    def _start(self) -> subprocess.Popen[bytes]:
        try:
            with self._log.open("wb") as log:
                # A session of its own: Ctrl-C at the terminal is for capvec, which still has containers to remove.
                self._ssh = subprocess.Popen(
                    self._command, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True
                )
        except FileNotFoundError as error:
            raise SandboxUnavailable(
                f"the Docker host {self._name} needs the program `ssh`, which is not on PATH: install OpenSSH's client"
            ) from error
        return self._ssh

    def _end(self) -> None:
        if self._ssh is not None:
            self._ssh.terminate()
            self._ssh.wait()
            if self._ssh.stdin is not None:
                self._ssh.stdin.close()

    def _keep(self) -> None:
        while not self._closed.is_set():
            assert self._ssh is not None
            self._ssh.wait()
            if not self._closed.wait(AGAIN_S):
                with suppress(SandboxUnavailable, OSError):
                    self._start()

    def _said(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), f"nothing within {START_S:g} s")
        return printable(last)
