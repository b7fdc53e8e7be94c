"""Task folders."""

from __future__ import annotations

from pathlib import Path

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
