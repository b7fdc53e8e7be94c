"""A container engine that answers: the one there is, or Debian's."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from capvec.cache import cache_root
from capvec.errors import SandboxUnavailable, UsageError
from capvec.sandbox.docker_host import check_docker
from capvec.setup import debian

REMEDY = (
    "install and start Docker (Debian, Ubuntu: `sudo apt-get install docker.io`; elsewhere: "
    "https://docs.docker.com/engine/install/), let your user reach it (`sudo usermod -aG docker $USER`, then log in "
    "again), or point DOCKER_HOST to an engine, Podman's socket included"
)
_START_S = 90.0


def ensure_engine(say: Callable[[str], None]) -> None:
    """Make sure that a container engine answers.

    Raises:
        UsageError: none does, and installing or starting one is not ours to do or failed.
    """
    if answers():
        return
    if "DOCKER_HOST" in os.environ:
        raise UsageError(
            f"no container engine answers at DOCKER_HOST={os.environ['DOCKER_HOST']}: start it, or unset DOCKER_HOST"
        )
    program = debian.find_program("dockerd")
    if os.geteuid() != 0 or not (program or debian.can_install()):
        raise UsageError(f"no container engine answers, and capvec cannot install one here: {REMEDY}")
    if program is None:
        say("installing docker.io")
        debian.install("docker.io")
        program = debian.find_program("dockerd")
    if program is None:
        raise UsageError(f"docker.io is installed and brought no dockerd: {REMEDY}")
    if not answers():
        say("starting dockerd")
        _start(program)


def answers() -> bool:
    """Whether a container engine answers."""
    try:
        check_docker()
    except SandboxUnavailable:
        return False
    return True


def _start(program: str) -> None:
    """Start dockerd, by systemd where it runs, and wait until it answers."""
    if Path("/run/systemd/system").is_dir():
        done = subprocess.run(
            ("systemctl", "start", "docker"), check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
        if not _comes_up(None):
            raise UsageError(
                f"dockerd does not come up: {done.stderr.strip()}; see `journalctl -u docker`\nOtherwise: {REMEDY}"
            )
        return
    start_detached((program,), cache_root() / "dockerd.log")


def start_detached(command: Sequence[str], log: Path, *, grace_s: float = 10.0) -> None:
    """Start dockerd so that it outlives us, what it prints going to `log`, and wait until it answers.

    Args:
        command: dockerd and its arguments.
        log: is appended to.
        grace_s: dockerd ends at once where another is starting; then that one gets this long to answer.

    Raises:
        UsageError: it ended or did not answer in time; the message carries the end of the log.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        # A session of its own, so that Ctrl-C here does not reach it; and no folder that somebody may want to delete.
        process = subprocess.Popen(
            command, cwd="/", stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
        )
    if not _comes_up(process, grace_s):
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-8:])
        raise UsageError(f"dockerd does not come up; the end of {log}:\n{tail}\nOtherwise: {REMEDY}")


def _comes_up(process: subprocess.Popen[bytes] | None, grace_s: float = 0.0) -> bool:
    """Wait until an engine answers, and hardly any longer once `process` has ended."""
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        if answers():
            return True
        if process is not None and process.poll() is not None:
            deadline = min(deadline, time.monotonic() + grace_s)
            process = None
        time.sleep(0.5)
    return False
