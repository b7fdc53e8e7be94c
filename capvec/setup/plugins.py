"""Docker's plugins for BuildKit and Compose: installed from Debian's packages where they are missing."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from capvec.errors import UsageError
from capvec.sandbox import docker_cli
from capvec.setup import debian

_SUITE = "trixie"
_FOLDER = "usr/libexec/docker/cli-plugins"


@dataclass(frozen=True)
class Plugin:
    """A plugin of Docker's command line."""

    packages: tuple[str, ...]
    """Names of its package: Debian's, and Ubuntu's where that differs."""
    oldest: int
    """The first major version of the package that is the plugin; older ones of that name are another program."""
    without: str
    """What does not work where it is missing."""


PLUGINS = {
    "buildx": Plugin(("docker-buildx",), 0, "Dockerfiles that need BuildKit do not build"),
    "compose": Plugin(("docker-compose-v2", "docker-compose"), 2, "tasks with a docker-compose.yaml do not run"),
}


def missing_plugins() -> tuple[str, ...]:
    """The plugins that no `docker` on `PATH` has."""
    return tuple(name for name in PLUGINS if docker_cli.command_with(name) is None)


def ensure_plugins(say: Callable[[str], None]) -> None:
    """Install the plugins that are missing; where that cannot be done, say what does not work without them."""
    if not (missing := missing_plugins()):
        return
    failure = "there is no `docker` command on PATH"
    if docker_cli.commands():
        try:
            _install(missing, say)
        except (UsageError, OSError) as error:
            failure = str(error)
        else:
            failure = "they do not run here"
    if missing := missing_plugins():
        lost = " and ".join(PLUGINS[name].without for name in missing)
        say(f"without docker {' and '.join(missing)}, {lost}: {failure}. Install them by hand: {docker_cli.INSTALL}")


def _install(names: tuple[str, ...], say: Callable[[str], None]) -> None:
    """Install this release's packages as root; else put those of Debian's next release into the user's folder."""
    packages = [_package(name) for name in names]
    if all(packages) and debian.can_install():
        say(f"installing {' '.join(filter(None, packages))}")
        debian.install(*filter(None, packages))
        return
    folder = docker_cli.config_folder() / "cli-plugins"
    say(f"fetching docker {' and '.join(names)} from Debian {_SUITE} into {folder}")
    with tempfile.TemporaryDirectory() as scratch:
        debian.unpack(_SUITE, [PLUGINS[name].packages[-1] for name in names], Path(scratch))
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            fresh = folder / f".docker-{name}.new"
            shutil.copy2(Path(scratch) / _FOLDER / f"docker-{name}", fresh)
            fresh.replace(folder / f"docker-{name}")  # never half a program, also where two processes set up


def _package(name: str) -> str | None:
    """The package of this machine's release that has the plugin, or None."""
    plugin = PLUGINS[name]
    return next((package for package in plugin.packages if debian.offers(package, plugin.oldest)), None)
