"""The base image of the sandboxes: pulled, or built from Debian's packages where no registry answers."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from capvec.errors import UsageError
from capvec.sandbox.base_image import BASE_IMAGE, has_base_image, import_base_image, pull_base_image
from capvec.sandbox.docker_host import HERE, DockerHost
from capvec.setup import debian

SUITE = "bookworm"
_BUILD_S = 900


def ensure_base_image(say: Callable[[str], None], host: DockerHost = HERE) -> None:
    """Pull the base image, or build it, where a Docker does not have it.

    Raises:
        UsageError: no registry answers, and the image cannot be built here.
        SandboxUnavailable: Docker does not answer.
    """
    if has_base_image(host):
        return
    say(f"pulling {BASE_IMAGE}")
    if pull_base_image(host=host):
        return
    say(f"no registry answers: building {BASE_IMAGE} with mmdebstrap (about a minute)")
    if debian.find_program("mmdebstrap") is None:
        if not debian.can_install():
            raise UsageError(
                f"cannot pull {BASE_IMAGE}, and mmdebstrap, which could build it, is not installed. Run `docker pull "
                f"{BASE_IMAGE}` where a registry answers; or, as root on Debian or Ubuntu, `apt-get install "
                "mmdebstrap`, and try again"
            )
        debian.install("mmdebstrap", "debian-archive-keyring")
    with tempfile.TemporaryDirectory() as scratch:
        import_base_image(build_archive(Path(scratch) / "base.tar"), host=host)


def build_archive(archive: Path) -> Path:
    """Write a minimal root file system of Debian to a tar archive, from the mirror that apt uses here if there is one.

    Returns:
        The archive.

    Raises:
        UsageError: mmdebstrap failed. The message has the end of its output.
    """
    own = debian.mirrors(SUITE)
    # mmdebstrap's default mirror comes second: a machine with a mirror of its own may reach no other.
    for mirrors in (own, ()) if own else ((),):
        failure = _mmdebstrap(archive, mirrors)
        if failure is None:
            return archive
    raise UsageError(
        f"cannot build {BASE_IMAGE}: {failure}\nTry again, or `docker pull {BASE_IMAGE}` where a registry answers."
    )


def _mmdebstrap(archive: Path, mirrors: Sequence[str]) -> str | None:
    """Run mmdebstrap. Returns why it failed, or None."""
    command = [
        debian.find_program("mmdebstrap") or "mmdebstrap",
        "--variant=minbase",
        *(f"--aptopt={line}" for line in debian.proxies()),
        # The proxies are those of this machine and must not be in the image.
        '--customize-hook=rm -f "$1/etc/apt/apt.conf.d/99mmdebstrap"',
        SUITE,
        str(archive),
        *mirrors,
    ]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=_BUILD_S, check=False
        )
    except subprocess.TimeoutExpired:
        return f"mmdebstrap did not end within {_BUILD_S} s"
    if done.returncode == 0:
        return None
    tail = "\n".join(done.stderr.strip().splitlines()[-6:])
    return f"mmdebstrap ended with {done.returncode}:\n{tail}"
