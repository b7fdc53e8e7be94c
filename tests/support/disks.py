"""Small disks that fill up, and disks that cannot be written: real ones, which only root can mount."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest


@contextmanager
def small_disk(folder: Path, size: str = "256k", inodes: int = 0) -> Iterator[Path]:
    """A file system of this size, and for so many files and folders if a number is given, mounted on a new folder."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a disk")
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},nr_inodes={inodes}", "tmpfs", folder],
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        pytest.skip(f"no mounts here: {done.stderr.decode()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(disk: Path, leave: int = 0) -> Path:
    """A file that takes all space of a disk but `leave` bytes, also where others write; remove it to free the space."""
    free = os.statvfs(disk)
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        for _ in range(max(free.f_bavail - -(-leave // free.f_frsize), 0)):
            file.write(b"\0" * free.f_frsize)
    return ballast


def use_up_inodes(disk: Path) -> Path:
    """A folder of empty files, after which the disk can hold no more; remove it to free them."""
    ballast = disk / "many"
    ballast.mkdir()
    with suppress(OSError):
        for number in range(os.statvfs(disk).f_ffree + 1):
            (ballast / str(number)).touch()
    return ballast


def make_read_only(disk: Path) -> None:
    """Let nothing be written on a disk any more."""
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
