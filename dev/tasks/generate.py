"""Writes new task folders: `python -m dev.tasks.generate --out FOLDER --seed TEXT --instances K`.

The same seed gives the same bytes. The bundled tasks are two instances of each task family under seed 0.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from random import Random

from capvec.errors import UsageError
from dev.tasks.families import FAMILIES, Family, Instance

BUNDLED_SEED = 0
BUNDLED_INSTANCES = 2
_VERIFIER = Path(__file__).parent / "families" / "verifier.sh"
_COLLECT = """\
[[verifier.collect]]
command = "{command}"
timeout_sec = 10.0

"""
_SETTINGS = """\
schema_version = "1.4"
artifacts = ["/app"]

[metadata]
author_name = "capvec"
license = "Apache-2.0"
difficulty = "{difficulty}"
category = "{category}"
family = "{family}"
split = "{split}"
seed = "{seed}"

[agent]
timeout_sec = 300.0

[verifier]
timeout_sec = 30.0
environment_mode = "separate"

{collect}[environment]
build_timeout_sec = 300.0
cpus = 1
memory_mb = 256
network_mode = "no-network"
"""


def make_instance(family: Family, seed: int | str, number: int) -> Instance:
    """Instance `number` of a task family under a seed; the same at every call."""
    return family.make(Random(f"{seed}/{family.name}/{number}"))


def write_task(family: Family, instance: Instance, folder: Path, seed: str) -> None:
    """Write one Harbor task folder, in place of one that exists."""
    shutil.rmtree(folder, ignore_errors=True)
    collect = "".join(_COLLECT.format(command=command) for command in collected(instance))
    _write(folder / "task.toml", _SETTINGS.format(**_settings(family), seed=seed, collect=collect))
    _write(folder / "instruction.md", instance.instruction + "\n")
    run = f"RUN {' && '.join(instance.setup)}\n" if instance.setup else ""
    _write(folder / "environment" / "Dockerfile", f"FROM debian:bookworm-slim\nWORKDIR /app\nCOPY data/ /app/\n{run}")
    for name, content in instance.files.items():
        _write(folder / "environment" / "data" / name, content)
    _write(folder / "tests" / "test.sh", verifier(instance), executable=True)
    for name, content in expected_files(instance).items():
        _write(folder / "tests" / "expected" / name, content)
    lines = ("#!/bin/bash", "set -eu", "cd /app", *instance.solution)
    _write(folder / "solution" / "solve.sh", "".join(f"{line}\n" for line in lines), executable=True)


def verifier(instance: Instance) -> str:
    """The text of `tests/test.sh`."""
    kept = [f"same {shlex.quote(name)}" for name in instance.kept]
    return _VERIFIER.read_text(encoding="utf-8") + "".join(
        f"{line}\n" for line in (*kept, *instance.checks, "", "reward=1", "echo solved")
    )


def collected(instance: Instance) -> list[str]:
    """The commands of `verifier.collect`, which run scripts where the agent was and no expectation is."""
    scripts = [check.split()[1] for check in instance.checks if check.startswith("prints ")]
    keep = "head -c 65536 > /logs/artifacts/output"
    return [f"cd /app && timeout 5 bash {script} < /dev/null 2> /dev/null | {keep}" for script in scripts]


def expected_files(instance: Instance) -> dict[str, str]:
    """The files of `tests/expected`: those that must stay, those that must appear, and those an archive must hold."""
    archived = [check.split()[2] for check in instance.checks if check.startswith("archive ")]
    kept = {
        name: content
        for name, content in instance.files.items()
        if name in instance.kept or name.split("/")[0] in archived
    }
    return kept | dict(instance.expected)


def generate(out: Path, *, seed: int | str, instances: int, families: Sequence[str] | None = None) -> list[Path]:
    """Write `instances` tasks of each task family into `out`, named `<family>-<number>`. Returns their folders.

    Raises:
        UsageError: a family is unknown, or `instances` is below 1.
    """
    if unknown := set(families or ()) - set(FAMILIES):
        raise UsageError(f"--families: unknown {', '.join(sorted(unknown))}; expected some of {', '.join(FAMILIES)}")
    if instances < 1:
        raise UsageError(f"--instances {instances}: expected at least 1")
    written = []
    for name in families or FAMILIES:
        for number in range(1, instances + 1):
            folder = out / f"{name}-{number}"
            write_task(FAMILIES[name], make_instance(FAMILIES[name], seed, number), folder, f"{seed}/{name}/{number}")
            written.append(folder)
    return written


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Returns 0, or 2 on bad input."""
    parser = argparse.ArgumentParser(prog="python -m dev.tasks.generate", description="Write new task folders.")
    parser.add_argument("--out", type=Path, required=True, help="folder to write the task folders into")
    parser.add_argument("--seed", default="1", help=f"any text; {BUNDLED_SEED} gives the bundled tasks (default: 1)")
    parser.add_argument("--instances", type=int, default=BUNDLED_INSTANCES, help="tasks of each family (default: 2)")
    parser.add_argument("--families", help="names of task families, separated by commas (default: all)")
    options = parser.parse_args(arguments)
    families = options.families.split(",") if options.families else None
    try:
        written = generate(options.out, seed=options.seed, instances=options.instances, families=families)
    except UsageError as error:
        print(f"capvec: {error}", file=sys.stderr)
        return 2
    print(f"{len(written)} tasks in {written[0].parent}")
    return 0


def _settings(family: Family) -> dict[str, str]:
    return {
        "difficulty": family.difficulty,
        "category": family.category,
        "family": family.name,
        "split": family.split,
    }


def _write(path: Path, content: str, *, executable: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    if executable:
        path.chmod(0o755)


if __name__ == "__main__":
    sys.exit(main())
