"""Docker's command line, for what the SDK cannot do: BuildKit (`docker buildx`) and Compose (`docker compose`)."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

_ASK_S = 60


def config_folder() -> Path:
    """The folder of the command line's settings and of the user's plugins."""
    return Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")


def commands() -> tuple[str, ...]:
    """Every `docker` on `PATH`, in its order. Some have plugins that others lack."""
    found: dict[Path, str] = {}
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        program = Path(folder or ".") / "docker"
        if program.is_file() and os.access(program, os.X_OK):
            found.setdefault(program.resolve(), str(program.absolute()))
    return tuple(found.values())


def command_with(plugin: str) -> str | None:
    """The first `docker` on `PATH` that has the plugin, such as `buildx` or `compose`; None if none has."""
    return next((program for program in commands() if version_of(program, plugin) is not None), None)


def version_of(program: str, plugin: str) -> str | None:
    """What `docker PLUGIN version` prints, on one line; None if it fails."""
    try:
        done = subprocess.run(
            (program, plugin, "version"),
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=_ASK_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return " ".join(done.stdout.split()) if done.returncode == 0 else None
