"""Builds a Dockerfile: with BuildKit through Docker's command line, or else with the classic builder.

Three things that are no fault of the Dockerfile are put right and said: a credential helper that fails, a frontend
that cannot be fetched, and BuildKit missing from the machine, without which the classic builder still builds most.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import docker.errors

from capvec.errors import UsageError
from capvec.programs import python
from capvec.sandbox import docker_cli
from capvec.sandbox.base_image import BASE_IMAGE
from capvec.sandbox.docker_host import HostClient, faults
from capvec.sandbox.dockerfile import FRONTEND, buildkit_features, syntax, without_syntax
from capvec.text import printable

Say = Callable[[str], None]

PROGRESS_S = 15.0
"""How often a build that takes long says so."""
_LOG_LINES = 15
_LOG_BYTES = 64_000
_NO_IMAGE = r"resolve source metadata|/manifests/|manifest unknown|pull access denied|dial tcp|lookup|registry"
_CURRENT = 23
"""The major version of Docker from which its BuildKit has heredocs and `COPY --link`."""


@dataclass(frozen=True)
class Builder:
    """A command that builds a folder's Dockerfile."""

    argv: tuple[str, ...]
    name: str
    """`buildkit`, `classic` or `podman`."""


@dataclass(frozen=True)
class _Build:
    """One attempt: what is built, how and with which settings."""

    builder: Builder
    folder: Path
    tag: str
    env: dict[str, str]
    own: Path
    """The Dockerfile."""
    options: tuple[str, ...] = ()
    """Of BuildKit's command."""
    dockerfile: Path | None = None
    """Instead of its own."""

    @property
    def argv(self) -> list[str]:
        if self.builder.name != "buildkit":
            return [*self.builder.argv, str(self.folder), self.tag]
        file = self.dockerfile or self.own
        options = ("--progress=plain", f"--tag={self.tag}", f"--file={file}", *self.options)
        return [*self.builder.argv, *options, str(self.folder)]


def find_builder(client: HostClient) -> Builder:
    """BuildKit where the client's Docker and a `docker` on `PATH` have it; else the classic builder."""
    classic = python("capvec.sandbox.classic_builder")
    if any("podman" in component["Name"].lower() for component in client.said.get("Components") or ()):
        return Builder(classic, "podman")  # its builder knows what BuildKit does, and speaks the classic API
    if program := docker_cli.command_with("buildx"):
        # The builder inside Docker, whatever `docker buildx use` chose: others do not see the local images.
        return Builder(
            (program, "buildx", "build", f"--builder={docker_cli.context_name(client.host.environment)}", "--load"),
            "buildkit",
        )
    if program := docker_cli.command_with_buildkit():
        return Builder((program, "build"), "buildkit")
    return Builder(classic, "classic")


def build_image(
    client: HostClient,
    folder: Path,
    tag: str,
    *,
    name: str,
    timeout_s: float,
    say: Say,
    dockerfile: Path | None = None,
    options: tuple[str, ...] = (),
) -> str:
    """Build a folder's Dockerfile. Returns the id of the image.

    Args:
        client: connected to the Docker that will have the image.
        folder: with the Dockerfile; the context of the build.
        tag: name of the image.
        name: of the task, for messages.
        timeout_s: seconds until the build is ended.
        say: takes a line about a build that takes long, and what was put right.
        dockerfile: instead of `Dockerfile` in the folder.
        options: further ones of `docker build`, which need BuildKit.

    Raises:
        UsageError: it does not build. The message has the cause where that is known, and the end of the log.
        SandboxUnavailable: Docker does not answer any more.
    """
    own = dockerfile or folder / "Dockerfile"
    builder, text = find_builder(client), _read(own)
    _refuse_what_would_differ(builder, text, f"task {name}: {own}")
    if builder.name != "buildkit" and (options or own != folder / "Dockerfile"):
        raise UsageError(f"task {name}: {own} needs BuildKit{_missing(options or (str(own),))}")
    with tempfile.TemporaryDirectory(prefix="capvec-build-") as scratch:
        build = _Build(builder, folder, tag, _environment(client, Path(scratch)), own, options)
        allowed = _Time(timeout_s)
        while (log := _run(build, name, allowed, say)) is not None:
            if allowed.left_s <= 0:
                log = f"{log}\nERROR: it did not end within {timeout_s:g} s (build_timeout_sec)"
            elif (mended := _mended(build, text, log, Path(scratch))) is not None:
                build, why = mended
                say(f"task {name}: {why}")
                continue
            with faults():
                client.ping()  # a Docker that went away is no fault of the Dockerfile
            why = _headline(log) + _cause(builder, text, log, client.said["Version"])
            raise UsageError(f"task {name}: {own} does not build: {why}\n{_tail(log)}")
    try:
        return str(client.images.get(tag).id)
    except docker.errors.ImageNotFound as error:
        raise UsageError(
            f"task {name}: {builder.argv[0]} built {tag} on another Docker than {client.api.base_url}; set DOCKER_HOST "
            "to the one that is meant"
        ) from error


def _environment(client: HostClient, scratch: Path) -> dict[str, str]:
    """The variables of a build. State of buildx that only it reads goes to a folder that can be written."""
    return client.host.environment | {
        "DOCKER_BUILDKIT": "1",
        "BUILDX_CONFIG": str(scratch / "buildx"),
        "BUILDX_NO_DEFAULT_ATTESTATIONS": "1",
    }


class _Time:
    """What is left of the time for a build. While this process is suspended, its time stands still."""

    def __init__(self, seconds: float) -> None:
        self.left_s = seconds

    def wait(self, process: subprocess.Popen[bytes]) -> int | None:
        """Wait for the end of a builder until something is to be said. Returns its exit code; None if it goes on."""
        began, step = time.monotonic(), min(PROGRESS_S, self.left_s)
        try:
            return process.wait(step)
        except subprocess.TimeoutExpired:
            return process.poll()
        finally:
            self.left_s -= min(time.monotonic() - began, step)


def _run(build: _Build, name: str, allowed: _Time, say: Say) -> str | None:
    """Run the builder until it ends or the time is up. Returns its log if it failed, or None."""
    started = time.monotonic()
    with tempfile.TemporaryFile() as log, docker_cli.process(build.argv, build.env, log, log) as process:
        while allowed.left_s > 0:
            if (code := allowed.wait(process)) is not None:
                return None if code == 0 else _text(log)
            last = (_text(log).rstrip().splitlines() or ["no output yet"])[-1]
            say(f"building the image of task {name}, {time.monotonic() - started:.0f} s: {last.strip()[:100]}")
        return _text(log)


def _text(log: IO[bytes]) -> str:
    """The end of the log so far. Positioned reads: the writer's place in the file is the reader's too."""
    size = os.fstat(log.fileno()).st_size
    start = max(0, size - _LOG_BYTES)
    return printable(os.pread(log.fileno(), size - start, start).decode("utf-8", "replace"))


# ------------------------------------------------------------------------------------------------------- what failed


def _mended(build: _Build, text: str, log: str, scratch: Path) -> tuple[_Build, str] | None:
    """The build without what made it fail, and a sentence about that; None if nothing can be done."""
    settings = scratch / "settings"
    if docker_cli.names_a_helper(log) and not settings.exists():
        docker_cli.without_helpers(settings)
        why = f"a credential helper failed ({_headline(log)}); building without credentials"
        return replace(build, env=build.env | {"DOCKER_CONFIG": str(settings)}), why
    plain = without_syntax(text)
    if build.builder.name == "buildkit" and build.dockerfile is None and plain and FRONTEND in _headline(log):
        file = scratch / "Dockerfile"
        file.write_text(plain, encoding="utf-8", errors="surrogateescape")
        if (ignore := build.own.with_name(f"{build.own.name}.dockerignore")).is_file():
            (scratch / "Dockerfile.dockerignore").write_bytes(ignore.read_bytes())
        why = (
            f"{syntax(text)} of the Dockerfile's `# syntax` line cannot be fetched; building with the one inside Docker"
        )
        return replace(build, dockerfile=file), why
    return None


def _refuse_what_would_differ(builder: Builder, text: str, what: str) -> None:
    """Refuse arguments that the classic builder leaves empty without a word."""
    silent = [feature for feature in buildkit_features(text) if feature.startswith("ARG ")]
    if builder.name == "classic" and silent:
        raise UsageError(f"{what} needs BuildKit{_missing(silent)}")


def _cause(builder: Builder, text: str, log: str, version: str) -> str:
    """The cause and the remedy, where the log tells them; `version` is Docker's."""
    features = buildkit_features(text)
    if builder.name == "classic" and features:
        return f"\nThe cause: BuildKit is missing{_missing(features)}"
    if builder.name == "podman" and "a heredoc" in features:
        return f"\nThe cause may be a heredoc: Podman has them from 4.8 on, and this is {version}."
    major = re.match(r"\d+", version)
    old = builder.name == "buildkit" and major is not None and int(major[0]) < _CURRENT
    if old and features and re.search("unknown (instruction|flag)", log, re.IGNORECASE):
        return (
            f"\nThe cause: the Dockerfile uses {', '.join(features)}, and the BuildKit of this Docker {version} is too "
            f"old for that. Install Docker {_CURRENT} or later (Debian 13 and Ubuntu have it; elsewhere: "
            "https://docs.docker.com/engine/install/); or, where Docker Hub answers, begin the Dockerfile with "
            "`# syntax=docker/dockerfile:1`"
        )
    if re.search(_NO_IMAGE, _headline(log), re.IGNORECASE):
        remedy = (
            "`make setup` pulls or builds it" if BASE_IMAGE in text else "`docker pull` it where a registry answers"
        )
        return f"\nIf its base image is missing: {remedy}."
    return ""


def _missing(features: list[str] | tuple[str, ...]) -> str:
    return (
        f": the Dockerfile uses {', '.join(features)}, and no `docker` on PATH has the plugin buildx. Run "
        f"`capvec setup`, which installs it where it can, or install it by hand: {docker_cli.INSTALL}"
    )


def _is_error(line: str) -> bool:
    return re.match(r"(?:#\d+ )?error\b", line.strip(), re.IGNORECASE) is not None


def _headline(log: str) -> str:
    """The last line that tells of an error, without the names of the layers that passed it on."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    line = next((line for line in reversed(lines) if _is_error(line)), lines[-1] if lines else "no output")
    return _cause_in(line)[:500]


def _cause_in(line: str) -> str:
    line = re.sub(r"^(?:#\d+ )?error:? ", "", line.strip(), flags=re.IGNORECASE)
    return re.sub(r"(?:failed to solve(?: with frontend \S+)?: |rpc error: code = \w+ desc = )+", "", line)


def _tail(log: str) -> str:
    """The end of the log, without the lines that only repeat the headline."""
    headline = _headline(log)
    lines = [line for line in log.rstrip().splitlines() if not (_is_error(line) and _repeats(line, headline))]
    return "\n".join(f"  {line}" for line in lines[-_LOG_LINES:])


def _repeats(line: str, headline: str) -> bool:
    cause = _cause_in(line)
    return cause in headline or headline in cause


def _read(dockerfile: Path) -> str:
    try:
        return dockerfile.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise UsageError(f"cannot read {dockerfile}: {error.strerror}") from error
