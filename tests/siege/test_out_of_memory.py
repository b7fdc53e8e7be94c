"""Programs that the kernel kills since their container is out of memory: the agent is told, and its trial goes on."""

from __future__ import annotations

import json

import pytest
from support.hostile_agents import HONEST, RUN, trial, write_task
from support.real_sweeps import no_container_is_left

from capvec.tasks import load_task

pytestmark = [pytest.mark.siege, pytest.mark.slow]

GROW = "head -c 2G /dev/zero | tr '\\0' a"
WHEN_ASKED, ALWAYS = "[ -e /app/go ]", "sleep 3"
GO = "touch /app/go; sleep 5"


def observations(task):
    """What the agent read after each of its commands."""
    file = task.path.parent / "trajectories" / f"{task.name}-baseline-t1.json"
    extras = [step.get("extra", {}) for step in json.loads(file.read_text())["steps"]]
    return [extra["observation"] for extra in extras if "observation" in extra]


def task_that_grows(parent, when):
    """A task whose image has a service of its own, with which the container begins and ends, and which grows then."""
    folder = write_task(parent).path
    (folder / "environment" / "Dockerfile").write_text(
        'FROM debian:bookworm-slim\nWORKDIR /app\nCOPY start.sh /start.sh\nENTRYPOINT ["sh", "/start.sh"]\n'
    )
    (folder / "environment" / "start.sh").write_text(f"while :; do if {when}; then x=$({GROW}); fi; sleep 0.1; done\n")
    return load_task(folder)


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (f"{GROW} | tail", ("exit code 137\n", "Killed")),
        (f"echo 1000 > /proc/1/oom_score_adj; {GROW} | tail", ("exit code 137\n", "Permission denied", "Killed")),
        (f"x=$({GROW})", ("exit code 137\n", "The shell was restarted")),
    ],
    ids=["a program", "the first process is to be the victim", "the shell"],
)
def test_an_agent_is_told_that_its_command_was_killed_and_its_trial_goes_on(tmp_path, command, told):
    task = write_task(tmp_path)
    outcome = trial(task, command, HONEST)
    assert (outcome.outcome, outcome.end_reason, outcome.error) == ("solved", "done", "")
    assert observations(task)[0].startswith(told[0])
    assert all(word in observations(task)[0] for word in told)
    assert no_container_is_left(RUN)


def test_a_first_process_that_is_killed_by_what_the_agent_did_is_unsolved(tmp_path):
    task = task_that_grows(tmp_path, WHEN_ASKED)
    assert trial(task, HONEST).outcome == "solved"
    outcome = trial(task, HONEST, GO, attempt=2)
    assert (outcome.outcome, outcome.error) == ("unsolved", "")
    assert "only on what the agent left" in outcome.note
    assert no_container_is_left(RUN)


def test_a_first_process_that_is_killed_by_itself_is_an_error_of_the_task(tmp_path):
    outcome = trial(task_that_grows(tmp_path, ALWAYS), "sleep 6", HONEST)
    assert (outcome.outcome, outcome.fault) == ("error", "task")
    assert "the image's ENTRYPOINT sh /start.sh ended with exit code 137" in outcome.error
    assert no_container_is_left(RUN)
