"""What wrote a `provenance.json`: versions, commit and time."""

from __future__ import annotations

import platform
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

from capvec import __version__
from capvec.results.commit import commit


def now() -> str:
    """The time, ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def written_by() -> dict[str, Any]:
    """The version of capvec, the commit of the working directory, and the time, in UTC."""
    return {"capvec": __version__, "commit": commit(), "written": now()}


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
