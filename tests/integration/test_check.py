"""Tasks are proved in real containers, and a verifier that fails by itself is told from one that the agent broke."""

from __future__ import annotations

import json
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.real_sweeps import ledger, no_container_is_left
from support.tasks import CLOSED, make_task

from capvec.commands.main import main
from capvec.errors import InfrastructureError, SandboxUnavailable
from capvec.plan.plan import Plan, Settings
from capvec.records import Config, Outcome, TrialSpec
from capvec.run.check import Checker
from capvec.run.control import Scale
from capvec.run.trial import TrialRunner
from capvec.sandbox.docker import DockerProvider
from capvec.tasks.loader import load_task
from dev.agent.scripted_model import ScriptedModel

pytestmark = pytest.mark.integration
pytest_plugins = ("pytester",)

REWARD = "&& echo 1 > /logs/verifier/reward.txt || echo 0 > /logs/verifier/reward.txt\n"
SAYS_HI = f'[ "$(cat /app/hi)" = hi ] {REWARD}'
DISTANCE = """set -e
number=$(cat /app/number 2>/dev/null || echo 106)
[ "$number" -eq "$number" ]
distance=$((number > 5 ? number - 5 : 5 - number))
echo $((1 - distance)) > /logs/verifier/reward.txt
"""
"""The reward is 1 less the distance of a number from 5; without one it is -100."""
FETCHES = f"apt-get update && apt-get install -y curl {REWARD}"
TASKS = {
    "fit": (SAYS_HI, "echo hi > /app/hi\n"),
    "wrong": (SAYS_HI, "echo ho > /app/hi; echo I said ho; exit 3\n"),
    "content": ("echo 1 > /logs/verifier/reward.txt\n", "true\n"),
    "open": (SAYS_HI, None),
    "fetching": (FETCHES, "true\n"),
    "fetching-open": (FETCHES, None),
    "owner": (f'[ "$(stat -c %U /app/hi)" = nobody ] {REWARD}', "touch /app/hi; chown nobody /app/hi\n"),
    "logging-open": (f"pytest > /logs/verifier/test-stdout.txt 2>&1 {REWARD}", None),
    "logging": (f"(chown nobody /app && false) > /logs/verifier/test-stdout.txt 2>&1 {REWARD}", "true\n"),
    "mute": ("frobnicate /app\n", "true\n"),
    "vast": ("yes | head -c 2000000 > /logs/verifier/reward.txt\n", "true\n"),
    "windows": (f"#!/bin/bash\r\n{SAYS_HI}", "true\n"),
    "snake": ("#!/usr/bin/env python3\n", "true\n"),
}
"""Name → the verifier, and the solution if there is one."""
EXPECTED = {
    "fit": ("1", "0", "proved"),
    "wrong": ("0", "0", "unfit"),
    "content": ("1", "1", "unfit"),
    "open": ("–", "0", "unproved"),
    "fetching": ("0", "0", "unfit"),
    "fetching-open": ("–", "0", "unfit"),
    "owner": ("0", "0", "unfit"),
    "logging-open": ("–", "0", "unfit"),
    "logging": ("0", "0", "unfit"),
    "mute": ("none", "none", "unfit"),
    "vast": ("none", "none", "unfit"),
    "windows": ("none", "none", "unfit"),
    "snake": ("none", "none", "unfit"),
    "foreign": ("0", "0", "unfit"),
    "unbuilt": ("–", "none", "unfit"),
    "unready": ("–", "none", "unfit"),
    "unmendable": ("–", "none", "unfit"),
}
"""Name → the rewards of the solution and of doing nothing, and the verdict."""


def write(parent: Path, name: str, test: str, solution: str | None, toml: str = CLOSED) -> Path:
    folder = make_task(parent, name, toml)
    (folder / "tests" / "test.sh").write_text(test)
    if solution is None:
        shutil.rmtree(folder / "solution")
    else:
        (folder / "solution" / "solve.sh").write_text(solution)
    return folder


def write_unbuilt(parent: Path) -> None:
    folder = write(parent, "unbuilt", *TASKS["fit"])
    (folder / "environment" / "Dockerfile").write_text("FROM debian:bookworm-slim\nRUN echo doomed; false\n")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Nothing is proved before."""
    monkeypatch.setenv("CAPVEC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_healthcheck_and_a_command_of_verifier_collect_that_never_end_have_their_time(tmp_path, capsys):
    """The first makes its task unfit; what the second saves is not awaited, and the verifier judges."""
    ways = {"asleep": "sleep 100000", "deaf": "trap '' TERM HUP INT; while :; do sleep 1; done"}
    for way, command in ways.items():
        health = f"{CLOSED}healthcheck = {{ command = {json.dumps(command)}, timeout_sec = 2, retries = 2 }}\n"
        write(tmp_path / "tasks", f"health-{way}", *TASKS["fit"], health)
        collect = f"{CLOSED}[[verifier.collect]]\ncommand = {json.dumps(command)}\ntimeout_sec = 2\n"
        write(tmp_path / "tasks", f"collect-{way}", *TASKS["fit"], collect)
    assert main(["check", str(tmp_path / "tasks")]) == 1
    said = capsys.readouterr().out
    rows = [line.split() for line in said.splitlines()]
    verdicts = {row[0]: row[-1] for row in rows if len(row) == 5 and row[0].partition("-")[2] in ways}
    assert verdicts == {
        f"{what}-{way}": end for what, end in (("health", "unfit"), ("collect", "proved")) for way in ways
    }
    assert said.count("failed 2 times in a row; the last time it took longer than 2 s") == len(ways)


def test_every_task_is_judged_by_its_solution_and_by_doing_nothing(tmp_path, cache, capsys):
    for name, (test, solution) in TASKS.items():
        write(tmp_path / "tasks", name, test, solution)
    write_unbuilt(tmp_path / "tasks")
    foreign = write(tmp_path / "tasks", "foreign", *TASKS["fit"])
    (foreign / "environment" / "Dockerfile").write_text("FROM debian:bookworm-slim\nWORKDIR /app\nRUN chown 1000 .\n")
    unready = f"{CLOSED}healthcheck = {{ command = 'echo not yet; false', retries = 1 }}\n"
    write(tmp_path / "tasks", "unready", *TASKS["fit"], unready)
    unmendable = write(tmp_path / "tasks", "unmendable", *TASKS["fit"])
    (unmendable / "environment" / "Dockerfile").write_text("FROM debian:bookworm-slim\nRUN rm /bin/rm\n")
    assert main(["check", str(tmp_path / "tasks")]) == 1
    said = capsys.readouterr().out
    rows = [line.split() for line in said.splitlines() if line.split()[:1] and line.split()[0] in EXPECTED]
    assert {row[0]: (row[1], row[2], row[4]) for row in rows} == EXPECTED
    assert said.endswith("1 of 17 tasks proved, 15 unfit, 1 without a solution\n")
    assert "/logs/verifier/reward.txt in the sandbox has 2000000 bytes; expected at most 1048576" in said
    # What Docker cannot do in a task's container is said of that task alone.
    assert "unmendable: its check ends before its verifiers judge\n    the system's files cannot be restored" in said
    assert "the solution ended with exit code 3" in said
    assert "I said ho" in said
    assert "what the verifier wrote to /logs/verifier ends with:\n      chown: changing ownership of '/app'" in said
    closed = (
        "foreign: its agent is root, and cannot write what root can in Harbor\n  → an operation is not permitted (. "
    )
    assert closed in said
    # What would have let it work is named beside the sign of its lack.
    resolving = [line for line in said.splitlines() if "Temporary failure resolving" in line and "--allow" in line]
    assert len(resolving) == 2
    assert all('network_mode = "public"' in line for line in resolving)
    assert "chown: changing ownership of '/app/hi': Operation not permitted" in said
    for missing in (
        "/tests/test.sh: line 1: frobnicate: command not found",
        "/usr/bin/env: 'python3': No such file or directory",
        "tests/test.sh has Windows line ends, so that its first line names none that exists; save it with Unix ones",
    ):
        assert f"  → a program is missing ({missing})" in said
    assert said.count("exit code: 1\n") == 1  # BuildKit repeats why a build failed
    assert len(list(cache.rglob("checks/*.json"))) == 2  # what was fit
    assert no_container_is_left(f"check-{os.getpid()}")


def test_a_check_that_is_stopped_ends_at_once_and_leaves_no_container(tmp_path):
    task = load_task(write(tmp_path, "slow", "sleep 600\n", "true\n"))
    provider = DockerProvider()
    provider.prepare(task)
    checker = Checker(provider, Scale(), jobs=1)
    with ThreadPoolExecutor(1) as pool:
        checked = pool.submit(checker.check, [task])
        deadline = time.monotonic() + 60
        while no_container_is_left(f"check-{os.getpid()}") and time.monotonic() < deadline:
            time.sleep(0.1)
        checker.stop()
        with pytest.raises(InfrastructureError):
            checked.result(timeout=60)
    assert no_container_is_left(f"check-{os.getpid()}")


def test_what_a_check_found_is_kept_though_the_check_is_ended_later(tmp_path):
    tasks = [load_task(write(tmp_path, name, *TASKS["fit"])) for name in ("first", "second")]
    provider, kept = DockerProvider(), []
    for task in tasks:
        provider.prepare(task)
    checker = Checker(provider, Scale(), jobs=1)

    def keep(task, check):
        kept.append((task.name, check.verdict))
        checker.stop()

    with pytest.raises(InfrastructureError, match="stopped"):
        checker.check(tasks, keep=keep)
    assert kept == [("first", "proved")]


def test_without_docker_the_check_ends(tmp_path, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    with pytest.raises(SandboxUnavailable):
        Checker(DockerProvider(), Scale(), jobs=1).check([load_task(write(tmp_path, "fit", *TASKS["fit"]))])


def test_tasks_whose_services_are_refused_are_left_out_on_request(tmp_path, capsys):
    tasks = tmp_path / "tasks"
    write(tasks, "fit", *TASKS["fit"])
    services = "services: {db: {image: debian:bookworm-slim, privileged: true}}\n"
    privileged = write(tasks, "privileged", *TASKS["fit"])
    (privileged / "environment" / "docker-compose.yaml").write_text(services)
    unknown = write(tasks, "unknown", *TASKS["fit"], f'artifacts = [{{source = "/a", service = "dbx"}}]\n{CLOSED}')
    (unknown / "environment" / "docker-compose.yaml").write_text(services.replace("true", "false"))
    assert main(["check", str(tasks)]) == 2
    said = capsys.readouterr().err
    assert "2 of 3 tasks cannot be used; --skip-unsupported leaves them out:\n  privileged: /" in said
    assert main(["check", str(tasks), "--skip-unsupported"]) == 0
    printed = capsys.readouterr()
    said = printed.out + printed.err
    assert "2 tasks left out:" in said
    assert "docker-compose.yaml: services.db.privileged: not supported" in said
    assert "artifacts in task.toml names the service 'dbx'; expected one of " in said
    assert said.endswith("1 of 1 task proved\n")


def test_a_sweep_refuses_unfit_tasks_by_name_or_leaves_them_out_and_says_what_is_unproved(sweep, report, tmp_path):
    for name in ("fit", "wrong", "content", "open"):
        write(tmp_path / "tasks", name, *TASKS[name])
    asked = ("--tasks", str(tmp_path / "tasks"))
    refused = sweep(*asked, check=True)
    assert refused.ret == pytest.ExitCode.USAGE_ERROR
    assert not report.exists()
    refused.stderr.fnmatch_lines(
        [
            "*2 of 4 tasks cannot tell a right answer from a wrong one here*--skip-unfit*--no-check*",
            "*content: doing nothing is judged 1, and must be judged below 1",
            "*wrong: its own solution is judged 0, and must be judged at least 1",
            "*I said ho",
        ]
    )
    write_unbuilt(tmp_path / "tasks")
    swept = sweep(*asked, "--skip-unfit", check=True)
    assert swept.ret == pytest.ExitCode.OK
    # The others were proved by the first session.
    swept.stdout.fnmatch_lines(["capvec: checking 2 tasks that this machine has not proved before"])
    assert {entry["task"] for entry in ledger(report).values()} == {"fit", "open"}
    provenance = json.loads((report / "provenance.json").read_text())
    assert set(provenance["left_out"]) == {"wrong", "content", "unbuilt"}
    assert "its environment cannot be made: task unbuilt: " in provenance["left_out"]["unbuilt"]
    assert "I said ho" in provenance["left_out"]["wrong"]
    assert provenance["unproved"] == {"open": "it has no solution"}
    text = (report / "RESULTS.md").read_text()
    assert "1 task unproved, since it has no solution: open." in text
    assert "`content`: doing nothing is judged 1" in text


@pytest.fixture
def judged(tmp_path):
    """The outcome of an agent that runs one command in a task with this verifier and solution."""

    def run(command: str, test: str, solution: str | None) -> Outcome:
        toml = CLOSED + "[verifier]\ntimeout_sec = 3\n"
        task = load_task(write(tmp_path, "t", test, solution, toml))
        spec, config = TrialSpec("t", "baseline", 1, 0), Config("baseline", "baseline")
        settings = Settings("m", "bash-block", "zero-shot", 4, 32, 0.7)
        plan = Plan(f"test-check-{os.getpid()}", tmp_path, (task,), (config,), (spec,), settings)
        model = ScriptedModel([f"```bash\n{command}\n```", "DONE"])
        return TrialRunner(plan, model, DockerProvider()).run(spec)

    return run


@pytest.mark.parametrize("solution", ["echo hi > /app/hi\n", None])
@pytest.mark.parametrize(
    ("command", "test"),
    [
        ("mkfifo /app/hi", SAYS_HI),
        ('echo "curl: (6) Could not resolve host: example.org" > /app/hi', f"cat /app/hi; {SAYS_HI}"),
        ("echo exit 127 > /app/setup.sh", f"[ ! -e /app/setup.sh ] || . /app/setup.sh\n{SAYS_HI}"),
        ("yes | head -c 3000000 > big", f"{SAYS_HI}[ ! -e /app/big ] || cp /app/big /logs/verifier/reward.txt\n"),
    ],
    ids=["it hangs", "a sign of its own", "no reward", "a reward of 3 MB"],
)
def test_an_agent_that_makes_the_verifier_fail_has_not_solved_the_task(judged, command, test, solution):
    outcome = judged(command, test, solution)
    assert (outcome.outcome, outcome.reward, outcome.error) == ("unsolved", 0.0, "")
    assert "only on what the agent left" in outcome.note


def test_an_agent_that_breaks_its_verifier_earns_no_more_than_one_that_does_nothing(judged):
    outcome = judged("echo many > /app/number", DISTANCE, "echo 5 > /app/number\n")
    assert (outcome.outcome, outcome.reward, outcome.rewards) == ("unsolved", -100.0, {"reward": -100.0})
    assert "only on what the agent left" in outcome.note


@pytest.mark.parametrize(
    ("test", "solution"),
    [("frobnicate /app\n", "true\n"), ("frobnicate /app\n", None), (FETCHES, None), ("sleep 60\n", None)],
)
def test_a_verifier_that_fails_where_no_agent_was_is_an_error(judged, test, solution):
    outcome = judged("true", test, solution)
    assert (outcome.outcome, outcome.reward) == ("error", None)
    assert ", too: " in outcome.error
