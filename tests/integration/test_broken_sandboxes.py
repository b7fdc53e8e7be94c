"""Agents that break their own sandbox: what they left is judged, and never counts as a fault of the infrastructure."""

from __future__ import annotations

import os

import pytest

from capvec.sandbox.docker import DockerProvider
from capvec.sandbox.verifier import verify
from capvec.tasks import load_tasks

pytestmark = pytest.mark.integration
RUN = f"test-broken-{os.getpid()}"
DIGITS = "$(head -c 5000 /dev/zero | command tr '\\0' 9)"
FORGED_SHELL = (
    "printf '%s\\n' '#!/bin/sh' 'read -r a; read -r b; read -r c; set -- $c' 'echo \"$4 5555\" | tr 5 9' > /tmp/b; "
    f"sed -i 's/5555/{'9' * 5000}/' /tmp/b; chmod +x /tmp/b; cp /tmp/b /bin/bash; kill -9 $$"
)
BREAKS = {
    "a result of 5,000 digits": [
        (f'printf() {{ builtin printf \'\\n%s %s %s %s\\n\' "$2" "{DIGITS}" / "$5"; }}; true', 2)
    ],
    "no sh": [("rm -f /bin/sh /bin/dash; sleep 100", 2), ("echo after", 5)],
    "no shell at all": [("rm -f /bin/sh /bin/dash /bin/bash; kill -9 $$", 5), ("echo after", 5)],
    "nothing at all": [
        ("rm -rf --no-preserve-root / 2>/dev/null; while :; do :; done", 5),
        ("echo after", 5),
    ],
    "sh does nothing": [
        ("cp /bin/true /bin/t; cat /bin/t > /bin/dash; cat /bin/t > /bin/sh; sleep 100", 2),
        ("echo after", 5),
    ],
    "sh cannot be read": [("chmod 000 /bin/dash /usr/bin/dash; sleep 100", 2), ("echo after", 5)],
    "the root cannot be entered": [("rm /bin/dash; chmod 000 /; sleep 100", 2), ("echo after", 5)],
    "no sleep": [("rm -f /bin/sleep /bin/dash; while :; do :; done", 2), ("echo after", 5)],
    "/usr leads elsewhere": [
        ("cp /bin/mv /tmp; cp /bin/ln /tmp; /tmp/mv /usr /gone; kill -9 $$", 5),
        ("echo after", 5),
    ],
    "a shell that answers with 5,000 digits": [(FORGED_SHELL, 5), ("echo after", 2)],
}


@pytest.fixture(scope="module")
def task():
    (task,) = load_tasks("append-line-1").tasks
    DockerProvider().prepare(task)
    return task


@pytest.mark.parametrize("commands", BREAKS.values(), ids=BREAKS)
def test_what_a_broken_sandbox_holds_is_judged(task, commands) -> None:
    with DockerProvider().open(task, run=RUN, trial="broken") as sandbox:
        for command, timeout_s in commands:
            sandbox.run(command, timeout_s=timeout_s)
        assert verify(sandbox, task) == {"reward": 0.0}
