"""Services beside the agent's container as witnesses: their commands of `verifier.collect`, artifacts and network."""

from __future__ import annotations

import os
import re
from contextlib import contextmanager

import docker
import pytest
from support.tasks import TaskFolder

from capvec.errors import UsageError, VerifierFault
from capvec.run.check import Checker
from capvec.run.control import Control, Scale, judge
from capvec.sandbox.docker import DockerProvider
from capvec.sandbox.evidence import saved
from capvec.sandbox.reaper import RUN_LABEL, reap
from capvec.sandbox.steps import begin
from capvec.sandbox.verifier import verify
from capvec.tasks import load_task

pytestmark = pytest.mark.integration
RUN = f"test-sidecars-{os.getpid()}"
STORE = """FROM debian:bookworm-slim
RUN mkdir -m 777 /evidence /held && echo right > /held/answer && ln -s /evidence /by-image
ENV MARK=m
WORKDIR /srv
USER games
CMD ["sh", "-c", "echo up > /evidence/up; exec sleep infinity"]
"""
COMPOSE = """
services:
  main:
    volumes: ["shared:/shared"]
  store:
    build: {context: ., dockerfile: store.Dockerfile}
    volumes: ["shared:/shared"]
volumes:
  shared:
"""
STEP = '[[steps]]\nname = "a"\nartifacts = [{{ source = "{}", service = "{}" }}]'
APART = '[verifier]\nenvironment_mode = "separate"'


def hook(command, service="store", **more):
    lines = (f"{key} = {value!r}" for key, value in {"command": command, "service": service, **more}.items())
    return "\n".join(("[[verifier.collect]]", *lines))


@pytest.fixture
def folder(tmp_path):
    folder = TaskFolder(tmp_path, RUN)
    folder.write("environment/Dockerfile", "FROM debian:bookworm-slim\nRUN mkdir -m 777 /shared\nWORKDIR /app\n")
    folder.write("environment/store.Dockerfile", STORE)
    folder.write("environment/docker-compose.yaml", COMPOSE)
    folder.write("tests/Dockerfile", "FROM debian:bookworm-slim\nCOPY . /tests\n")
    yield folder
    reap(RUN)


@contextmanager
def on_docker():
    client = docker.from_env()
    try:
        yield client
    finally:
        client.close()


def container_of(client, service):
    named = {"label": [f"{RUN_LABEL}={RUN}", f"com.docker.compose.service={service}"]}
    (found,) = client.containers.list(all=True, filters=named)
    return found


def declare(folder, artifacts, *more):
    """Write a task that is judged apart from these artifacts of the store, and what else it has."""
    listed = ", ".join(f'{{ source = "{path}", service = "store" }}' for path in artifacts)
    text = (folder.path / "task.toml").read_text()
    folder.write("task.toml", "\n".join((f"artifacts = [{listed}]", text, APART, *more, "")))


def test_a_services_evidence_is_saved_after_the_agents_container_has_stopped(folder):
    still = "a=$(cat /shared/beat); sleep 0.5; [ $a = $(cat /shared/beat) ]"
    declare(
        folder,
        ["/by-image/out", "/evidence/up"],
        hook("mkdir -m 777 /evidence/out && cd /evidence/out && cat /shared/first > first"),
        hook("touch /evidence/out/run && chmod 6755 /evidence/out/run"),
        hook(f"{still} && echo still > /evidence/out/still"),
        hook('echo "$(id -un) $MARK $PWD" > /evidence/out/who'),
        hook("id -u > /evidence/out/root; ln -s run /evidence/out/in; ln -s /etc/passwd /evidence/out/outward; "
             "mkfifo /evidence/out/pipe", user="root"),
        hook("[[ -e /shared/beat ]] && echo main > /shared/first", service="main"),
    )  # fmt: skip
    folder.judge(
        'cd /by-image/out && [ "$(ls | tr "\\n" " ")" = "first in outward pipe root run still who " ] && '
        '[ ! -e outward ] && [ ! -e pipe ] && [ "$(readlink in)" = run ] && [ "$(cat who)" = '
        '"games m /srv" ] && [ "$(cat first root still | tr "\\n" " ")" = "main 0 still " ] && '
        '[ "$(stat -c "%U %a" run)" = "root 755" ] && [ "$(cat /evidence/up)" = up ]'
    )
    folder.write("solution/solve.sh", "(while :; do date +%N > /shared/beat; sleep 0.05; done) & sleep 0.2\n")
    with folder.open() as sandbox:
        sandbox.run(f"({(folder.path / 'solution/solve.sh').read_text()})", timeout_s=10)
        verified = verify(sandbox, sandbox.task)
        assert (verified.notes, verified.rewards) == ((), {"reward": 1.0})
        with on_docker() as client:
            assert container_of(client, "main").status == "exited"
            assert container_of(client, "store").status == "running"
    task = load_task(folder.path)
    (check,) = Checker(DockerProvider(), Scale(), jobs=1).check([task])
    assert (check.verdict, check.nothing.reward) == ("proved", 0.0)
    assert "verifier.collect: '[[ -e /shared/beat ]]" in "\n".join(check.nothing.evidence)


def test_a_command_that_fails_is_told_with_its_service_and_ends_nothing(folder):
    declare(
        folder,
        ["/evidence"],
        hook("echo no database; echo at all; exit 3"),
        hook("sleep 60", timeout_sec=0.5),
        hook("no-such-dump"),
        hook("touch /evidence/last"),
    )
    folder.judge("[ -e /evidence/last ]")
    with folder.open() as sandbox:
        verified = verify(sandbox, sandbox.task)
        assert verified.rewards == {"reward": 1.0}
        exits, late, missing = verified.notes
        assert verified.failed == verified.notes
        assert exits == (
            "verifier.collect: 'echo no database; echo at all; exit 3' in the service store ended with exit code 3 "
            "and printed at last: no database / at all, so the verifier may miss what it saves: where the task's own "
            "solution meets this too, mend the command or the service"
        )
        assert "'sleep 60' in the service store ran longer than its timeout_sec, 0.5 s, and printed nothing" in late
        assert late.endswith("raise timeout_sec")
        assert "exit code 127 and printed at last: sh: 1: no-such-dump: not found" in missing
    with folder.open() as sandbox, on_docker() as client:
        store = container_of(client, "store")
        assert store.exec_run(["rm", "/bin/sh"], user="root").exit_code == 0
        (said, *_) = verify(sandbox, sandbox.task).failed
        assert re.search(r"ended with exit code 12[67] and printed at last: .*\bsh\b", said), said
        store.kill()
        verified = verify(sandbox, sandbox.task)
        assert verified.rewards == {"reward": 0.0}
        assert "exit code 126 and printed at last: the service has ended with exit code 137" in verified.failed[0]


@pytest.mark.parametrize("once", [True, False])
def test_a_service_that_fails_where_no_agent_was_too_is_an_error_and_one_that_recovers_is_asked_again(folder, once):
    """`once`: the command fails in its first container, which the agent's is, and at its first call."""
    first = "[ -e /evidence/again ] || [ ! -e /shared/agent ] && echo fine > /evidence/out"
    declare(folder, ["/evidence/out"], hook(f"{first} || (touch /evidence/again; exit 3)" if once else "exit 3"))
    folder.judge("grep -q fine /evidence/out")
    with folder.open() as sandbox:
        sandbox.run("touch /shared/agent", timeout_s=10)
        control = Control(DockerProvider(), RUN, "t", Scale())
        if once:
            assert judge(sandbox, sandbox.task, control).solved
        else:
            with pytest.raises(VerifierFault, match=r"'exit 3' in the service store .* after the task's own solution"):
                judge(sandbox, sandbox.task, control)


def test_an_artifact_of_a_service_is_bounded_and_no_link_of_the_agents_leads_elsewhere(folder):
    declare(folder, ["/evidence/large", "/shared/way/answer", "/shared/leaf", "/evidence/up"])
    folder.judge("[ -e /evidence/up ] && [ ! -e /shared ]")
    with folder.open() as sandbox, on_docker() as client:
        sandbox.run("ln -s /held /shared/way; ln -s /held/answer /shared/leaf", timeout_s=10)
        store = container_of(client, "store")
        assert store.exec_run(["cat", "/shared/way/answer", "/shared/leaf"]).output == b"right\nright\n"
        verified = verify(sandbox, sandbox.task)
        assert [note.split(" and was")[0] for note in verified.notes] == [
            "the artifact /evidence/large of the service store is missing, or lies behind a link,",
            "the artifact /shared/way/answer of the service store is missing, or lies behind a link,",
            "the artifact /shared/leaf of the service store is missing, or lies behind a link,",
        ]
        assert verified.rewards == {"reward": 1.0}
        assert store.exec_run(["truncate", "-s", "1025M", "/evidence/large"]).exit_code == 0
        verified = verify(sandbox, sandbox.task)
        assert (
            "the artifact /evidence/large of the service store goes beyond 1024 MiB or 100000 files"
            in (verified.notes[0])
        )
        assert verified.rewards == {"reward": 0.0}


def test_of_two_services_artifacts_in_one_place_the_agents_comes_first_unless_harbor_keeps_them_apart(folder):
    text = (folder.path / "task.toml").read_text()
    listed = (
        '{ source = "/etc/issue", service = "store" }, "/etc/issue", '
        '{ source = "/logs/artifacts", service = "store", destination = "store" }'
    )
    folder.write("task.toml", f"artifacts = [{listed}]\n{text}{APART}\n")
    folder.write("environment/store.Dockerfile", STORE.replace("/held", "-p /logs/artifacts/of-store /held"))
    folder.judge("[ -d /logs/artifacts/of-store ]")
    with folder.open() as sandbox, saved(sandbox, sandbox.task, sandbox.task.steps[0]) as evidence:
        (note,) = evidence.notes
        assert "/etc/issue of the service store would lie in the place of /etc/issue, which comes first" in note
        assert verify(sandbox, sandbox.task, evidence=evidence).rewards == {"reward": 1.0}
        assert verify(sandbox, sandbox.task, evidence=evidence).rewards == {"reward": 1.0}  # it is judged twice at most


def test_commands_run_before_a_verifier_in_the_agents_container_too(folder):
    folder.add_settings(
        "\n".join((hook("echo kept > /shared/kept", user="root"), hook("touch /app/x", service="main")))
    )
    folder.judge("[ -e /app/x ] && [ $(cat /shared/kept) = kept ]")
    with folder.open() as sandbox:
        assert verify(sandbox, sandbox.task).rewards == {"reward": 1.0}


def test_each_step_has_its_evidence_and_the_agents_container_lives_until_the_last(folder):
    text = (folder.path / "task.toml").read_text()
    step = """
[[steps]]
name = "{0}"
artifacts = [{{ source = "/evidence/{0}", service = "store" }}]
[[steps.verifier.collect]]
service = "store"
command = "cat /shared/said > /evidence/{0}"
"""
    folder.write("task.toml", f"{text}{APART}\n{step.format('one')}{step.format('two')}")
    (folder.path / "tests" / "Dockerfile").unlink()
    for name in ("one", "two"):
        folder.write(f"steps/{name}/instruction.md", f"Say {name}.\n")
        folder.write(f"steps/{name}/tests/Dockerfile", "FROM debian:bookworm-slim\nCOPY . /tests\n")
        folder.judge(
            f"[ $(cat /evidence/{name}) = {name} ] && [ \"$(ls /logs/artifacts)\" = {name} ]",
            folder=f"steps/{name}/tests",
        )  # fmt: skip
    with folder.open() as sandbox, on_docker() as client:
        task = sandbox.task
        for step, status in zip(task.steps, ("running", "exited"), strict=True):
            begin(sandbox, task, step)
            left = sandbox.run("find /logs -mindepth 2; find /logs/* -perm 777 -type d | wc -l", timeout_s=10).output
            assert left.split() == ["3"]
            say = f"echo {step.name} > /shared/said; touch /logs/artifacts/{step.name} /logs/agent/x /logs/verifier/x"
            sandbox.run(say, timeout_s=10)
            assert verify(sandbox, task, step).rewards == {"reward": 1.0}
            assert container_of(client, "main").status == status


@pytest.mark.parametrize(("environment", "agent"), [("no-network", "public"), ("public", "no-network")])
def test_a_phase_opens_and_closes_the_way_out_of_all_services_and_their_names_stay(folder, environment, agent):
    folder.write(
        "environment/docker-compose.yaml",
        COMPOSE.replace("volumes:\n  shared:", "  inner: {image: debian:bookworm-slim, command: sleep infinity, "
        "networks: [inside]}\nnetworks: {inside: {internal: true}}\nvolumes:\n  shared:"),
    )  # fmt: skip
    folder.write("task.toml", f'[environment]\nnetwork_mode = "{environment}"\n[agent]\nnetwork_mode = "{agent}"\n')
    with folder.open() as sandbox, on_docker() as client:
        gateway = client.networks.get("bridge").attrs["IPAM"]["Config"][0]["Gateway"]
        # A host that is there refuses a closed port at once; where there is no way to it, nothing answers.
        knock = ["timeout", "2", "bash", "-c", f"exec 3<>/dev/tcp/{gateway}/9"]

        def reached():
            services = [container_of(client, name) for name in ("main", "store", "inner")]
            return [b"refused" in one.exec_run(knock).output for one in services]

        def address():
            return container_of(client, "main").exec_run(["getent", "hosts", "store"]).output.split()[0]

        known = address()
        for mode, network in ((agent, sandbox.task.agent.network), (environment, None), (agent, agent == "public")):
            sandbox.enter(user=None, network=network)
            assert reached() == [mode == "public", mode == "public", False]
            assert address() == known
    with on_docker() as client:
        assert client.networks.list(filters={"label": f"{RUN_LABEL}={RUN}"}) == []


@pytest.mark.parametrize("service", ["main", "store"])
def test_a_user_of_a_command_whom_its_service_lacks_is_refused_before_anything_runs(folder, service):
    declare(folder, [], hook("true", service, user="games"), hook("true", service, user="nobody-knows"))
    with pytest.raises(UsageError, match=r"task greet: verifier\.collect\.user: the image has no user 'nobody-knows'"):
        DockerProvider().prepare(load_task(folder.path))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (hook("true", service="stoer"), r"verifier\.collect in task\.toml names the service 'stoer'; expected one of"),
        (
            '[[steps]]\nname = "a"\nartifacts = [{ source = "/x", service = "db" }]',
            "artifacts in task.toml names .*'db'",
        ),
        (
            '[[steps]]\nname = "a"\nartifacts = [{ source = "/mem/x", service = "store" }]',
            "the artifact /mem/x is on a tmpfs of the service store",
        ),
    ],
)
def test_what_no_service_has_is_refused_before_anything_runs(folder, settings, said):
    folder.write(
        "environment/docker-compose.yaml", COMPOSE.replace("  store:\n", "  store:\n    tmpfs: /mem:size=1m\n")
    )
    folder.write("steps/a/instruction.md", "Do it.\n")
    folder.add_settings(f"{APART}\n{settings}")
    with pytest.raises(UsageError, match=rf"^task greet: .*docker-compose\.yaml: {said}"):
        DockerProvider().prepare(load_task(folder.path))
