"""The instrument's own work on a container's files, done as root, independent of what the container's users may do.

Nothing inside the container can be trusted with it: the agent may have replaced its programs, and a container without
capabilities has no user who may write everywhere. Therefore a second container of the same image, which the agent never
reached, does it: it shares the first one's processes, sees its file system at `/proc/1/root`, and uses its own
programs. It has the capabilities to read and write any file there and to end any process, and no others.
"""

from __future__ import annotations

import calendar
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import docker
import docker.errors
from docker.models.containers import Container

from capvec.errors import SandboxBroken, SandboxUnavailable
from capvec.sandbox.reaper import remove
from capvec.sandbox.streams import ASKED

COMMANDS = ("/bin", "/sbin", "/usr/bin", "/usr/sbin")
_CAPABILITIES = ("SYS_PTRACE", "KILL", "DAC_OVERRIDE", "CHOWN", "FOWNER", "FSETID")
LIMIT_S = 600.0
"""How long it may take, as where it copies an image's libraries on a busy disk, or removes millions of files."""
_DONE = "done"
"""The last line that a script prints: without it, Docker has lost some of them."""

EMPTY = r"""
# empty FOLDER MODE: as a folder of root's with nothing in it but what is mounted, and real folders on the way to it.
empty() {
  root_folder "${1%/*}"
  mounted=$(mounted "$1")
  if [ -n "$mounted" ]; then
    (IFS='
'; set -f; find "$root$1" $mounted -prune -exec rm -rf -- {} +)
    chown 0:0 "$root$1"
  else
    rm -rf "$root$1"
    mkdir "$root$1"
  fi
  chmod "$2" "$root$1"
}
# clear PATH: nothing but what is mounted, and real folders on the way to it.
clear() {
  if [ -n "$(mounted "$1")" ]; then empty "$1" 755; else root_folder "${1%/*}"; rm -rf "$root$1"; fi
}
# mounted FOLDER: for find, all but the mount points at and below it and the folders on the way there. From here they
# could be removed, with which the container would lose its volume.
mounted() {
  sed 's/\\\([0-7][0-7][0-7]\)/\\0\1/g' /proc/1/mountinfo | while read -r _ _ _ _ point _; do
    point=$(printf '%b' "$point")
    while case $point in "$1" | "$1"/*) true ;; *) false ;; esac; do
      printf '!\n-path\n%s\n' "$root$point" | sed 's/[][*?\\]/?/g'
      point=${point%/*}
    done
  done
}
root_folder() {
  [ -n "$1" ] || return 0
  root_folder "${1%/*}"
  if [ -L "$root$1" ] || [ ! -d "$root$1" ]; then rm -rf "$root$1"; mkdir "$root$1"; chmod 755 "$root$1"; fi
  chmod a+rx "$root$1"
}
"""
"""Shell functions that empty folders and remove paths below `$root`."""


@dataclass(frozen=True)
class Origin:
    """What a container was before an agent had access to it."""

    image: str
    """Id of its image."""
    since: str
    """When it started, in the form that `find` reads: `@` and seconds since 1970, with their fraction."""
    path: str
    """`PATH` of its programs; empty if the image sets none."""
    labels: Mapping[str, str]
    """Labels by which the reaper finds its containers."""

    @classmethod
    def of(cls, client: docker.DockerClient, container: str) -> Self:
        """Ask Docker. Call it right after a start, before an agent can have done anything."""
        found: Any = client.api.inspect_container(container)
        config = found["Config"]
        path = next((entry[5:] for entry in config["Env"] or () if entry.startswith("PATH=")), "")
        # RFC 3339 with up to nine digits of a second, in UTC.
        whole, _, fraction = found["State"]["StartedAt"].rstrip("Z").partition(".")
        since = f"@{calendar.timegm(time.strptime(whole, '%Y-%m-%dT%H:%M:%S'))}.{fraction or '0'}"
        return cls(found["Image"], since, path, config["Labels"])


def work_as_root(
    client: docker.DockerClient, container: str, origin: Origin, script: str, arguments: Sequence[str], *, what: str
) -> tuple[str, ...]:
    """Run a shell script beside a container, whose file system is at `/proc/1/root`. Returns the lines that it printed.

    Args:
        client: connected to the container's Docker.
        container: name of the container, which runs or is paused.
        origin: what the container was before the agent.
        script: for the image's `sh`; run again where Docker has lost what it printed.
        arguments: of the script, from `$1`.
        what: cannot be done if the script fails, for the message.

    Raises:
        SandboxBroken: the script failed.
        SandboxUnavailable: Docker loses what it prints.
    """
    for _ in range(ASKED):
        *lines, last = _run(client, container, origin, f"{script}\necho {_DONE}", arguments, what) or [""]
        if last == _DONE:
            return tuple(lines)
    raise SandboxUnavailable(f"Docker lost {ASKED} times what a container printed: {what}")


def _run(
    client: docker.DockerClient, container: str, origin: Origin, script: str, arguments: Sequence[str], what: str
) -> list[str]:
    command = ["sh", "-c", script, "sh", *arguments]
    path = ":".join(filter(None, (*reversed(COMMANDS), origin.path)))
    with beside(
        client,
        container,
        origin,
        command,
        environment={"PATH": path},
        pid_mode=f"container:{container}",
        cap_add=list(_CAPABILITIES),
    ) as helper:
        exit_code = _wait(helper, what)
        if exit_code != 0:
            said = helper.logs(stdout=False, tail=5).decode(errors="replace").strip()
            raise SandboxBroken(f"{what} (exit code {exit_code}): {said}")
        return list(helper.logs(stderr=False).decode(errors="replace").splitlines())


@contextmanager
def beside(
    client: docker.DockerClient, container: str, origin: Origin, command: Sequence[str], **settings: Any
) -> Iterator[Container]:
    """A further container of the image of another, which runs a command as root, removed when the context ends.

    Args:
        client: connected to the container's Docker.
        container: the name of the other, with which that of this one begins.
        origin: what the other was before the agent.
        command: program and arguments.
        settings: further ones of the SDK's `create`.
    """
    name = f"{container}-{uuid.uuid4().hex[:8]}"
    try:
        helper = client.containers.create(
            origin.image,
            name=name,
            entrypoint=list(command),
            command=[],
            user="0",
            working_dir="/",
            init=False,
            healthcheck={"test": ["NONE"]},
            network_mode="none",
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            labels=dict(origin.labels),
            **settings,
        )
        helper.start()
        yield helper
    finally:
        remove(client, name)


def _wait(helper: Container, what: str) -> int:
    """The exit code of a container, once it has ended.

    Raises:
        SandboxBroken: it takes too long, although Docker answers.
    """
    began = time.monotonic()
    try:
        return int(helper.wait(timeout=LIMIT_S)["StatusCode"])
    except (OSError, docker.errors.DockerException):  # requests' errors among them
        helper.reload()
        if helper.status == "running" and time.monotonic() - began < LIMIT_S:
            raise
    if helper.status == "running":
        raise SandboxBroken(f"{what} within {LIMIT_S:g} s")
    return int(helper.attrs["State"]["ExitCode"])


def empty_folders(client: docker.DockerClient, container: str, origin: Origin, folders: Sequence[str]) -> None:
    """Make folders of a container empty and writable for all, or anew where they are missing or no folders.

    Raises:
        SandboxBroken: they cannot be emptied.
    """
    work = _for_each('empty "$path" 777')
    work_as_root(client, container, origin, work, folders, what=f"{', '.join(folders)} cannot be emptied")


def clear_paths(client: docker.DockerClient, container: str, origin: Origin, paths: Sequence[str]) -> None:
    """Remove files and folders of a container. Where something is mounted, empty folders stay.

    Raises:
        SandboxBroken: they cannot be removed.
    """
    work = _for_each('clear "$path"')
    work_as_root(client, container, origin, work, paths, what=f"{', '.join(paths)} cannot be removed")


def _for_each(command: str) -> str:
    """A script that does this, in the container's own files, to each `$path` it is given."""
    return f'set -eu\nroot=/proc/1/root\n{EMPTY}\nfor path in "$@"; do {command}; done'
