"""Make sure that Docker answers; on Debian and Ubuntu, as root, install and start it."""

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
    "again), or set DOCKER_HOST to the address of another Docker or of Podman's socket"
)
_START_S = 90.0


def ensure_docker(say: Callable[[str], None]) -> None:
    """Install and start Docker where it does not answer.

    Raises:
        UsageError: it cannot be installed or started here, or that failed. The message says what to do.
    """
    if answers():
        return
    if "DOCKER_HOST" in os.environ:
        raise UsageError(
            f"Docker does not answer at DOCKER_HOST={os.environ['DOCKER_HOST']}: start it there, or unset DOCKER_HOST"
        )
    program = debian.find_program("dockerd")
    if os.geteuid() != 0 or not (program or debian.can_install()):
        raise UsageError(f"Docker does not answer, and capvec cannot install it here: {REMEDY}")
    if program is None:
        say("installing docker.io")
        debian.install("docker.io")
        program = debian.find_program("dockerd")
    if program is None:
        raise UsageError(f"the package docker.io is installed and has no dockerd: {REMEDY}")
    if not answers():
        say("starting dockerd")
        _start(program)


def answers() -> bool:
    """Whether Docker answers."""
    try:
        check_docker()
    except SandboxUnavailable:
        return False
    return True


def _start(program: str) -> None:
    """Start dockerd, through systemd where that runs, and wait until it answers."""
    if Path("/run/systemd/system").is_dir():
        done = subprocess.run(
            ("systemctl", "start", "docker"), check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
        if not _comes_up(None):
            raise UsageError(
                f"dockerd does not start: {done.stderr.strip()}; see `journalctl -u docker`\nOtherwise: {REMEDY}"
            )
        return
    start_detached((program,), cache_root() / "dockerd.log")


def start_detached(command: Sequence[str], log: Path, *, grace_s: float = 10.0) -> None:
    """Start dockerd as a process that outlives this one, and wait until it answers.

    Args:
        command: dockerd and its arguments.
        log: file that its output is appended to.
        grace_s: dockerd ends at once where another one is starting; that one then has this long to answer, in seconds.

    Raises:
        UsageError: dockerd ended or did not answer in time. The message has the end of the log.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        # A session of its own, so that Ctrl-C here does not reach it; "/", so that it keeps no folder in use.
        process = subprocess.Popen(
            command, cwd="/", stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
        )
    if not _comes_up(process, grace_s):
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-8:])
        raise UsageError(f"dockerd does not start; the end of {log}:\n{tail}\nOtherwise: {REMEDY}")


def _comes_up(process: subprocess.Popen[bytes] | None, grace_s: float = 0.0) -> bool:
    """Wait until Docker answers, but at most `grace_s` seconds after `process` has ended."""
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        if answers():
            return True
        if process is not None and process.poll() is not None:
            deadline = min(deadline, time.monotonic() + grace_s)
            process = None
        time.sleep(0.5)
    return False
