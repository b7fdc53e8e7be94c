"""The system's own files, restored from the image before the verifier runs.

The verifier's `bash`, `cmp` or `sed` come from a file system that the agent could write to, and an agent that replaces
one of them can write its own reward. Nothing inside the container can tell whether it did. Therefore they are restored
from outside (`capvec.sandbox.root_work`), while everything in the container is frozen.

A changed file is recognised by the time of its inode's last change, which no process can set. (Docker's own list of
changed paths is based on size and modification time, which an agent can forge, and takes longer.)
"""

from __future__ import annotations

import tarfile
from contextlib import ExitStack
from tempfile import TemporaryFile
from typing import IO, Any, cast

import docker

from capvec.sandbox.accounts import restore_accounts
from capvec.sandbox.base import TakenBack
from capvec.sandbox.processes import SPARED, Keepers
from capvec.sandbox.reaper import remove
from capvec.sandbox.root_work import COMMANDS, EMPTY, Origin, work_as_root
from capvec.text import one_line

LIBRARIES = (
    *("/lib", "/lib32", "/lib64", "/libx32"),
    *("/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libx32", "/usr/libexec"),
)
SETTINGS = (
    # Of the dynamic loader (glibc's and musl's), and of names such as `awk`, which are links into /etc/alternatives.
    *("/etc/ld.so.preload", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d"),
    *("/etc/ld-musl-x86_64.path", "/etc/ld-musl-aarch64.path", "/etc/alternatives"),
)
PACKAGES = ("/var/lib/dpkg", "/var/lib/rpm")
"""The package manager's lists, restored together with the files so that a verifier can install packages."""
TRUSTED = ("/logs/verifier", "/tests")
"""Folders that the verifier trusts, emptied before it runs. An image's own `/tests` comes back."""

_SCRIPT = (
    r"""
set -eu
since=$1 keep=$2 born=$3 own=$4 end=$5 path=$6 commands=$7 system=$8 packages=$9
root=/proc/1/root
put_back='' may_be_missing=''

"""
    + SPARED
    + r"""
# name PID: say which program it is. The shell of a phase, whose parent is outside, and the dead are not worth a word.
name() {
  case " $own " in *" $1 "*) return ;; esac
  read -r name 2>/dev/null <"/proc/$1/comm" && fields "$1" || return 0
  set -- $stat
  if [ "$1" != Z ] && [ "$2" != 0 ]; then printf 'ended %s\n' "$name"; fi
}

for entry in ${end:+/proc/[0-9]*}; do
  pid=${entry#/proc/}
  if [ "$pid" = $$ ] || spared "$pid"; then continue; fi
  name "$pid"
  kill -9 "$pid" 2>/dev/null || :
done

exists() { [ -e "$1" ] || [ -L "$1" ]; }
real_folder() { [ -d "$1" ] && [ ! -L "$1" ]; }
say() { put_back=1; printf '%s\n' "$1"; }

# changed PATH: it may not be what it is in the image. A `find` that cannot tell counts as a yes.
changed() {
  exists "$1" || { exists "$root$1"; return; }
  exists "$root$1" || return 0
  found=$(find "$root$1" -newerct "$since" -print -quit 2>/dev/null) || return 0
  [ -n "$found" ]
}

# replace PATH: with the image's, or with nothing where the image has nothing.
replace() {
  rm -rf "$root$1"
  if exists "$1"; then cp -a "$1" "$root$1"; fi
  say "$1"
}

# lead FOLDER: to the same place as in the image, with no link where the image has a folder, another link or nothing.
lead() {
  [ -n "$1" ] || return 0
  lead "${1%/*}"
  if real_folder "$1" && real_folder "$root$1"; then return 0; fi
  if [ -L "$1" ] && [ -L "$root$1" ] && [ "$(readlink "$1")" = "$(readlink "$root$1")" ]; then return 0; fi
  if [ ! -L "$root$1" ]; then
    exists "$1" || return 0
    if [ -n "$may_be_missing" ] && [ ! -e "$root$1" ]; then return 0; fi
  fi
  replace "$1"
}

# unshadow FOLDER FOLDERS: no new or changed file in it has the name of one of the system's, which are in FOLDERS.
unshadow() {
  real_folder "$root$1" || return 0
  for entry in "$root$1"/*; do
    name=${entry##*/}
    for folder in $2; do
      if exists "$folder/$name" && changed "$1/$name"; then replace "$1/$name"; fi
    done
  done
}

for item in $system; do
  lead "${item%/*}"
  # Open also to the container's own processes, which are not root's.
  if exists "$item"; then chmod a+rx "$root${item%/*}"; fi
  if changed "$item"; then replace "$item"; fi
done
for item in ${put_back:+$packages}; do
  lead "${item%/*}"
  if changed "$item"; then replace "$item"; fi
done

may_be_missing=1
while [ -n "$path" ]; do
  place=${path%%:*}
  case $path in *:*) path=${path#*:} ;; *) path= ;; esac
  case $place in /*) place=${place%/} ;; *) continue ;; esac
  lead "$place"
  place=$(readlink -f "$place" || printf '%s' "$place")
  lead "$place"
  case " $system " in *" $place "*) ;; *) unshadow "$place" "$commands" ;; esac
done
# musl's loader looks here between /lib and /usr/lib.
if ls /lib/ld-musl-* >/dev/null 2>&1; then
  lead /usr/local/lib
  unshadow /usr/local/lib "/lib /usr/lib"
fi

"""
    + EMPTY
    + r"""
empty /logs/verifier 777
if [ ! -e "$root/logs/artifacts" ]; then empty /logs/artifacts 777; fi
rm -rf "$root/tests"
if exists /tests; then cp -a /tests "$root/tests"; fi

new=$(find "$root/dev" -maxdepth 1 ! -name shm ! -name pts ! -name mqueue -newerct "$since" 2>/dev/null) || new=unknown
if [ -n "$new" ]; then say /dev; fi
"""
)


def put_back(
    client: docker.DockerClient, container: str, origin: Origin, keep: Keepers, *, own: str, end: bool
) -> TakenBack:
    """End the processes of a frozen container, where that is asked for, and restore the system's files.

    A second call restores the same paths again, since they changed after the start. If the image's `find` is not GNU's,
    changes cannot be recognised, and everything is restored. The folders in `TRUSTED` are emptied as well.

    Args:
        client: connected to the container's Docker.
        container: name of a paused container. Its processes die when it resumes, before they do anything else.
        origin: what the container was before the agent.
        keep: the processes that stay alive.
        own: the PIDs of those that are not worth a word when they end.
        end: whether any are to end.

    Returns:
        The paths that had changed, and the processes that end. `/dev` among the paths is not restored: only a restart
        of the container does that.

    Raises:
        SandboxBroken: the files cannot be restored, so that no verifier in this container can be trusted.
    """
    system = (COMMANDS, (*COMMANDS, *LIBRARIES, *SETTINGS), PACKAGES)
    lines = work_as_root(
        client,
        container,
        origin,
        _SCRIPT,
        (origin.since, *keep, own, "end" if end else "", origin.path, *map(" ".join, system)),
        what="the system's files cannot be restored before the verifier runs",
    )
    ended = dict.fromkeys(one_line(line.removeprefix("ended ")) for line in lines if line.startswith("ended "))
    return TakenBack(tuple(line for line in lines if line.startswith("/")), tuple(ended))


def restore_commands(client: docker.DockerClient, container: str, origin: Origin) -> None:
    """Start a container that cannot start, since the agent removed what its first processes need.

    The image's commands and libraries, and its users, are written over what is there. `put_back` does the rest.

    Raises:
        docker.errors.APIError: Docker cannot write them, or cannot start the container.
    """
    name, api = f"{container}-image", cast("Any", client.api)
    with ExitStack() as cleanup, TemporaryFile() as archive:
        cleanup.callback(remove, client, name)
        client.containers.create(origin.image, ["true"], name=name, labels=dict(origin.labels))
        exported = cleanup.enter_context(TemporaryFile())
        exported.writelines(api.export(name))
        exported.seek(0)
        _select(exported, archive)
        archive.seek(0)
        api.put_archive(container, "/", archive)
        restore_accounts(client, container, origin)
        api.start(container)


def _select(exported: IO[bytes], selected: IO[bytes]) -> None:
    """Copy commands, libraries and the folders above them from one tar archive to another."""
    wanted = [place.strip("/") for place in (*COMMANDS, *LIBRARIES)]
    with tarfile.open(fileobj=exported, mode="r:") as source, tarfile.open(fileobj=selected, mode="w:") as target:
        root = tarfile.TarInfo("./")
        root.type, root.mode = tarfile.DIRTYPE, 0o755
        target.addfile(root)
        for member in source:
            if any(
                f"{member.name}/".startswith(f"{place}/") or f"{place}/".startswith(f"{member.name}/")
                for place in wanted
            ):
                target.addfile(member, source.extractfile(member) if member.isfile() else None)
