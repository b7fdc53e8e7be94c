"""What wrote a `provenance.json`: versions, commit and time."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

from capvec import __version__


def written_by() -> dict[str, Any]:
    """The version of capvec, the commit of the working directory, and the time, in UTC."""
    return {"capvec": __version__, "commit": _commit(), "written": datetime.now(UTC).isoformat(timespec="seconds")}


def versions_of(packages: Sequence[str]) -> dict[str, Any]:
    """The versions of Python and of packages, and the platform; the version of a package that is missing is None."""
    return {
        "python": sys.version.split()[0],
        "platform": f"{platform.system()} {platform.machine()}",
        "versions": {name: _version(name) for name in packages},
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of the working directory's repository, with `+changes` when it is not clean; None outside of one."""

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(("git", *arguments), capture_output=True, text=True, check=False, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "HEAD")
    return f"{commit}+changes" if commit and git("status", "--porcelain") else commit
