"""Task folders."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from capvec.sandbox.base import Sandbox
from capvec.sandbox.docker import DockerProvider
from capvec.tasks import load_task

CLOSED = '[environment]\nnetwork_mode = "no-network"\n'
"""A `task.toml` that asks for no network."""


def make_task(parent: Path, name: str = "greet", toml: str = CLOSED) -> Path:
    """Write a complete task folder into `parent`."""
    folder = parent / name
    for part in ("environment", "tests", "solution"):
        (folder / part).mkdir(parents=True)
    (folder / "task.toml").write_text(toml)
    (folder / "instruction.md").write_text("Say hello.\n")
    (folder / "environment" / "Dockerfile").write_text("FROM debian:bookworm-slim\nWORKDIR /app\n")
    (folder / "tests" / "test.sh").write_text("echo 1 > /logs/verifier/reward.txt\n")
    (folder / "solution" / "solve.sh").write_text("true\n")
    return folder


def wait_until(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    """Wait for what other threads do."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class TaskFolder:
    """A task folder that a test writes, and its real sandboxes."""

    def __init__(self, parent: Path, run: str, toml: str = CLOSED + "memory_mb = 256\n") -> None:
        self.path, self._run = make_task(parent, toml=toml), run

    def write(self, name: str, text: str) -> None:
        """Write an executable file of the task."""
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(0o755)

    def add_settings(self, text: str) -> None:
        """Append to `task.toml`."""
        with (self.path / "task.toml").open("a") as file:
            file.write(f"{text}\n")

    def judge(self, command: str, folder: str = "tests") -> None:
        """The verifier is this one command: the reward is 1 where it succeeds."""
        written = f"({command}) && reward=1 || reward=0\necho $reward > /logs/verifier/reward.txt\n"
        self.write(f"{folder}/test.sh", written)

    @contextmanager
    def open(self, capabilities: str = "none") -> Iterator[Sandbox]:
        """A sandbox of the task as it is now; its attribute `task` is the task."""
        task = load_task(self.path, allow_network=True)
        provider = DockerProvider(capabilities)
        provider.prepare(task)
        with provider.open(task, run=self._run, trial="t") as sandbox:
            sandbox.task = task
            yield sandbox
