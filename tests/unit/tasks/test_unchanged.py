"""A task's files are those that were read, or the difference is told."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support.tasks import CLOSED, make_task

from capvec.errors import TaskChanged
from capvec.tasks import load_task
from capvec.tasks.unchanged import Unchanged

pytestmark = pytest.mark.unit

TEST = "tests/test.sh"


def same_size_and_time(task: Path) -> None:
    """As by a program that hides what it does."""
    file, before = task / TEST, (task / TEST).stat()
    file.write_text(file.read_text().swapcase())
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


CHANGES: dict[str, Callable[[Path], object]] = {
    "other content": lambda task: (task / TEST).write_text("true\n"),
    "other content of one size and time": same_size_and_time,
    "another file": lambda task: (task / "tests" / "more").touch(),
    "a file is removed": lambda task: (task / "instruction.md").unlink(),
    "a program that is none any more": lambda task: (task / TEST).chmod(0o644),
    "a link in its place": lambda task: ((task / TEST).unlink(), (task / TEST).symlink_to("/bin/true")),
    "a pipe": lambda task: os.mkfifo(task / "tests" / "pipe"),
    "its folder is removed": shutil.rmtree,
}


@pytest.fixture
def folder(tmp_path):
    folder = make_task(tmp_path, "greet", CLOSED)
    (folder / TEST).chmod(0o755)
    return folder


@pytest.mark.parametrize("looked", [False, True])
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_told_whether_the_files_were_looked_at_before_or_not(folder, change, looked) -> None:
    task, files = load_task(folder), Unchanged()
    if looked:
        files.check(task)
    CHANGES[change](folder)
    for _ in range(2):
        with pytest.raises(TaskChanged, match=rf"^task greet: the files in {folder} .*: put them back, or begin a new"):
            files.check(task)


def test_files_that_were_put_back_or_only_touched_are_the_same(folder) -> None:
    task, files, content = load_task(folder), Unchanged(), (folder / TEST).read_text()
    files.check(task)
    (folder / TEST).write_text("true\n")
    with pytest.raises(TaskChanged):
        files.check(task)
    (folder / TEST).write_text(content)
    (folder / "instruction.md").touch()
    files.check(task)
