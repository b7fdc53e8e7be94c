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


def written_by() -> dict[str, Any]:
    """The version of capvec, the commit of the working directory, and the time, in UTC."""
    return {"capvec": __version__, "commit": commit(), "written": datetime.now(UTC).isoformat(timespec="seconds")}


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
