"""The watch of what containers write to the disk looks a last time before they are removed."""

from __future__ import annotations

import os

import pytest
from support.real_sweeps import no_container_is_left
from support.tasks import CLOSED, make_task

from capvec.errors import StorageExceeded
from capvec.sandbox import storage
from capvec.sandbox.docker import DockerProvider
from capvec.tasks import load_task

pytestmark = pytest.mark.integration
RUN = f"test-watch-{os.getpid()}"


@pytest.fixture
def task(tmp_path, monkeypatch):
    """A task of 20 MiB, whose containers no look finds but the last."""
    monkeypatch.setattr(storage, "EVERY_S", 3600.0)
    task = load_task(make_task(tmp_path, toml=f"{CLOSED}storage_mb = 20\n"))
    DockerProvider().prepare(task)
    return task


def test_what_was_written_after_all_other_looks_is_found_before_the_container_is_removed(task):
    with (
        pytest.raises(StorageExceeded, match=r"more than storage_mb = 20 .*\(\d\d MB\)"),
        DockerProvider().open(task, run=RUN, trial="much") as sandbox,
    ):
        sandbox.run("head -c 15M /dev/zero > a; head -c 15M /dev/zero > b", timeout_s=30)
    assert no_container_is_left(RUN)


def test_what_is_within_the_bound_at_the_last_look_is_no_fault(task):
    with DockerProvider().open(task, run=RUN, trial="little") as sandbox:
        assert sandbox.run("head -c 15M /dev/zero > a", timeout_s=30).exit_code == 0
    assert no_container_is_left(RUN)
