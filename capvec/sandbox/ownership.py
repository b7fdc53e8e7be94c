"""Finds what an agent that is root cannot write, although root could in a plain container.

Root without `DAC_OVERRIDE` is a user as any other: what belongs to another one is closed to it.
"""

from __future__ import annotations

from capvec.sandbox.base import Sandbox
from capvec.task_records import Task

_FIND = r"""
[ "$(id -u)" = 0 ] || exit 0
if ! command -v find >/dev/null; then [ -w . ] || echo .; exit 0; fi
if [ "$PWD" = / ]; then below=-prune; else below=-xdev; fi
find . $below ! -type l ! -user 0 ! \( -group 0 -perm -0020 -o ! -group 0 -perm -0002 \) 2>/dev/null | head -n 1
"""
_LIMIT_S = 60.0


def closed_to_root(sandbox: Sandbox, task: Task) -> str:
    """The first path in the working directory that an agent of the task cannot write although it is root.

    Args:
        sandbox: of the task, with no capabilities but those that the task adds. Its user is another afterwards.
        task: of which each step may have an agent of its own.

    Returns:
        The path, relative to the working directory; empty if there is none, or no agent is root. Of the directory `/`
        only itself is looked at.

    Raises:
        SandboxUnavailable: the sandbox is gone.
    """
    if "DAC_OVERRIDE" in task.environment.limits.cap_add:
        return ""
    for user in dict.fromkeys(step.agent.user for step in task.steps):
        sandbox.enter(user=user, network=None)
        found = sandbox.execute(("sh", "-c", _FIND), timeout_s=_LIMIT_S)
        if found.exit_code == 0 and (path := found.output.strip()):
            return path
    return ""
