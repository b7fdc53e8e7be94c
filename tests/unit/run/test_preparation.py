"""Images are made ready task by task, and what fails with one of them is said of that task."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.scripted_sandbox import ScriptedProvider

from capvec.errors import FileTooLarge, InfrastructureError, SandboxBroken, SandboxUnavailable, UsageError
from capvec.run.preparation import prepare_images
from capvec.task_records import Task

pytestmark = pytest.mark.unit
TASKS = [Task(name, Path(), "do it", "0") for name in ("a", "b", "c")]


class Failing(ScriptedProvider):
    """Cannot prepare the task `b`."""

    def __init__(self, error: Exception, away: Exception | None = None) -> None:
        super().__init__({}, away=away)
        self.error = error

    def prepare(self, task: Task) -> str:
        if task.name == "b":
            raise self.error
        return super().prepare(task)


@pytest.mark.parametrize(
    "error",
    [UsageError("task b: no such image"), SandboxBroken("Docker refuses"), FileTooLarge("/etc/passwd is large")],
)
def test_a_fault_of_one_task_leaves_the_others_or_ends_the_work_with_its_name(error: Exception) -> None:
    images, unbuilt = prepare_images(Failing(error), TASKS, keep_going=True)
    assert list(images) == ["a", "c"]
    assert unbuilt["b"].problem == "its environment cannot be made"
    assert unbuilt["b"].nothing.evidence == (str(error),)
    with pytest.raises((UsageError, InfrastructureError), match=r"^task b: "):
        prepare_images(Failing(error), TASKS, keep_going=False)


def test_a_docker_that_is_gone_ends_the_work() -> None:
    gone = SandboxUnavailable("Docker does not answer")
    with pytest.raises(SandboxUnavailable, match="does not answer"):
        prepare_images(Failing(gone, away=gone), TASKS, keep_going=True)
