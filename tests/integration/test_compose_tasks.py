"""Tasks with a `docker-compose.yaml`: real services beside the agent's container, up and down with the trial."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import docker
import pytest
from support.tasks import TaskFolder, wait_until

from capvec.errors import EnvironmentFault, InfrastructureError, UsageError
from capvec.sandbox.docker import DockerProvider
from capvec.sandbox.docker_cli import config_folder
from capvec.sandbox.reaper import RUN_LABEL, reap
from capvec.sandbox.verifier import verify
from capvec.tasks import load_task

pytestmark = pytest.mark.integration
RUN = f"test-compose-{os.getpid()}"
SERVE = r"""use IO::Socket::INET;
open my $file, "<", "/word" or die; my $word = <$file>;
my $server = IO::Socket::INET->new(LocalPort => 8000, Listen => 5, ReuseAddr => 1) or die;
while (my $client = $server->accept) { print $client $word; close $client }
"""
COMPOSE = """
services:
  main:
    environment:
      - WHERE=${CONTEXT_DIR}
      - DOLLAR=a$$b
    depends_on:
      words: {condition: service_healthy}
    volumes:
      - shared:/shared
      - ./serve.pl:/app/serve.pl:ro
      - ${HOST_VERIFIER_LOGS_PATH}:${ENV_VERIFIER_LOGS_PATH}
    deploy: {resources: {limits: {cpus: "${CPUS}", memory: "${MEMORY}"}}}
  words:
    build:
      context: .
      dockerfile: words.Dockerfile
      args: {WORD: blue$$5}
    command: perl /serve.pl
    container_name: colours
    expose: ["8000"]
    volumes: ["shared:/shared:ro"]
    healthcheck: {test: ["CMD", "perl", "-MIO::Socket::INET", "-e", "IO::Socket::INET->new('localhost:8000') or die"], interval: 0.2s}
volumes:
  shared:
"""  # noqa: E501
ASK = " (exec 3<>/dev/tcp/words/8000 && cat <&3) "


@pytest.fixture
def folder(tmp_path):
    folder = TaskFolder(tmp_path, RUN)
    folder.write("environment/serve.pl", SERVE)
    folder.write(
        "environment/words.Dockerfile",
        'FROM debian:bookworm-slim\nARG WORD\nCOPY serve.pl /\nRUN printf "%s\\n" "$WORD" > /word\n',
    )
    folder.write("environment/docker-compose.yaml", COMPOSE)
    folder.write("tests/test.sh", f'[ "$(cat /app/out) $(cat /shared/x)" = "$({ASK}) y" ]; echo $((!$?)) > $LOG\n')
    folder.add_settings('[verifier.env]\nLOG = "/logs/verifier/reward.txt"')
    yield folder
    reap(RUN)


def left(run=RUN):
    """What of a run is on this machine."""
    client = docker.from_env()
    try:
        named = {"label": f"{RUN_LABEL}={run}"}
        return [
            *(container.name for container in client.containers.list(all=True, filters=named)),
            *(network.name for network in client.networks.list(filters=named)),
            *(volume.name for volume in client.volumes.list(filters=named)),
        ]
    finally:
        client.close()


def say(sandbox, command, timeout_s=10):
    return sandbox.run(command, timeout_s=timeout_s).output.strip()


def test_services_are_reached_by_name_and_judged_and_gone_after_the_trial(folder):
    folder.add_settings('[environment.env]\nOWN = "a$b"')
    with folder.open() as sandbox:
        assert say(sandbox, ASK) == say(sandbox, ASK.replace("words", "colours")) == "blue$5"
        where = (folder.path / "environment").resolve()
        assert say(sandbox, 'echo "$PWD $WHERE $OWN $DOLLAR $(head -c 3 serve.pl)"') == f"/app {where} a$b a$b use"
        assert say(sandbox, "cat /proc/self/status | grep -E 'CapBnd|NoNewPrivs' | tr -d '\\n'").split() == [
            "CapBnd:", "0000000000000000NoNewPrivs:", "1",
        ]  # fmt: skip
        assert say(sandbox, "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>&-") == str(
            256 << 20
        )
        assert len(left()) == 4  # two containers, a network, a volume
        assert verify(sandbox, sandbox.task).rewards["reward"] == 0.0
        say(sandbox, f"{ASK} > out; echo y > /shared/x; cp /bin/true /bin/cat")
        assert verify(sandbox, sandbox.task).rewards["reward"] == 1.0
    assert left() == []


@pytest.mark.parametrize("public", [False, True])
def test_services_reach_outside_only_where_the_task_may(folder, public):
    if public:
        folder.write("task.toml", "[environment]\nmemory_mb = 256\n")
    # A host that is there refuses a closed port at once; where there is no way to it, nothing answers.
    knock = "timeout 2 bash -c 'exec 3<>/dev/tcp/{}/9' 2>&1 | grep -o refused | head -n 1"
    with folder.open() as sandbox:
        client = docker.from_env()
        try:
            services = client.containers.list(filters={"label": f"{RUN_LABEL}={RUN}"})
            (network,) = client.networks.list(filters={"label": f"{RUN_LABEL}={RUN}"})
            gateways = [
                client.networks.get(name).attrs["IPAM"]["Config"][0]["Gateway"] for name in (network.id, "bridge")
            ]
            heard = [
                one.exec_run(["bash", "-c", knock.format(gateway)]).output.decode().strip()
                for one in services
                for gateway in gateways
            ]
        finally:
            client.close()
        assert heard == ["refused" if public else ""] * 4
        assert say(sandbox, ASK) == "blue$5"


def test_what_a_killed_process_left_of_its_services_is_reaped(folder):
    folder.write("environment/docker-compose.yaml", COMPOSE.replace("service_healthy", "service_started"))
    script = (
        "import time\nfrom pathlib import Path\nfrom capvec.tasks import load_task\n"
        "from capvec.sandbox.docker import DockerProvider\n"
        f"task = load_task(Path({str(folder.path)!r}))\n"
        f"with DockerProvider().open(task, run={RUN!r}, trial='t'):\n    print('up', flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "up\n"
        reap()
        assert len(left()) == 4  # it lives
        process.send_signal(signal.SIGKILL)
    assert reap() >= 2
    assert left() == []


def test_a_verifier_has_services_of_its_own(folder):
    shutil.copytree(folder.path / "environment", folder.path / "tests", dirs_exist_ok=True)
    folder.write("tests/Dockerfile", "FROM debian:bookworm-slim\nCOPY test.sh /tests/\nENV PLACE=apart\n")
    folder.write("tests/docker-compose.yaml", COMPOSE.replace("blue$$5", "red"))
    folder.write(
        "tests/test.sh", f'[ "$PLACE $({ASK}) $(cat /app/out)" = "apart red blue\\$5" ]; echo $((!$?)) > $LOG\n'
    )
    text = (folder.path / "task.toml").read_text()
    folder.write("task.toml", f'artifacts = ["/app/out"]\n{text}')
    folder.add_settings('[verifier]\nenvironment_mode = "separate"')
    with folder.open() as sandbox:
        say(sandbox, f"{ASK} > out")
        assert verify(sandbox, sandbox.task).rewards["reward"] == 1.0
        wait_until(lambda: len(left()) == 4)
    assert left() == []


def test_a_service_that_ends_is_an_error_with_what_it_printed(folder):
    text = COMPOSE.replace("perl /serve.pl", "sh -c 'echo no disk; exit 3'")
    folder.write("environment/docker-compose.yaml", text)
    with pytest.raises(InfrastructureError, match=r"words \(exit code 3\) printed: no disk"), folder.open():
        pass
    assert left() == []


def test_a_healthcheck_of_a_service_whose_output_has_no_end_is_an_error_of_its_task_in_one_sentence(folder):
    endless = 'healthcheck: {test: ["CMD", "yes"], interval: 0.2s, timeout: 1s, retries: 2}'
    folder.write("environment/docker-compose.yaml", re.sub(r"healthcheck: .*", endless, COMPOSE))
    with pytest.raises(EnvironmentFault, match=r"words \(exit code 0\) printed: nothing") as caught, folder.open():
        pass
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000
    assert left() == []


def test_a_healthcheck_of_a_service_that_prints_much_and_is_content_begins_the_trial(folder):
    much = 'healthcheck: {test: ["CMD-SHELL", "yes | head -c 50000000"], interval: 0.2s}'
    folder.write("environment/docker-compose.yaml", re.sub(r"healthcheck: .*", much, COMPOSE))
    with folder.open() as sandbox:
        assert say(sandbox, ASK) == "blue$5"
    assert left() == []


INIT = """
services:
  main:
    depends_on: {{fill: {{condition: service_completed_successfully}}}}
    volumes: [shared:/shared]
  fill:
    image: debian:bookworm-slim
    command: [sh, -c, "echo filling; echo word > /shared/word; exit {code}"]
    depends_on: {{seed: {{condition: service_completed_successfully}}, idle: {{condition: service_started}}}}
    volumes: [shared:/shared]
  seed: {{image: debian:bookworm-slim, command: "true"}}
  idle: {{image: debian:bookworm-slim, command: sleep infinity}}
volumes: {{shared: {{}}}}
"""


def test_the_agents_container_waits_for_services_that_prepare_it_and_end(folder):
    folder.write("environment/docker-compose.yaml", INIT.format(code=0))
    with folder.open() as sandbox:
        assert say(sandbox, "cat /shared/word") == "word"
    folder.write("environment/docker-compose.yaml", INIT.format(code=3))
    with pytest.raises(EnvironmentFault, match=r"fill \(exit code 3\) printed: filling"), folder.open():
        pass
    assert left() == []


HOSTILE = {
    "  words:\n    privileged: true": "services.words.privileged",
    "  words:\n    cap_add: [SYS_ADMIN]": "services.words.cap_add",
    "  words:\n    devices: [/dev/kvm]": "services.words.devices",
    "  words:\n    network_mode: host": "services.words.network_mode",
    "  words:\n    pid: host": "services.words.pid",
    "  words:\n    ipc: host": "services.words.ipc",
    "  words:\n    userns_mode: host": "services.words.userns_mode",
    "  words:\n    security_opt: ['seccomp:unconfined']": "services.words.security_opt",
    "  words:\n    ports: ['8000:8000']": "services.words.ports",
    "  words:\n    extra_hosts: ['h:host-gateway']": "services.words.extra_hosts: host-gateway",
    "  words:\n    volumes: ['/var/run/docker.sock:/s']": "services.words.volumes: /",
    "  words:\n    volumes: ['./link:/s:ro']": "services.words.volumes: /",
    "  words:\n    volumes: ['.:/s']": "services.words.volumes: .*read-only",
    "  main:\n    volumes: ['vol:/logs/verifier']\nvolumes:\n  vol:": "services.main.volumes: /logs/verifier: ",
    "  main:\n    volumes: ['vol:/app/../usr/bin']\nvolumes:\n  vol:": "services.main.volumes: /",
    "  main:\n    tmpfs: /tests": "services.main.tmpfs: /tests",
    "  main:\n    healthcheck: {test: 'true'}": "services.main.healthcheck",
    "  main:\n    entrypoint: /x": "services.main.entrypoint",
    "  main:\n    command: python server.py": "services.main.command",
    "  words:\n    env_file: ../../secret": "services.words.env_file",
    "  words: &a\n    'env\\u005ffile': x\n    \"env\\u005ffile\": [link]": "services.words.env_file",
    "  words:\n    env_file: ~/secret": "services.words.env_file",
    "  words:\n    environment: [SECRET]": "services.words.environment.SECRET: no value",
    "  words:\n    env_file: [/etc/hostname]\n    env_file: []": "",
    "  words:\n    extends: {file: ../../x.yaml, service: x}": "services.words.extends.file",
    "  words:\n    build: {context: ../..}": "services.words.build.context",
    "  words:\n    build: {context: ., network: host}": "services.words.build.network",
    "  words:\n    user: ${NOT_SET_ANYWHERE}": r"\$\{NOT_SET_ANYWHERE\}: not set",
    "  words:\n    user: ${HOME}${PATH}\n    command: ['${DOCKER_CONFIG}']": (
        r"\$\{DOCKER_CONFIG\}, \$\{HOME\}, \$\{PATH\}: not set"
    ),
    "  words: {}\ninclude: [../x.yaml]": "include",
    "  words: {}\nnetworks:\n  default: {external: true, name: bridge}": "networks.default.external",
    "  words: {}\nnetworks:\n  default: {driver: host}": "networks.default.driver",
    "  words:\n    volumes: ['vol:/v']\nvolumes:\n  vol: {external: true}": "volumes.vol.external",
    "  words:\n    volumes: ['vol:/v']\nvolumes:\n  vol: {driver_opts: {o: bind, type: none, device: /}}": (
        "volumes.vol.driver_opts"
    ),
    "  words:\n    secrets: [s]\nsecrets:\n  s: {file: /etc/shadow}": "secrets",
    "  words:\n    deploy: {resources: {reservations: {devices: [{capabilities: [gpu]}]}}}": "deploy.*devices",
    "  words: [": "expected one YAML document",
    "  words: {}\n---\nservices: {}": "expected one YAML document",
}


@pytest.mark.parametrize("text", HOSTILE)
def test_what_would_leave_the_sandbox_is_refused_by_name(folder, text, monkeypatch):
    monkeypatch.setenv("SECRET", "of this machine")
    monkeypatch.setenv("DOCKER_CONFIG", str(config_folder()))
    words = text.replace("words:\n", "words:\n    image: debian:bookworm-slim\n").replace(
        "words: {}", "words: {image: debian:bookworm-slim}"
    )
    folder.write("environment/docker-compose.yaml", f"services:\n{words}\n")
    task = load_task(folder.path)
    (folder.path / "environment" / "link").symlink_to("/etc/hostname")  # with it the task would not load
    with pytest.raises(UsageError, match=rf"^task greet: .*docker-compose\.yaml: .*{HOSTILE[text]}"):
        DockerProvider().prepare(task)


def test_an_image_that_no_registry_has_is_refused_with_its_service(folder):
    folder.write("environment/docker-compose.yaml", "services:\n  words: {image: localhost:1/no:such}\n")
    with pytest.raises(UsageError, match=r"services\.words\.image = 'localhost:1/no:such' cannot be pulled"):
        DockerProvider().prepare(load_task(folder.path))


def test_without_compose_the_refusal_names_it(folder, tmp_path, monkeypatch):
    program = tmp_path / "bin" / "docker"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    with pytest.raises(UsageError, match=r"needs the plugin compose, .* Run `capvec setup`"):
        DockerProvider().prepare(load_task(Path(folder.path)))
