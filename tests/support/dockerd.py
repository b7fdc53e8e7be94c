"""A Docker daemon of the tests' own, which can be stopped, killed and started again while the machine's own runs on.

It has a network, mounts and processes of its own (Linux namespaces): a second daemon on the same network would remove
the first one's bridge and rewrite its firewall. It needs root, as does what the daemon itself does.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import docker
import docker.errors
import psutil

PROGRAMS = ("dockerd", "unshare", "nsenter", "mkfs.ext4", "mount")
QUOTAS = ("xfs", "btrfs")
"""File systems on which Docker can bound what a container writes, each where the kernel and Docker have what it needs.
They want `mkfs.xfs` and `mkfs.btrfs` (Debian: xfsprogs and btrfs-progs)."""
_MAKE = {"ext4": ("mkfs.ext4", "-q", "-m", "0"), "xfs": ("mkfs.xfs", "-q"), "btrfs": ("mkfs.btrfs", "-q")}
START_S = 60.0
"""Most seconds until a daemon that was started answers, or one that was told to stop has ended."""


def why_not() -> str | None:
    """Why no second daemon can run here; None if one can."""
    if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
        return f"a second Docker daemon needs {', '.join(missing)}"
    return None if os.geteuid() == 0 else "a second Docker daemon needs root"


class Dockerd:
    """One daemon at `host`, whose containers die with the context of `dockerd`."""

    def __init__(self, root: Path, init: int) -> None:
        """Describe a daemon, which `start` starts.

        Args:
            root: a folder for everything that it writes.
            init: the process id of the first process of its namespaces.
        """
        self.root, self._init = root, init
        self.host = f"unix://{root / 'docker.sock'}"
        """For `DOCKER_HOST`."""
        self.data = root / "data"
        """Its data root: images, and what containers write."""
        self._entry: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The daemon's process; None if none runs."""
        if self._entry is None or self._entry.poll() is not None:
            return None
        return next((child.pid for child in psutil.Process(self._entry.pid).children()), None)

    def start(self) -> None:
        """Start the daemon if it does not run, and wait until it answers."""
        if self._entry is None or self._entry.poll() is not None:
            with (self.root / "dockerd.log").open("ab") as log:
                self._entry = subprocess.Popen(self._command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + START_S
        while not self.answers():
            if self._entry.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"dockerd did not start: {(self.root / 'dockerd.log').read_text()[-1000:]}")
            time.sleep(0.1)

    def stop(self) -> None:
        """End the daemon as a system does (SIGTERM): it ends its containers first."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the daemon with `kill -9`: its containers run until it starts again, which ends them."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop the daemon and start it again."""
        self.stop()
        self.start()

    def close(self) -> None:
        """End the daemon at once."""
        if self.pid is not None:
            self.kill()

    def answers(self) -> bool:
        """Whether it answers within a second. (The SDK leaves a socket open where nothing listens.)"""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1)
            try:
                connection.connect(self.host.removeprefix("unix://"))
                connection.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
                return b" 200 " in connection.recv(64)
            except OSError:
                return False

    @contextmanager
    def client(self, *, timeout_s: float = 60) -> Iterator[docker.DockerClient]:
        """A client of this daemon."""
        client = docker.DockerClient(base_url=self.host, timeout=timeout_s)
        try:
            yield client
        finally:
            client.close()

    def load(self, *images: str) -> None:
        """Copy images from the machine's own Docker that it does not have."""
        with self.client() as target:
            missing = [image for image in images if not target.images.list(name=image)]
            own = docker.from_env()
            try:
                for image in missing:
                    target.images.load(own.api.get_image(image))
            finally:
                own.close()

    def remove_containers(self) -> None:
        """Remove every container."""
        with self.client() as client:
            for container in client.containers.list(all=True, ignore_removed=True):
                with suppress(docker.errors.NotFound):
                    container.remove(force=True, v=True)

    def _command(self) -> list[str]:
        return [
            *("nsenter", "--target", str(self._init), "--mount", "--net", "--pid", "--"),
            *("dockerd", "--host", self.host, "--data-root", str(self.data), "--exec-root", str(self.root / "run")),
            *("--pidfile", str(self.root / "dockerd.pid"), "--config-file", str(self.root / "daemon.json")),
            *("--containerd-namespace", "siege", "--containerd-plugins-namespace", "siege-plugins"),
        ]

    def _end(self, number: signal.Signals) -> None:
        pid = self.pid
        assert pid is not None, "the daemon does not run"
        assert self._entry is not None
        os.kill(pid, number)
        self._entry.wait(START_S)


@contextmanager
def dockerd(size: str = "8G", *, on: str = "ext4") -> Iterator[Dockerd]:
    """A daemon that runs; everything that it started or wrote ends with the context.

    Args:
        size: of the file system that it has to itself, in a sparse file, as `truncate` reads it: a small one is soon
            full. (In memory, what containers write to the disk would count as their memory.)
        on: which file system: ext4, or one of `QUOTAS`.
    """
    with tempfile.TemporaryDirectory(prefix="dockerd-") as scratch, _file_system(Path(scratch), size, on) as root:
        (root / "daemon.json").write_text(json.dumps({"storage-driver": "btrfs" if on == "btrfs" else "overlay2"}))
        # The first process of the namespaces waits for orphans. When it is killed, all others are.
        namespaces = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
        with subprocess.Popen([*namespaces, "sh", "-c", "sleep infinity & wait"], stdin=subprocess.DEVNULL) as entry:
            try:
                with closing(Dockerd(root, _child(entry))) as daemon:
                    daemon.start()
                    yield daemon
                    daemon.start()
                    daemon.remove_containers()
            finally:
                entry.kill()


@contextmanager
def _file_system(scratch: Path, size: str, kind: str) -> Iterator[Path]:
    image, root = scratch / "image", scratch / "root"
    root.mkdir()
    for command in (
        ["truncate", "--size", size, str(image)],
        [*_MAKE[kind], str(image)],
        ["mount", "-o", "loop,pquota" if kind == "xfs" else "loop", str(image), str(root)],
    ):
        subprocess.run(command, check=True)
    try:
        yield root
    finally:
        subprocess.run(["umount", "--lazy", str(root)], check=True)


def _child(entry: subprocess.Popen[bytes]) -> int:
    deadline = time.monotonic() + START_S
    while not (children := psutil.Process(entry.pid).children()):
        if time.monotonic() > deadline:
            raise RuntimeError("no namespaces can be made here")
        time.sleep(0.01)
    return children[0].pid
