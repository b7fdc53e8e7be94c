"""Docker's command line, for what the SDK cannot do: BuildKit (`docker buildx`) and Compose (`docker compose`)."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import psutil

INSTALL = (
    "Debian 13: `sudo apt-get install docker-buildx docker-compose`; Ubuntu: `sudo apt-get install docker-buildx "
    "docker-compose-v2`; elsewhere: https://docs.docker.com/engine/install/"
)
_ASK_S = 60
_GRACE_S = 5.0
_BUILDKIT_BUILT_IN = range(19, 23)
"""Major versions of the command line that have BuildKit themselves; later ones need the plugin buildx."""
_CONFIG = "config.json"
_running = set[subprocess.Popen[bytes]]()
"""Commands that are waited for."""


def commands() -> tuple[str, ...]:
    """Every `docker` on `PATH`, in its order. Some have plugins that others lack."""
    found: dict[Path, str] = {}
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        # shutil.which takes a folder that may not be read for one without the program.
        if program := shutil.which("docker", path=folder or os.curdir):
            found.setdefault(Path(program).resolve(), os.path.abspath(program))
    return tuple(found.values())


def command_with(plugin: str) -> str | None:
    """The first `docker` on `PATH` that has the plugin, such as `buildx` or `compose`; None if none has."""
    return next((program for program in commands() if version_of(program, plugin) is not None), None)


def version_of(program: str, plugin: str) -> str | None:
    """What `docker PLUGIN version` prints, on one line; None if it fails."""
    return _ask(program, plugin, "version")


def command_with_buildkit() -> str | None:
    """The first `docker` on `PATH` that builds with BuildKit without a plugin; None if none does."""
    for program in commands():
        version = re.match(r"Docker version (\d+)", _ask(program, "--version") or "")
        if version is not None and int(version[1]) in _BUILDKIT_BUILT_IN:
            return program
    return None


@contextmanager
def process(
    argv: Sequence[str], env: Mapping[str, str], stdout: IO[bytes], stderr: IO[bytes]
) -> Iterator[subprocess.Popen[bytes]]:
    """A command, which is ended with the processes that it started when the context ends."""
    started = subprocess.Popen(argv, env=dict(env), stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr)
    _running.add(started)
    try:
        yield started
    finally:
        if started.poll() is None:
            _end(started.pid)
        started.wait()
        _running.discard(started)


def end_all() -> None:
    """End every command that threads of this process wait for, so that the process can stop."""
    for command in _running.copy():
        if command.poll() is None:
            _end(command.pid)


def run(argv: Sequence[str], env: Mapping[str, str], *, timeout_s: float) -> tuple[int | None, str, str]:
    """Run a command. Returns its exit code, what it printed and its errors; None for one that ran out of time."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        code = None
        with process(argv, env, out, errors) as started, suppress(subprocess.TimeoutExpired):
            code = started.wait(timeout_s)
        texts = []
        for file in (out, errors):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    return code, texts[0], texts[1]


def _end(pid: int) -> None:
    """End a process and its descendants; first in a way that lets BuildKit's client stop its build."""
    with suppress(psutil.NoSuchProcess):
        first = psutil.Process(pid)
        family = [*first.children(recursive=True), first]
        for end in (psutil.Process.terminate, psutil.Process.kill):
            for one in family:
                with suppress(psutil.NoSuchProcess):
                    end(one)
            _, family = psutil.wait_procs(family, _GRACE_S)


def _ask(*command: str) -> str | None:
    try:
        done = subprocess.run(
            command,
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


# ------------------------------------------------------------------------------------------------ the user's settings


def config_folder() -> Path:
    """The folder of the user's settings and plugins."""
    return Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")


def context_name(environment: Mapping[str, str] = os.environ) -> str:
    """The context that the command line and the SDK take with these variables: the name of one, or `default`."""
    if environment.get("DOCKER_HOST"):
        return "default"
    return environment.get("DOCKER_CONTEXT") or _settings().get("currentContext") or "default"


def without_helpers(folder: Path) -> Path:
    """Write the user's settings without their credential helpers into a folder, for `DOCKER_CONFIG`.

    Contexts, proxies, plugins and passwords in the file itself stay.

    Returns:
        The path of its `config.json`.
    """
    own = config_folder()
    folder.mkdir(parents=True)
    for path in own.iterdir() if own.is_dir() else ():
        if path.name != _CONFIG:
            (folder / path.name).symlink_to(path.absolute())
    kept = {key: value for key, value in _settings().items() if key not in {"credsStore", "credHelpers"}}
    # The SDK takes settings without any `auths` for none, and reads the user's own after all.
    kept["auths"] = kept.get("auths") or {"capvec.invalid": {}}
    (folder / _CONFIG).write_text(json.dumps(kept), encoding="utf-8")
    return folder / _CONFIG


def names_a_helper(text: str) -> bool:
    """Whether an error is about a credential helper that is missing, logged out or broken."""
    return re.search(r"docker-credential-|credentials? store|getting credentials", text, re.IGNORECASE) is not None


def _settings() -> dict[str, Any]:
    try:
        settings = json.loads((config_folder() / _CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return settings if isinstance(settings, dict) else {}
