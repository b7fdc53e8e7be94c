"""Whose container it is: the label names a process so that no other is ever taken for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from capvec.sandbox.reaper import is_orphan, owner_label

pytestmark = pytest.mark.unit


def changed(field, value):
    """This process's label with one field of `node/boot/namespace/pid/start` replaced."""
    fields = owner_label(os.getpid()).split("/")
    fields[field] = value
    return "/".join(fields)


def test_a_living_process_is_no_orphans_owner():
    assert not is_orphan(owner_label(os.getpid()), "running")
    assert not is_orphan(owner_label(os.getpid()), "exited")


def test_a_later_process_with_the_same_number_is_told_apart():
    assert is_orphan(changed(4, "1"), "running")


def test_the_start_is_counted_from_the_boot_so_that_a_change_of_the_clock_changes_nothing():
    # proc(5): field 22 of /proc/PID/stat, in clock ticks since the boot.
    ticks = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[22 - 3]
    assert owner_label(os.getpid()).endswith(f"/{os.getpid()}/{ticks}")


@pytest.mark.parametrize("field", [0, 1, 2], ids=["machine", "boot", "namespace"])
def test_what_cannot_be_asked_for_is_an_orphans_owner_only_when_the_container_stopped(field):
    assert not is_orphan(changed(field, "another"), "running")
    assert not is_orphan(changed(field, "another"), "created")
    assert is_orphan(changed(field, "another"), "exited")


@pytest.mark.parametrize("label", ["", "x", "a/b", "//////", "node/5/123.45"])
def test_a_label_of_another_form_is_left_alone_while_it_runs(label):
    assert not is_orphan(label, "running")


def test_a_process_that_ended_is_gone_waited_for_or_not():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with process:
        label = owner_label(process.pid)
        assert not is_orphan(label, "running")
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert is_orphan(label, "running")
        with pytest.raises(psutil.NoSuchProcess):
            owner_label(process.pid)
    assert is_orphan(label, "running")
