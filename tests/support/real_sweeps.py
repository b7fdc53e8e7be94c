"""Tasks for whole sweeps, and what the tests check afterwards."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import docker
import numpy as np
import pytest
import safetensors.numpy

from capvec.sandbox.reaper import RUN_LABEL
from support.tiny_models import LAYERS, WIDTH, save_tiny

RUN = f"r-{os.getpid()}"
"""The name of this process's runs. Containers are found by it, and other files have sweeps at the same time."""
DOCKERFILE = "FROM debian:bookworm-slim\nWORKDIR /app\n"
REWARD = "#!/bin/bash\nmkdir -p /logs/verifier\necho {} > /logs/verifier/reward.txt\n"


def write_task(folder: Path, test: str) -> None:
    """Write a task folder with this verifier."""
    (folder / "environment").mkdir(parents=True)
    (folder / "tests").mkdir()
    (folder / "environment" / "Dockerfile").write_text(DOCKERFILE)
    (folder / "task.toml").write_text(
        'schema_version = "1.4"\n[environment]\nmemory_mb = 128\nnetwork_mode = "no-network"\n'
    )
    (folder / "instruction.md").write_text(f"Do {folder.name}.\n")
    (folder / "tests" / "test.sh").write_text(test)
    (folder / "tests" / "test.sh").chmod(stat.S_IRWXU)


def write_given(root: Path, architecture: str) -> None:
    """Write a tiny model, a direction that fits it, and two tasks, of which any attempt solves the easy one."""
    save_tiny(root / "tiny", architecture)
    write_task(root / "tasks" / "easy", REWARD.format(1))
    write_task(root / "tasks" / "hard", REWARD.format(0))
    vectors = np.random.default_rng(0).standard_normal((LAYERS, WIDTH)).astype(np.float32)
    ambient = np.full(LAYERS, 10, np.float32)
    safetensors.numpy.save_file({"directions": vectors, "ambient_norm": ambient}, root / "dir.safetensors")


def ledger(report: Path) -> dict[str, dict]:
    """Trial id → its line of `trials.jsonl`."""
    lines = (report / "trials.jsonl").read_text().splitlines()
    return {entry["trial"]: entry for entry in map(json.loads, lines)}


def containers(run: str) -> list[dict]:
    """The containers of a run, including stopped ones."""
    client = docker.from_env()
    try:
        return client.api.containers(all=True, filters={"label": f"{RUN_LABEL}={run}"})
    finally:
        client.close()


def no_container_is_left(run: str = RUN) -> bool:
    """Whether every container of a run was removed."""
    return not containers(run)


def no_traceback(result: pytest.RunResult) -> bool:
    """Whether a run printed no traceback."""
    return "Traceback" not in result.stdout.str() + result.stderr.str()


TRIALS = {f"{task}-{config}-t1" for task in ("easy", "hard") for config in ("baseline", "steered-L1-a4")}
