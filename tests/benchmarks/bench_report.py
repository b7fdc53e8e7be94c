"""What a report over many trials takes, and merging two halves of them, and judging them as another harness's table.

Each in a process of its own, of which the time, the processor time and the highest memory are said.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.large_run import CONFIGS, write_large_run

pytestmark = pytest.mark.bench


RUN = """
import json, resource, sys
from pathlib import Path
from capvec.commands.main import main
code = main(sys.argv[1:])
used, status = resource.getrusage(resource.RUSAGE_SELF), Path("/proc/self/status")
peak = used.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
if status.exists():  # Linux counts the memory of whoever started a process as its own in ru_maxrss
    peak = int(status.read_text().partition("VmHWM:")[2].split()[0]) / 1e3
print(json.dumps({"processor_s": used.ru_utime + used.ru_stime, "mb": peak}))
sys.exit(code)
"""


def measured(*arguments: str) -> dict[str, float]:
    """Seconds, processor seconds and MB of a command of capvec, which must succeed."""
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", RUN, *arguments], capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    assert done.returncode == 0, done.stdout + done.stderr
    return {"seconds": seconds, **json.loads(done.stdout.splitlines()[-1])}


def write_table(run: Path, table: Path) -> None:
    """The valid trials of a run as another harness would list them."""
    with (run / "trials.jsonl").open() as lines, table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["task", "config", "attempt", "outcome"])
        for line in lines:
            one = json.loads(line)
            if one["outcome"] != "error":
                writer.writerow([one["task"], one["config"], one["attempt"], one["outcome"]])


def test_report(bench, tmp_path):
    sizes = bench.sizes({"tasks": 500, "attempts": 20}, {"tasks": 6, "attempts": 2})
    trials = CONFIGS * sizes.tasks * sizes.attempts
    run, halves = tmp_path / "run", [tmp_path / "odd", tmp_path / "even"]
    write_large_run(run, sizes.tasks, sizes.attempts)
    write_table(run, tmp_path / "others.csv")
    for number, half in enumerate(halves):
        write_large_run(half, sizes.tasks, sizes.attempts, lambda spec, number=number: spec.attempt % 2 != number)
    commands = {
        "report": ("report", str(run)),
        "merge": ("report", *map(str, halves), "--out", str(tmp_path / "both")),
        "judge": ("judge", str(tmp_path / "others.csv"), "--out", str(tmp_path / "judged"), "--baseline", "baseline"),
    }
    for name, arguments in commands.items():
        found = measured(*arguments)
        bench.add(
            f"{name}, {trials:,} trials of {sizes.tasks} tasks: {found['seconds']:.1f} s, {found['processor_s']:.1f} s "
            f"of processor time, {found['mb']:.0f} MB",
            command=name, trials=trials, **found,
        )  # fmt: skip
