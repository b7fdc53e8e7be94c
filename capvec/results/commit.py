"""The commit of the working directory, which is asked of git without running a program that a repository names.

A repository's own configuration may name programs for git to run, and the working directory may be one that somebody
else packed. `git status` runs a monitor of the file system, a hook where it writes the index, the filters of files that
it compares, another `git status` in each submodule, and what fetches objects that are missing. Each is switched off.
"""

from __future__ import annotations

import os
import subprocess

_LIMIT_S = 10.0
"""How long git may take to answer."""
_NO_MONITOR = ("-c", "core.fsmonitor=false", "-c", f"core.hooksPath={os.devnull}")
_NO_FETCH = {"GIT_OPTIONAL_LOCKS": "0", "GIT_NO_LAZY_FETCH": "1", "GIT_ALLOW_PROTOCOL": "none"}


def commit() -> str | None:
    """The commit of the working directory's repository; None outside of one.

    Returns:
        Its name, with `+changes` where the working directory is not known to be clean.
    """
    name = _git("rev-parse", "HEAD")
    if not name:
        return None
    return name if _is_clean() else f"{name}+changes"


def _is_clean() -> bool:
    filters = _git("config", "--null", "--name-only", "--get-regexp", r"^filter\.", missing=1)
    if filters is None or "=" in filters:  # after which git would look for a value
        return False
    drivers = {key.rpartition(".")[0] for key in filters.split("\0") if key}
    off = [f"{driver}.{key}" for driver in sorted(drivers) for key in ("clean=", "process=", "required=false")]
    switches = [word for setting in off for word in ("-c", setting)]
    return _git(*switches, "status", "--porcelain", "--ignore-submodules=dirty") == ""


def _git(*arguments: str, missing: int = 0) -> str | None:
    """What git prints; None where it fails. Exit code `missing` is no failure."""
    command = ("git", *_NO_MONITOR, *arguments)
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False, timeout=_LIMIT_S,
            env=os.environ | _NO_FETCH,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode in (0, missing) else None
