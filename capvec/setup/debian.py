"""Debian's packages: installing them as root on Debian and Ubuntu, and the mirrors that apt uses."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess

from capvec.errors import UsageError

_APT_S = 1800
_SYSTEM_FOLDERS = "/usr/local/sbin:/usr/sbin:/sbin"


def can_install() -> bool:
    """Whether this is Debian or a derivative, and the user is root."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return False
    systems = {release.get("ID", ""), *release.get("ID_LIKE", "").split()}
    return bool(systems & {"debian", "ubuntu"}) and os.geteuid() == 0


def install(*packages: str) -> None:
    """Install packages with apt, and those they recommend, without which Docker does not start everywhere.

    Raises:
        UsageError: apt failed. The message has the end of its output.
    """
    # One broken source makes an update fail, but the package may come from another: only the installation counts.
    _apt("update")
    # A fresh Ubuntu updates itself in the background and holds the lock meanwhile.
    failure = _apt("-o", "DPkg::Lock::Timeout=300", "install", "--yes", *packages)
    if failure is not None:
        raise UsageError(
            f"`apt-get install {' '.join(packages)}` failed:\n{failure}\n"
            f"Install {' '.join(packages)} by hand and try again."
        )


def find_program(name: str) -> str | None:
    """The path of a system program or None; also searches root's folders, which `PATH` lacks after `su`."""
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:{_SYSTEM_FOLDERS}")


def mirrors(suite: str) -> tuple[str, ...]:
    """Lines of `sources.list` for `suite`, on the mirrors of Debian that apt uses here; empty where it uses none."""
    listed = _ask(
        "apt-get", "indextargets", "--format", "$(ORIGIN) $(CODENAME) $(REPO_URI)", "Created-By: Packages"
    ).split("\n")
    fields = [line.split(" ") for line in listed if line.startswith("Debian ") and line.count(" ") == 2]
    main = [uri for _, codename, uri in fields if "-" not in codename]
    security = [uri for _, codename, uri in fields if codename.endswith("-security")]
    lines = [f"deb {uri} {suite} main" for uri in main[:1]]
    return tuple(lines + [f"deb {uri} {suite}-security main" for uri in security[:1] if lines])


def proxies() -> tuple[str, ...]:
    """The proxies that apt uses here, as lines of its configuration."""
    keys = ("Acquire::http::Proxy", "Acquire::https::Proxy")
    dumped = _ask("apt-config", "dump", *keys).split("\n")
    return tuple(line for line in dumped if line.startswith(tuple(f'{key} "' for key in keys)) and '""' not in line)


def _ask(*command: str) -> str:
    """The output of a query; empty where the program is missing or fails, as on other systems than Debian."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60, check=False
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _apt(*arguments: str) -> str | None:
    """Run apt-get. Returns the end of its output if it failed, or None."""
    try:
        done = subprocess.run(
            ("apt-get", *arguments),
            env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=_APT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"it did not end within {_APT_S} s"
    return "\n".join((done.stderr or done.stdout).strip().splitlines()[-5:]) if done.returncode else None
