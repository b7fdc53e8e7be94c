"""Every bundled task is proved by `capvec check`: its own solution scores 1, doing nothing scores 0.

And for each family: plausible wrong answers score 0, other routes to the result score 1.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from capvec.commands.main import main
from capvec.sandbox.base import Sandbox
from capvec.sandbox.docker import DockerProvider
from capvec.sandbox.reward import counted
from capvec.sandbox.verifier import verify
from capvec.tasks.loader import bundled_tasks, load_tasks
from dev.tasks.families import FAMILIES, Instance
from dev.tasks.generate import BUNDLED_SEED, make_instance

pytestmark = pytest.mark.integration

TASKS = {task.name: task for task in load_tasks("full").tasks}


def instance(name: str) -> Instance:
    """What the bundled task was made from."""
    family, _, number = name.rpartition("-")
    return make_instance(FAMILIES[family], BUNDLED_SEED, int(number))


# Other routes to the right result: the verifier looks at the result only.
RIGHT = [
    ("write-text-1", "{solution} && sed -i 's/$/  /' {target}", "white space at the ends of lines"),
    ("make-folders-1", "mkdir {outer} && mkdir {target}", "one after the other"),
    ("count-lines-1", "awk 'END {{ print NR }}' {source} > {target}", "another program"),
    ("pack-folder-1", "cd {source} && tar -czf {target} .", "the folder's inside"),
    ("pack-folder-1", "tar -cPzf {target} {source}", "absolute paths"),
]

FAKE_BASH = r"""printf '#!/bin/sh\nmkdir -p /logs/verifier; echo 1 > /logs/verifier/reward.txt\n' > /tmp/bash
chmod 755 /tmp/bash; mv /tmp/bash /bin/bash"""

TO_EXPECTED = "cd /; rm -rf /app; ln -s /tests/expected /app"
"""Lets every path of the task lead to the verifier's own files."""

CHEATS = [
    ("another bash", FAKE_BASH),
    ("a cmp and a tr that find everything right", "cd /usr/bin; ln -sf true cmp; ln -sf true tr; echo > {target}"),
    (
        "a reward of its own",
        "mkdir -p /logs/verifier; cd /logs/verifier; echo 1 > reward.txt; echo '{\"reward\": 1}' > reward.json",
    ),
    ("its working directory deleted", "rm -rf /app"),
    ("a file where the logs go", "rm -rf /logs; touch /logs"),
    ("a process that keeps planting", "(while :; do echo 1 > /logs/verifier/reward.txt; done) > /dev/null 2>&1 &"),
    ("a pipe where the answer belongs", "mkfifo {target}"),
]


@pytest.fixture(scope="module")
def provider() -> DockerProvider:
    return DockerProvider()


@contextmanager
def opened(provider: DockerProvider, name: str) -> Iterator[Sandbox]:
    with provider.open(TASKS[name], run=f"test-bundled-{os.getpid()}", trial=name) as sandbox:
        yield sandbox


def score_after(provider: DockerProvider, name: str, command: str) -> float:
    """The reward of an agent that runs one command."""
    with opened(provider, name) as sandbox:
        result = sandbox.run(command, timeout_s=20)
        assert not result.timed_out, result
        return counted(verify(sandbox, TASKS[name]).rewards)


def filled(name: str, command: str) -> str:
    """The command with the task's own paths: `{target}` is what is made, `{source}` what it is made from."""
    made = instance(name)
    checked = made.checks[0].split()
    target = f"/app/{checked[1]}"
    source = f"/app/{checked[2]}" if checked[0] == "archive" else f"/app/{next(iter(made.files))}"
    return command.format(solution=made.solution[-1], target=target, source=source, outer=target.rpartition("/")[0])


def test_every_bundled_task_is_proved(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["check", "full"])
    said = capsys.readouterr().out
    assert f"{len(bundled_tasks())} of {len(bundled_tasks())} tasks proved" in said, said
    assert code == 0


@pytest.mark.parametrize("name", [f"{family}-1" for family in FAMILIES])
def test_every_plausible_wrong_answer_of_the_family_scores_0(provider: DockerProvider, name: str) -> None:
    for wrong in instance(name).wrong:
        assert score_after(provider, name, wrong.command) == 0.0, wrong.why
    assert score_after(provider, name, TO_EXPECTED) == 0.0


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("make-folders-1", "cd /app; ln -s / top"),
        ("pack-folder-1", "mkdir /tmp/x; cd /tmp/x; ln -s /tests/expected/* .; tar -czf {target} ."),
        (
            "pack-folder-1",
            "mkdir /tmp/x; cd /tmp/x; for f in {source}/*; do ln -s /tests/expected/${f#/app/} .; done; "
            "tar -czf {target} .",
        ),
        ("fix-script-1", "cat > {target} <<'EOF'\ncat /tests/expected/*.out\nEOF"),
        ("write-text-1", "ln -s /proc/self/root/tests/expected /tmp/e; cp -as /tmp/e/. /app; ln -sf {target} {target}"),
    ],
)
def test_no_part_of_the_answer_may_lead_to_the_verifiers_own_files(
    provider: DockerProvider, name: str, command: str
) -> None:
    command = command.replace("{target}", filled(name, "{target}")).replace("{source}", filled(name, "{source}"))
    assert score_after(provider, name, command) == 0.0


@pytest.mark.parametrize(("name", "command", "how"), RIGHT)
def test_another_route_to_the_result_scores_1(provider: DockerProvider, name: str, command: str, how: str) -> None:
    assert score_after(provider, name, filled(name, command)) == 1.0, how


@pytest.mark.parametrize(("what", "command"), CHEATS)
def test_what_an_agent_does_to_the_sandbox_is_scored_0_and_not_an_error(
    provider: DockerProvider, what: str, command: str
) -> None:
    name = "count-lines-1"
    command = command.replace("{target}", filled(name, "{target}"))
    assert score_after(provider, name, command) == 0.0, what
