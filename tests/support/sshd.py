"""An SSH server of the tests' own on this machine, and an `ssh` that may enter it."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psutil

PROGRAMS = ("ssh", "sshd", "ssh-keygen")
_PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin"
START_S = 20.0


def why_not() -> str | None:
    """Why no SSH server can run here; None if one can."""
    missing = [name for name in PROGRAMS if shutil.which(name, path=_PATH) is None]
    return f"an SSH server of the tests' own needs {', '.join(missing)} (Debian: openssh-server)" if missing else None


class Sshd:
    """One server, which runs while the context of `sshd` lasts."""

    def __init__(self, folder: Path) -> None:
        """Make its keys and settings in a folder."""
        self.port, self._folder = _free_port(), folder
        self.programs = folder / "bin"
        """A folder for `PATH`, whose `ssh` knows the server and has a key for it."""
        for name in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
        shutil.copy(folder / "user.pub", folder / "allowed")
        (folder / "known").write_text(f"[127.0.0.1]:{self.port} {(folder / 'host.pub').read_text()}")
        (folder / "sshd_config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {folder / 'host'}\nPidFile none\nUsePAM no\n"
            f"AuthorizedKeysFile {folder / 'allowed'}\nStrictModes no\nPermitRootLogin prohibit-password\n"
        )
        (folder / "ssh_config").write_text(
            f"IdentityFile {folder / 'user'}\nIdentitiesOnly yes\nUserKnownHostsFile {folder / 'known'}\n"
        )
        self.programs.mkdir()
        script = self.programs / "ssh"
        script.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {folder / "ssh_config"} "$@"\n')
        script.chmod(0o755)
        self._process: subprocess.Popen[bytes] | None = None

    def address(self, socket_path: str) -> str:
        """The `ssh://` address of a Docker socket on this machine."""
        return f"ssh://{getpass.getuser()}@127.0.0.1:{self.port}{socket_path}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd insists on it
        command = [shutil.which("sshd", path=_PATH) or "sshd", "-D", "-e", "-f", str(self._folder / "sshd_config")]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + START_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"sshd did not start: {(self._folder / 'log').read_text()[-1000:]}")
            time.sleep(0.05)

    def cut(self) -> None:
        """End it with every connection."""
        assert self._process is not None
        for one in [*psutil.Process(self._process.pid).children(recursive=True), self._process]:
            one.kill()
        self._process.wait()

    def close(self) -> None:
        """End it."""
        if self._process is not None and self._process.poll() is None:
            self.cut()

    def _answers(self) -> bool:
        with socket.socket() as connection:
            connection.settimeout(1)
            return connection.connect_ex(("127.0.0.1", self.port)) == 0


@contextmanager
def sshd() -> Iterator[Sshd]:
    """A server that runs until the context ends."""
    with tempfile.TemporaryDirectory(prefix="sshd-") as folder, closing(Sshd(Path(folder))) as server:
        server.start()
        yield server


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port
