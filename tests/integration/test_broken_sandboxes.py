"""Agents that break their own sandbox: what they left is judged, and never counts as a fault of the infrastructure.

The rest of the breaks, each also with a verifier in the broken container, is in `tests/siege/test_hostile_agents.py`.
"""

from __future__ import annotations

import os

import pytest
from support.attacks import BREAKS, LIMIT_S, QUICK
from support.tasks import make_task

from capvec.run.control import Control, Scale, judge
from capvec.sandbox.docker import DockerProvider
from capvec.sandbox.verifier import verify
from capvec.tasks import load_task, load_tasks

pytestmark = pytest.mark.integration
RUN = f"test-broken-{os.getpid()}"


@pytest.fixture(scope="module")
def task():
    (task,) = load_tasks("append-line-1").tasks
    DockerProvider().prepare(task)
    return task


@pytest.mark.parametrize("what", QUICK)
def test_what_a_broken_sandbox_holds_is_judged(task, what):
    with DockerProvider().open(task, run=RUN, trial="broken") as sandbox:
        for command in BREAKS[what]:
            sandbox.run(command, timeout_s=LIMIT_S)
        assert verify(sandbox, task).rewards == {"reward": 0.0}


def test_an_attempt_whose_container_can_run_no_more_is_unsolved_if_a_fresh_one_can(tmp_path):
    """The image's ENTRYPOINT is the agent's to change, and Docker needs it to start the container again."""
    folder = make_task(tmp_path)
    (folder / "environment" / "start.sh").write_text('#!/bin/sh\nexec "$@"\n')
    lines = ("FROM debian:bookworm-slim", "COPY start.sh /", 'ENTRYPOINT ["sh", "/start.sh"]', "WORKDIR /app", "")
    (folder / "environment" / "Dockerfile").write_text("\n".join(lines))
    provider, task = DockerProvider(), load_task(folder)
    provider.prepare(task)
    with provider.open(task, run=RUN, trial="ended") as sandbox:
        sandbox.run("echo exit 1 > /start.sh; kill -9 -1", timeout_s=10)
        sandbox.run("echo after", timeout_s=10)
        judged = judge(sandbox, task, Control(provider, RUN, "ended", Scale()))
    assert (judged.solved, judged.reward) == (False, 0.0)
    assert "the verifier fails only on what the agent left" in judged.note
