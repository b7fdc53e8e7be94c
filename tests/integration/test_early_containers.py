"""Containers that are made before they are needed: fresh, closed to whom they are not for, and none is left."""

from __future__ import annotations

import io
import os
import tarfile
from contextlib import closing

import docker
import pytest
from support.real_sweeps import containers, no_container_is_left
from support.tasks import TaskFolder, wait_until

from capvec.plan.plan import Plan, Settings
from capvec.records import Config, TrialSpec
from capvec.run.trial import TrialRunner
from capvec.sandbox.docker import DockerProvider
from capvec.sandbox.reaper import TRIAL_LABEL
from capvec.sandbox.verifier import expect_verifier, verify
from dev.agent.scripted_model import ScriptedModel

pytestmark = pytest.mark.integration
RUN = f"test-early-{os.getpid()}"
CONFIG = Config("baseline", "baseline")
APART = '[verifier]\nenvironment_mode = "separate"'


@pytest.fixture
def folder(tmp_path):
    return TaskFolder(tmp_path, RUN)


def apart(folder):
    """Let the verifier have a container of its own, which gets /app."""
    settings = folder.path / "task.toml"
    settings.write_text(f'artifacts = ["/app"]\n{settings.read_text()}{APART}\n')


def say(sandbox, command):
    return sandbox.run(command, timeout_s=10).output.strip()


def running():
    return [one for one in containers(RUN) if one["State"] == "running"]


def test_a_verifiers_container_that_was_started_early_judges_as_one_that_was_not(folder):
    apart(folder)
    folder.write("tests/expected", "right\n")
    folder.judge("cmp -s /app/said /tests/expected && [ ! -e /app/old ]")
    for early in (False, True):
        for said, expected in (("right", 1.0), ("wrong", 0.0)):
            with folder.open() as sandbox:
                if early:
                    expect_verifier(sandbox, sandbox.task, sandbox.task.steps[0])
                    wait_until(lambda: len(running()) == 2)
                assert say(sandbox, f"echo {said} > said; ls -d /tests 2>&1 | grep -c 'No such file'") == "1"
                assert verify(sandbox, sandbox.task).rewards == {"reward": expected}
                assert say(sandbox, "ls -d /tests 2>&1 | grep -c 'No such file'") == "1"
            assert no_container_is_left(RUN)


def test_a_verifiers_container_that_is_not_needed_is_removed_with_the_agents(folder):
    apart(folder)
    with folder.open() as sandbox:
        expect_verifier(sandbox, sandbox.task, sandbox.task.steps[0])
    assert no_container_is_left(RUN)


@pytest.mark.parametrize(
    ("dockerfile", "settings"),
    [
        ('ENTRYPOINT ["sh", "-c", "exec \\"$@\\"", "sh"]\n', ""),
        ("", '[verifier.environment.healthcheck]\ncommand = "true"\n'),
        ("", '[verifier.environment]\nnetwork_mode = "public"\n'),
    ],
    ids=["a program of its own", "a healthcheck", "a network"],
)
def test_a_verifiers_container_in_which_something_runs_or_that_can_be_reached_is_not_started_early(
    folder, dockerfile, settings
):
    apart(folder)
    folder.write("tests/Dockerfile", f"FROM debian:bookworm-slim\nWORKDIR /app\nCOPY test.sh /tests/\n{dockerfile}")
    folder.add_settings(settings)
    with folder.open() as sandbox:
        step = sandbox.task.steps[0]
        assert step.verifier.environment is not None
        expect_verifier(sandbox, sandbox.task, step)
        assert say(sandbox, "sleep 1; echo done") == "done"
        assert len(containers(RUN)) == 1
        assert verify(sandbox, sandbox.task).rewards == {"reward": 1.0}
    assert no_container_is_left(RUN)


def test_what_the_agent_left_running_changes_nothing_while_its_work_is_copied(folder):
    apart(folder)
    folder.judge("[ $(cat /app/count | wc -l) -gt 0 ] && [ ! -e /app/late ]")
    with folder.open() as sandbox:
        say(sandbox, "while :; do echo 1 >> count; [ -e go ] && touch late; done > /dev/null 2>&1 &")
        with closing(docker.from_env()) as client:
            sandbox.retire()
            assert [one["State"] for one in containers(RUN)] == ["exited"]
            (container,) = containers(RUN)
            client.api.put_archive(container["Id"], "/app", _empty("go"))
        assert verify(sandbox, sandbox.task).rewards == {"reward": 1.0}


def test_services_of_the_agents_image_outlive_its_retirement(folder):
    apart(folder)
    folder.write(
        "environment/Dockerfile",
        'FROM debian:bookworm-slim\nWORKDIR /app\nENTRYPOINT ["sh", "-c", "sleep 1000 & exec \\"$@\\"", "sh"]\n',
    )
    with folder.open() as sandbox:
        sandbox.retire()
        assert [one["State"] for one in containers(RUN)] == ["running"]


def test_the_first_shell_has_the_environment_and_the_directory_of_any_other(folder):
    folder.write(
        "environment/Dockerfile", "FROM debian:bookworm-slim\nWORKDIR /app\nENV child=a key=b found=c stat=d\n"
    )
    listed = "{ pwd; id; set -o; env | grep -v '^_='; } | sort"
    with folder.open() as sandbox:
        first = say(sandbox, listed)
        assert say(sandbox, "exit 3") == ""
        assert say(sandbox, listed) == first
        assert {"child=a", "key=b", "found=c", "stat=d", "/app"} <= set(first.split("\n"))


def test_the_next_trials_container_waits_while_one_runs_and_is_that_trials_alone(folder, tmp_path):
    apart(folder)
    folder.judge("[ $(cat /app/said) = mine ]")
    with folder.open() as sandbox:
        task = sandbox.task
    one, two = (TrialSpec(task.name, "baseline", attempt, 0) for attempt in (1, 2))
    plan = Plan(RUN, tmp_path, (task,), (CONFIG,), (one, two), Settings("m", "bash-block", "zero-shot", 4, 32, 0.7))

    def of_second() -> list[str]:
        found = [box for box in containers(RUN) if box["Labels"][TRIAL_LABEL] == str(two.id)]
        return [box["Id"] for box in found if box["State"] == "running"]

    class Model(ScriptedModel):
        def complete(self, messages, **asked):
            wait_until(lambda: bool(of_second()))
            self.first = of_second()[-1]  # the oldest
            return super().complete(messages, **asked)

    act = "```bash\n[ -e said ] || echo mine > said\n```"
    model = Model([act, "DONE"] * 2)
    runner = TrialRunner(plan, model, DockerProvider(), ahead=1)
    assert runner.run(one, two).outcome == "solved"
    waiting = model.first
    assert of_second() == [waiting]
    assert runner.run(two).outcome == "solved"
    assert model.first == waiting
    runner.close()
    assert no_container_is_left(RUN)


def _empty(name: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo(name))
    return buffer.getvalue()
