"""Containers that outlive their trial: what a killed run left goes, and what a living run uses stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import docker
import pytest
from docker.models.containers import ContainerCollection
from support.real_sweeps import containers

from capvec.errors import SandboxUnavailable
from capvec.sandbox.docker import DockerProvider
from capvec.sandbox.reaper import reap
from capvec.task_records import Task

pytestmark = pytest.mark.integration
RUN = f"test-reaper-{os.getpid()}"


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    folder = tmp_path_factory.mktemp("task")
    (folder / "environment").mkdir()
    (folder / "environment" / "Dockerfile").write_text("FROM debian:bookworm-slim\nWORKDIR /app\n")
    return Task("plain", folder, "do it", "0")


@pytest.fixture
def elsewhere(task):
    """Starts a trial in another process; gives the process once its container runs."""
    started = []

    def start(run):
        script = (
            "import time\nfrom pathlib import Path\nfrom capvec.task_records import Task\n"
            "from capvec.sandbox.docker import DockerProvider\n"
            f"task = Task('plain', Path({str(task.path)!r}), 'x', '0')\n"
            f"with DockerProvider().open(task, run={run!r}, trial='t'):\n    print('up', flush=True); time.sleep(600)"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        started.append((process, run))
        assert process.stdout.readline() == "up\n"
        return process

    yield start
    for process, run in started:
        with process:
            process.kill()
        reap(run)


def test_what_a_killed_run_left_is_reaped_and_a_living_run_is_not_touched(task, elsewhere):
    killed, living = f"{RUN}-killed", f"{RUN}-living"
    process = elsewhere(killed)
    elsewhere(living)
    with DockerProvider().open(task, run=RUN, trial="t") as mine:
        reap()
        assert len(containers(killed)) == 1
        process.kill()
        process.wait()
        assert reap() >= 1
        assert containers(killed) == []
        assert len(containers(living)) == 1
        assert mine.run("echo alive", timeout_s=10).output == "alive\n"


def test_a_killed_process_that_nobody_has_waited_for_is_dead_too(elsewhere):
    run = f"{RUN}-zombie"
    process = elsewhere(run)
    os.kill(process.pid, signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it has ended and stays a zombie
    reap()
    assert containers(run) == []


def test_ctrl_c_removes_the_container(elsewhere):
    run = f"{RUN}-interrupted"
    process = elsewhere(run)
    process.send_signal(signal.SIGINT)
    process.wait(timeout=30)
    assert containers(run) == []


def test_a_container_that_the_engine_makes_after_ctrl_c_is_removed(task, monkeypatch):
    run = f"{RUN}-late"
    create = ContainerCollection.create
    threads = []

    def interrupted(_, *arguments, **settings):
        """What the engine sees of a Ctrl-C: the caller has left, and the container is made all the same."""
        later = docker.from_env()
        settings.pop("storage_opt", None)  # Docker refuses it where its storage driver has no quotas

        def make():
            time.sleep(0.3)
            create(later.containers, *arguments, **settings)
            later.close()

        threads.append(threading.Thread(target=make))
        threads[0].start()
        raise KeyboardInterrupt

    def trial():
        with DockerProvider().open(task, run=run, trial="t"):
            pytest.fail("it was interrupted")

    monkeypatch.setattr(ContainerCollection, "create", interrupted)
    with pytest.raises(KeyboardInterrupt):
        trial()
    threads[0].join()
    assert containers(run) == []


def test_a_run_can_be_reaped_by_name(task):
    run = f"{RUN}-named"
    with DockerProvider().open(task, run=run, trial="t") as sandbox:
        assert reap(run) == 1
        with pytest.raises(SandboxUnavailable):
            sandbox.run("echo", timeout_s=5)
    assert containers(run) == []
