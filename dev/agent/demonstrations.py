"""`python -m dev.agent.demonstrations --out FILE`: makes the training data of the bundled agent, in real sandboxes.

Every demonstration is an episode of the agent loop: the demonstrator's replies pass through the protocol's parser, its
commands run in a Docker sandbox, their output is the observation, and the verifier decides whether the task is solved.
A sandbox serves many demonstrations; its `/app` is emptied and refilled for each.
"""

from __future__ import annotations

import argparse
import gzip
import json
import shlex
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

from capvec.agent.loop import LoopLimits, run_episode
from capvec.agent.prompts import opening_messages
from capvec.errors import CapvecError, InfrastructureError
from capvec.records import Episode
from capvec.sandbox.base import Sandbox
from capvec.sandbox.docker import DockerProvider
from capvec.task_records import Environment, Task
from dev.agent.demonstrators import PROTOCOL, Demonstration, demonstrate
from dev.agent.scripted_model import ScriptedModel
from dev.tasks.families import FAMILIES, Instance
from dev.tasks.generate import BUNDLED_INSTANCES, BUNDLED_SEED, collected, expected_files, make_instance, verifier

PROMPT_STYLE = "brief"
BATCH = 250
"""Number of demonstrations in one sandbox."""
_LIMITS = LoopLimits(max_steps=40, max_tokens=1, temperature=0.0, sandbox_s=120.0, command_timeout_s=10.0)


@dataclass(frozen=True)
class Job:
    """One demonstration to make."""

    family: str
    number: int
    instance: Instance
    demonstration: Demonstration


def plan(count: int, seed: int) -> list[Job]:
    """The demonstrations to make: the trained task families in turn, without the bundled instances."""
    bundled = {
        make_instance(family, BUNDLED_SEED, number).instruction
        for family in FAMILIES.values()
        for number in range(1, BUNDLED_INSTANCES + 1)
    }
    trained = [family for family in FAMILIES.values() if family.split == "trained"]
    jobs: list[Job] = []
    number = 0
    while len(jobs) < count:
        family = trained[number % len(trained)]
        instance = make_instance(family, f"demonstrations-{seed}", number)
        if instance.instruction not in bundled:
            rng = Random(f"demonstrator-{seed}/{family.name}/{number}")
            jobs.append(Job(family.name, number, instance, demonstrate(instance, rng)))
        number += 1
    return jobs


def make(jobs: Sequence[Job], workers: int) -> Iterator[dict[str, Any]]:
    """Play every demonstration, in order. Each gives one JSON object, which `describe` documents.

    Raises:
        InfrastructureError: a sandbox or a verifier failed.
    """
    batches = [jobs[start : start + BATCH] for start in range(0, len(jobs), BATCH)]
    with ThreadPoolExecutor(workers) as pool:
        for done in pool.map(_play_batch, batches):
            yield from done


def _play_batch(jobs: Sequence[Job]) -> list[dict[str, Any]]:
    workshop = Task("demonstrations", Path(), "", "", environment=Environment(image="debian:bookworm-slim"))
    with DockerProvider().open(workshop, run="demonstrations", trial=f"{jobs[0].number}") as sandbox:
        return [_play(job, sandbox) for job in jobs]


def _play(job: Job, sandbox: Sandbox) -> dict[str, Any]:
    _shell(sandbox, _furnish(job.instance))
    opening = opening_messages(job.instance.instruction, PROTOCOL, PROMPT_STYLE, job.demonstration.mode)
    episode = run_episode(
        opening,
        model=ScriptedModel(job.demonstration.replies),
        sandbox=sandbox,
        protocol=PROTOCOL,
        limits=replace(_LIMITS, max_steps=len(job.demonstration.replies)),
        seed=0,
    )
    if episode.end_reason == "error":
        raise InfrastructureError(f"{job.family}/{job.number}: {episode.error}")
    solved = _shell(sandbox, _examine(job.instance)).split()[-1] == "1"
    return describe(job, episode, solved=solved)


def describe(job: Job, episode: Episode, *, solved: bool) -> dict[str, Any]:
    """A line of the data: `family`, `number`, `kind` of demonstrator, `mode` line, `solved`, and chat `messages`."""
    messages = [dict(message) for message in episode.messages]
    for step in episode.steps:
        messages.append({"role": "assistant", "content": step.reply.text})
        if step.observation:
            messages.append({"role": "user", "content": step.observation})
    return {
        "family": job.family,
        "number": job.number,
        "kind": job.demonstration.kind,
        "mode": job.demonstration.mode,
        "solved": solved,
        "messages": messages,
    }


def _furnish(instance: Instance) -> str:
    """Shell text that gives `/app` the content that it has in the instance's image."""
    return "\n".join(
        ("mkdir -p /app && cd /app && find . -mindepth 1 -delete", *_place("/app", instance.files), *instance.setup)
    )


def _examine(instance: Instance) -> str:
    """Shell text that runs the instance's verifier on what the trusted demonstrator left, and prints the reward."""
    expected = {f"expected/{name}": content for name, content in expected_files(instance).items()}
    place = "\n".join(_place("/tests", {"test.sh": verifier(instance)} | expected))
    collect = "\n".join(f"({command})" for command in collected(instance))
    run = "bash /tests/test.sh > /dev/null 2>&1; cat /logs/verifier/reward.txt; cd /app"
    return f"cd / && rm -rf /tests /logs/artifacts/*\n{collect}\n{place}\n{run}"


def _place(root: str, files: Mapping[str, str]) -> Iterator[str]:
    """Shell lines that write files, with one `mkdir` and otherwise builtins, which are fast."""
    paths = {Path(root, name): content for name, content in files.items()}
    yield "mkdir -p " + " ".join(shlex.quote(str(folder)) for folder in sorted({path.parent for path in paths}))
    for path, content in paths.items():
        yield f"printf %s {shlex.quote(content)} > {shlex.quote(str(path))}"


def _shell(sandbox: Sandbox, script: str) -> str:
    result = sandbox.run(script, timeout_s=30)
    if result.exit_code != 0:
        raise InfrastructureError(f"the sandbox cannot be prepared: {result.output[-500:]}")
    return result.output


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Returns 0, or 2 on an error."""
    parser = argparse.ArgumentParser(prog="python -m dev.agent.demonstrations", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="file to write, NAME.jsonl.gz")
    parser.add_argument("--count", type=int, default=12_000, help="number of demonstrations (default: 12000)")
    parser.add_argument("--seed", type=int, default=0, help="seed of instances and demonstrators (default: 0)")
    parser.add_argument("--jobs", type=int, default=2, help="number of sandboxes at a time (default: 2)")
    options = parser.parse_args(arguments)
    if options.out.suffix != ".gz":
        parser.error(f"--out {options.out}: expected a name that ends in .gz, since the output is gzipped")
    counts: Counter[tuple[str, bool]] = Counter()
    try:
        with gzip.open(options.out, "wt", encoding="utf-8") as file:
            for number, line in enumerate(make(plan(options.count, options.seed), options.jobs), start=1):
                file.write(json.dumps(line) + "\n")
                counts[line["kind"], line["solved"]] += 1
                if number % 1000 == 0:
                    print(f"{number} of {options.count}", flush=True)
    except CapvecError as error:
        print(f"capvec: {error}", file=sys.stderr)
        return 2
    for kind in sorted({kind for kind, _ in counts}):
        print(f"{kind}: {counts[kind, True]} solved, {counts[kind, False]} not")
    return 0


if __name__ == "__main__":
    sys.exit(main())
