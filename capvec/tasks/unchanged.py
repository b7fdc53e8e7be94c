"""Whether the files of tasks are still those that were read: trials copy them into containers until a run ends."""

from __future__ import annotations

import os
from pathlib import Path

from capvec.errors import TaskChanged, UsageError
from capvec.task_records import Task
from capvec.tasks.checksum import folder_checksum

_Look = frozenset[tuple[str, int, int, int, int, int]]
"""Of each file and folder: path, inode, mode, size, and when it was changed, which no program can set."""


class Unchanged:
    """Compares tasks with their checksums, and reads files anew only where something about them has changed."""

    def __init__(self) -> None:
        self._seen = dict[str, _Look]()
        """Task → its folder, when its files had the checksum."""

    def check(self, task: Task) -> None:
        """Do nothing, unless the files of a task differ from those that were read.

        Raises:
            TaskChanged: they do, or cannot be read.
        """
        try:
            look = _look(task.path)
            if self._seen.get(task.name) != look:
                if folder_checksum(task.path) != task.checksum:
                    raise _changed(task, "are not those that were read at the start")
                self._seen[task.name] = look
        except (OSError, UsageError) as error:
            raise _changed(task, f"cannot be read any more ({error})") from error


def _look(folder: Path) -> _Look:
    paths = (Path(root) / name for root, folders, files in os.walk(folder) for name in (*folders, *files))
    return frozenset(
        (str(path), one.st_ino, one.st_mode, one.st_size, one.st_mtime_ns, one.st_ctime_ns)
        for path in paths
        for one in [path.lstat()]
    )


def _changed(task: Task, how: str) -> TaskChanged:
    return TaskChanged(f"task {task.name}: the files in {task.path} {how}: put them back, or begin a new run")
