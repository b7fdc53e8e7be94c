"""Images are made ready task by task, and what fails with one of them is said of that task."""

from __future__ import annotations

import os
import tempfile
import threading
from pathlib import Path

import pytest
from support.scripted_sandbox import ScriptedProvider

from capvec.errors import FileTooLarge, InfrastructureError, SandboxBroken, SandboxUnavailable, UsageError
from capvec.run import blame
from capvec.run.preparation import prepare_images
from capvec.sandbox import docker_cli
from capvec.task_records import Task

pytestmark = pytest.mark.unit
LIMIT_S = 60.0
TASKS = [Task(name, Path(), "do it", "0") for name in ("a", "b", "c")]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(blame, "PAUSES_S", (0.0, 0.0, 0.0))


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


class FailingForAWhile(ScriptedProvider):
    """Fails as often as it is told, whatever the task, and answers."""

    def __init__(self, times: int) -> None:
        super().__init__({})
        self.left = times

    def prepare(self, task: Task) -> str:
        self.left -= 1
        if self.left >= 0:
            raise SandboxBroken("Docker failed: containerd is not ready")
        return super().prepare(task)


@pytest.mark.parametrize("keep_going", [True, False])
def test_a_docker_that_fails_for_a_while_leaves_no_task_without_its_images(keep_going: bool) -> None:
    images, unbuilt = prepare_images(FailingForAWhile(5), TASKS, keep_going=keep_going)
    assert (list(images), unbuilt) == (["a", "b", "c"], {})


@pytest.mark.parametrize("keep_going", [True, False])
def test_a_docker_that_fails_on_and_on_ends_the_work_and_no_task_is_at_fault(keep_going: bool) -> None:
    with pytest.raises(InfrastructureError, match="It is not known whether the task is fit"):
        prepare_images(FailingForAWhile(1000), TASKS, keep_going=keep_going)


def test_a_docker_that_is_gone_ends_the_work() -> None:
    gone = SandboxUnavailable("Docker does not answer")
    with pytest.raises(SandboxUnavailable, match="does not answer"):
        prepare_images(Failing(gone, away=gone), TASKS, keep_going=True)


class Together(ScriptedProvider):
    """Has the images of two tasks only if they are made ready at the same time."""

    def __init__(self) -> None:
        super().__init__({})
        self.both = threading.Barrier(2)

    def prepare(self, task: Task) -> str:
        self.both.wait(LIMIT_S)
        return super().prepare(task)


def test_images_are_made_ready_side_by_side_and_listed_in_the_order_of_the_tasks() -> None:
    images, unbuilt = prepare_images(Together(), TASKS[:2], keep_going=False)
    assert (list(images), unbuilt) == (["a", "b"], {})


class Building(ScriptedProvider):
    """Builds the image of `a` for ever, and that of `b` not at all."""

    def __init__(self) -> None:
        super().__init__({})
        self.began = threading.Event()

    def prepare(self, task: Task) -> str:
        if task.name == "b":
            assert self.began.wait(LIMIT_S)
            raise UsageError("task b: no such image")
        with (
            tempfile.TemporaryFile() as log,
            docker_cli.process(("sleep", "1000"), dict(os.environ), log, log) as build,
        ):
            self.began.set()
            assert build.wait(LIMIT_S) != 0
        return "never"


def test_where_one_image_cannot_be_had_the_builds_of_others_end() -> None:
    with pytest.raises(UsageError, match=r"^task b: "):
        prepare_images(Building(), TASKS[:2], keep_going=False)
