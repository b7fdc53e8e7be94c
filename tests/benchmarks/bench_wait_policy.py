"""How long the engine's threads spin while they wait for each other, with and without other work on the cores.

Decodes one and four replies with the bundled agent in processes of their own, by turns: with OpenMP's default
(spinning), with OMP_WAIT_POLICY=PASSIVE (sleeping), as engines do (a brief spin, then sleeping), and with one thread;
first alone, then beside as many busy loops as there are cores.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack
from statistics import median

import pytest
from support import REPOSITORY
from support.benchmarks import by_turns

from capvec.programs import BRIEF_WAITS

pytestmark = pytest.mark.bench

SIDES = {
    "spinning": {},
    "sleeping": {"OMP_WAIT_POLICY": "PASSIVE"},
    "brief": BRIEF_WAITS,
    "one thread": {"OMP_NUM_THREADS": "1"},
}


def measure(settings: dict[str, str], replies: int, tokens: int) -> float:
    """Seconds of the replies."""
    environment = {name: value for name, value in os.environ.items() if name not in BRIEF_WAITS} | settings
    environment["PYTHONPATH"] = f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'tests'}"
    command = (sys.executable, "-m", "support.timed_replies", str(replies), str(tokens))
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    return float(done.stdout)


def test_wait_policy(bench):
    sizes = bench.sizes(
        {"rounds": 3, "tokens": 40, "replies": (1, 4), "busy": (0, os.cpu_count() or 1)},
        {"rounds": 1, "tokens": 1, "replies": (1,), "busy": (0,)},
    )
    for busy in sizes.busy:
        with ExitStack() as stack:
            for _ in range(busy):
                loop = stack.enter_context(subprocess.Popen((sys.executable, "-c", "while True: pass")))
                stack.callback(loop.kill)
            for replies in sizes.replies:
                found = by_turns(
                    sizes.rounds,
                    {
                        name: lambda settings=settings, replies=replies: measure(settings, replies, sizes.tokens)
                        for name, settings in SIDES.items()
                    },
                )
                said = ", ".join(f"{name} {median(seconds):.2f} s" for name, seconds in found.items())
                bench.add(f"{busy} busy loops, {replies} replies: {said}", busy=busy, replies=replies, **found)
