"""How the engine's threads wait where the cores have other work.

Decodes four replies with the bundled agent in processes of their own, with OpenMP's default (spinning) and with
OMP_WAIT_POLICY=PASSIVE (sleeping) in turn, first alone and then beside as many busy loops as there are cores.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack
from statistics import median

import pytest
from support import REPOSITORY
from support.benchmarks import by_turns, ratio

pytestmark = pytest.mark.bench


def measure(policy: str | None, tokens: int) -> float:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {"OMP_WAIT_POLICY": policy} if policy else {}
    environment["PYTHONPATH"] = f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'tests'}"
    command = (sys.executable, "-m", "support.timed_replies", str(tokens))
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    return float(done.stdout)


def test_wait_policy(bench):
    sizes = bench.sizes(
        {"rounds": 3, "tokens": 40, "busy": (0, os.cpu_count() or 1)}, {"rounds": 1, "tokens": 1, "busy": (0,)}
    )
    sides = {"default": None, "passive": "PASSIVE"}
    for busy in sizes.busy:
        with ExitStack() as stack:
            for _ in range(busy):
                loop = stack.enter_context(subprocess.Popen((sys.executable, "-c", "while True: pass")))
                stack.callback(loop.kill)
            found = by_turns(
                sizes.rounds,
                {name: lambda policy=policy: measure(policy, sizes.tokens) for name, policy in sides.items()},
            )
        default, passive = median(found["default"]), median(found["passive"])
        bench.add(
            f"{busy} busy loops: default {default:.2f} s, passive {passive:.2f} s, ratio {ratio(*found.values()):.1f}",
            busy=busy, **found, ratio=ratio(*found.values()),
        )  # fmt: skip
