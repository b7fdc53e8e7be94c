"""Agents that use up what a container has: it is theirs alone, their trial is unsolved, and other trials go on."""

from __future__ import annotations

import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace

import pytest
from support.dockerd import QUOTAS, dockerd, why_not
from support.hostile_agents import HONEST, RUN, STORAGE_MB, trial, write_task
from support.real_sweeps import no_container_is_left

from capvec.sandbox.base_image import BASE_IMAGE
from capvec.tasks import load_task
from capvec.tasks.loader import BUNDLED

pytestmark = pytest.mark.siege

OVERSHOOT_MB = 2048
"""Most that may be written between two looks of the watch, on the fastest disks."""
DISK = {
    "many files": "while :; do i=$((i + 1)); head -c 20M /dev/zero > /$i; done",
}
FULL = "for i in $(seq 30); do head -c 20M /dev/zero > /$i; done"
DISK_LONG = {
    "in /tmp, by eight at once": 'for i in 1 2 3 4 5 6 7 8; do cat /dev/zero > "/tmp/$i" & done; wait',
    "a process that outlives its command": (
        "(setsid sh -c 'while :; do i=$((i + 1)); head -c 9M /dev/zero > /$i; done' &) >/dev/null 2>&1; sleep 18"
    ),
}
WITHIN = {
    "one file": "cat /dev/zero > /app/big",
    "/dev/shm": "cat /dev/zero > /dev/shm/big",
    "a fork bomb": "bomb() { bomb | bomb & }; bomb; sleep 1",
    "memory": "head -c 2G /dev/zero | tail",
}
WITHIN_LONG = {
    "memory in many processes": "for i in $(seq 40); do (head -c 60M /dev/zero | tail >/dev/null) & done; wait",
    "output": "cat /dev/zero",
    "output without an end of line": "while :; do printf '%01000000d' 0; done",
    "a million files": "mkdir /many; cd /many; perl -e 'for (1 .. 1000000) { open F, \">\", $_ }'",
    "a deep folder": "for i in $(seq 3000); do mkdir d && cd d; done",
}
"""Commands that are stopped by a limit of the container, or by their time."""


def cases(commands, *marks):
    return [pytest.param(command, id=what, marks=marks) for what, command in commands.items()]


@pytest.fixture
def task(dockerd, tmp_path):
    assert dockerd.answers()
    return write_task(tmp_path)


@pytest.fixture(scope="module", params=QUOTAS)
def quotas(request):
    """A daemon on a file system with quotas."""
    if reason := why_not():
        pytest.skip(reason)
    if shutil.which(f"mkfs.{request.param}") is None:
        pytest.skip(f"needs mkfs.{request.param}")
    with ExitStack() as cleanup:
        try:
            daemon = cleanup.enter_context(dockerd(on=request.param))
        except subprocess.CalledProcessError:
            pytest.skip(f"this kernel mounts no {request.param} with quotas")
        daemon.load(BASE_IMAGE)
        yield daemon


@pytest.fixture
def with_quotas(quotas, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", quotas.host)
    quotas.start()


def used_mb(daemon):
    """What the file system of the daemon holds."""
    return shutil.disk_usage(daemon.root).used >> 20


@pytest.mark.parametrize("command", [*cases(DISK), *cases(DISK_LONG, pytest.mark.slow)])
def test_a_disk_bomb_ends_its_trial_unsolved_and_no_other(dockerd, task, command, record_property):
    before = used_mb(dockerd)
    with ThreadPoolExecutor(1) as beside:
        other = beside.submit(trial, task, "sleep 5", HONEST, attempt=2)
        outcome = trial(task, HONEST, command)
        honest = other.result()
    assert (outcome.outcome, outcome.end_reason, outcome.error) == ("unsolved", "storage", "")
    assert f"storage_mb = {STORAGE_MB}" in outcome.note
    written = int(outcome.note.partition("(")[2].split()[0])
    record_property("written_mb", written)
    assert STORAGE_MB <= written < STORAGE_MB + OVERSHOOT_MB
    assert (honest.outcome, honest.note) == ("solved", "")
    assert used_mb(dockerd) < before + 50
    assert no_container_is_left(RUN)


@pytest.mark.slow
@pytest.mark.usefixtures("with_quotas")
def test_with_quotas_a_disk_bomb_finds_a_full_disk_and_its_trial_goes_on(tmp_path):
    outcome = trial(write_task(tmp_path), FULL, "rm /[0-9]*", HONEST)
    assert (outcome.outcome, outcome.end_reason, outcome.error) == ("solved", "done", "")


@pytest.mark.slow
@pytest.mark.usefixtures("with_quotas")
@pytest.mark.parametrize("apart", [False, True], ids=["beside the agent", "apart"])
def test_with_quotas_an_agent_that_leaves_a_full_disk_is_judged(tmp_path, apart):
    if apart:
        bundled = load_task(shutil.copytree(BUNDLED / "append-line-1", tmp_path / "append-line-1"))
        limits = replace(bundled.environment.limits, storage_mb=STORAGE_MB)
        task = replace(bundled, environment=replace(bundled.environment, limits=limits))
        honest = (task.path / "solution" / "solve.sh").read_text()
    else:
        task, honest = write_task(tmp_path), HONEST
    outcome = trial(task, honest, FULL)
    assert (outcome.end_reason, outcome.error) == ("done", "")
    assert outcome.outcome == ("solved" if apart else "unsolved")
    assert no_container_is_left(RUN)


@pytest.mark.parametrize("command", [*cases(WITHIN), *cases(WITHIN_LONG, pytest.mark.slow)])
def test_a_bomb_that_a_limit_stops_leaves_the_rest_of_the_trial_as_it_was(task, command):
    outcome = trial(task, command, HONEST)
    assert (outcome.outcome, outcome.error) == ("solved", "")
    assert no_container_is_left(RUN)
