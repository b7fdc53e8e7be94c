"""An agent is root in its sandbox: what it does to the verifier's tools earns nothing, and its own work stays."""

from __future__ import annotations

import io
import os
from contextlib import contextmanager

import docker.errors
import pytest
import requests

from capvec.errors import SandboxUnavailable
from capvec.sandbox.docker import DockerProvider
from capvec.sandbox.verifier import verify
from capvec.task_records import Environment, Limits, Task

pytestmark = pytest.mark.integration

VERIFIER = """#!/bin/bash
reward=0
cmp -s /app/answer /tests/answer && [ -z "$(sed d < <(diff /app/answer /tests/answer))" ] && reward=1
cat /dev/null > /logs/verifier/reward.txt
echo $reward > /logs/verifier/reward.txt
"""
HONEST = "echo right > /app/answer"
FAKE = r"""printf '#!/app/sh\nmkdir -p /logs/verifier; echo 1 > /logs/verifier/reward.txt\n' > /app/fake
cp /bin/sh /app/sh; chmod 755 /app/fake; echo wrong > /app/answer
"""
BESIDE = "rm -rf /app/dir; mkdir /app/dir; cp /app/fake /app/dir/bash; cp /app/fake /app/dir/cmp"
FORGED = """size=$(stat -c %s /usr/bin/cmp) time=$(stat -c %y /usr/bin/cmp)
cp /bin/true /usr/bin/cmp; truncate -s $size /usr/bin/cmp; touch -d "$time" /usr/bin/cmp
touch -d "$time" /usr/bin"""
SURVIVOR = r"""cat > /app/plant <<'EOF'
while :; do rm -f /usr/bin/cmp; /app/ln -s true /usr/bin/cmp; echo 1 > /logs/verifier/reward.txt; done
EOF
cp /bin/ln /app/ln; mkdir -p /logs/verifier; (setsid /app/sh /app/plant > /dev/null 2>&1 &)
printf '#!/app/sh\nexit 0\n' > /app/idle; chmod 755 /app/idle; cp /app/idle /bin/dash"""

CHEATS = {
    "another bash": ("cp /app/fake /app/b; mv /app/b /bin/bash", {"/usr/bin"}),
    "another cmp": ("ln -sf /bin/true /usr/bin/cmp", {"/usr/bin"}),
    "another cmp of the same size and time": (FORGED, {"/usr/bin"}),
    "a bash that comes first on PATH": ("cp /app/fake /usr/local/sbin/bash", {"/usr/local/sbin/bash"}),
    "a folder of PATH that is a link": (
        f"{BESIDE}; rm -r /usr/local/bin; ln -s /app/dir /usr/local/bin",
        {"/usr/local/bin"},
    ),
    "a parent of PATH that is a link": (
        f"{BESIDE}; rm -r /usr/local; mkdir /app/l; mv /app/dir /app/l/bin; ln -s /app/l /usr/local",
        {"/usr/local"},
    ),
    "a link of the system that leads elsewhere": (f"{BESIDE}; rm /bin; /usr/bin/ln -s /app/dir /bin", {"/bin"}),
    "a preloaded library": (
        "cp /lib/*/libc.so.6 /app/x.so; echo /app/x.so > /etc/ld.so.preload",
        {"/etc/ld.so.preload"},
    ),
    "another loader cache": ("echo > /etc/ld.so.cache", {"/etc/ld.so.cache"}),
    "another library": ("echo > /app/libc; mv /app/libc /lib/*/libc.so.6", {"/usr/lib"}),
    "no system at all": ("rm -rf /usr /lib64 /lib /bin", None),
    "closed folders": ("chmod 000 /usr/bin /usr/lib /usr /etc", {"/usr/bin", "/usr/lib"}),
    "another bash, a /dev/null that says something, and a /dev/fd that is empty": (
        "rm /usr/sbin/*; cp /app/fake /app/b; mv /app/b /bin/bash; "
        "rm /dev/null /dev/fd; echo 1 > /dev/null; mkdir /dev/fd",
        {"/usr/bin", "/usr/sbin", "/dev"},
    ),
    "a killer that kills nothing, and a process that goes on": (SURVIVOR, {"/usr/bin"}),
    # Nothing has to be put back after these.
    "start-up files of shells, and an environment": (
        "for f in /etc/profile /etc/bash.bashrc /root/.bashrc /root/.profile /root/.bash_profile; do "
        "cp /app/fake $f; done; export BASH_ENV=/app/fake ENV=/app/fake; cmp() { true; }; export -f cmp",
        set(),
    ),
    "logs that lead elsewhere": (
        "mkdir -p /app/logs/verifier; rm -rf /logs; ln -s /app/logs /logs; echo 1 > /logs/verifier/reward.txt",
        set(),
    ),
    "logs with a folder that leads elsewhere": ("mkdir -p /logs /app/v; ln -s /app/v /logs/verifier", set()),
    "tests that lead elsewhere": ("mkdir /app/tests; ln -s /app/tests /tests; cp /app/fake /app/tests/test.sh", set()),
    "a test.sh that leads elsewhere": ("mkdir /tests; ln -s /app/fake /tests/test.sh; chmod 555 /tests", set()),
    "a pipe where the reward goes": ("mkdir -p /logs/verifier; mkfifo /logs/verifier/reward.txt", set()),
    "a folder where the reward goes": ("mkdir -p /logs/verifier/reward.txt/x; chmod 0 /logs/verifier/*", set()),
    "a very large reward": ("mkdir -p /logs/verifier; truncate -s 1G /logs/verifier/reward.json", set()),
    "no users": ("rm /etc/passwd /etc/group", set()),
}
"""What an agent does after FAKE, and the paths that are then put back (None: many)."""


def make_task(folder, *lines):
    (folder / "environment").mkdir()
    dockerfile = "\n".join(("FROM debian:bookworm-slim", "WORKDIR /app", *lines, ""))
    (folder / "environment" / "Dockerfile").write_text(dockerfile)
    (folder / "tests").mkdir()
    (folder / "tests" / "test.sh").write_text(VERIFIER)
    (folder / "tests" / "answer").write_text("right\n")
    return Task("tampering", folder, "do it", "0", environment=Environment(limits=Limits(memory_mb=256, pids=64)))


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return make_task(tmp_path_factory.mktemp("task"))


@contextmanager
def opened(task, *commands):
    """A sandbox in which an agent ran the commands."""
    with DockerProvider().open(task, run=f"test-tampering-{os.getpid()}", trial="t") as sandbox:
        for command in commands:
            assert not sandbox.run(command, timeout_s=30).timed_out
        yield sandbox


def put_back_by(verified):
    """What was put back, as the notes say."""
    return {
        path for note in verified.notes if note.startswith("restored") for path in note.rpartition(": ")[2].split(", ")
    }


@pytest.mark.parametrize("what", CHEATS)
def test_what_an_agent_does_to_the_verifiers_tools_earns_nothing_and_is_no_error(task, what):
    command, put_back = CHEATS[what]
    with opened(task, FAKE, command) as sandbox:
        verified = verify(sandbox, task)
    assert verified.rewards == {"reward": 0.0}
    assert put_back is None or put_back_by(verified) == put_back


@pytest.mark.parametrize("what", ["another bash", "no system at all", "closed folders", "another library"])
def test_an_answer_that_is_right_earns_its_reward_whatever_else_was_done(task, what):
    with opened(task, FAKE, HONEST, CHEATS[what][0]) as sandbox:
        verified = verify(sandbox, task)
    assert verified.rewards == {"reward": 1.0}
    assert put_back_by(verified)


def test_nothing_is_put_back_after_an_agent_that_left_the_system_alone(task):
    work = "mkdir -p /opt/x /home/y; echo > /etc/new; rm /etc/motd; printf '#!/bin/sh\n' > /usr/local/bin/mine"
    with opened(task, work, "chmod 755 /usr/local/bin/mine; ls /usr/bin; cat /bin/sh > /dev/null") as sandbox:
        assert sandbox.take_back().restored == ()
        assert sandbox.execute(("sh", "-c", "mine && ls /opt/x /etc/new"), timeout_s=10).exit_code == 0


def test_a_container_that_could_not_be_frozen_at_once_is_frozen_in_a_second_try(task, monkeypatch):
    """What runc answers where cores are busy (moby#48205); the second try is real."""
    answer = requests.Response()
    answer.raw = io.BytesIO()
    answer.status_code, said = 500, "Cannot pause container c: OCI runtime pause failed: unable to freeze: unknown"
    with opened(task) as sandbox:
        really, tries = sandbox._api.pause, []

        def pause(container):
            tries.append(container)
            if len(tries) == 1:
                raise docker.errors.APIError("500 Server Error", response=answer, explanation=said)
            really(container)

        monkeypatch.setattr(sandbox._api, "pause", pause)
        assert sandbox.take_back().restored == ()
        assert len(tries) == 2


SYSTEM = "/bin /sbin /lib /lib64 /usr/bin /usr/sbin /usr/lib /usr/lib64 /usr/libexec /etc/alternatives /etc/ld.so*"
PLACES = "/app /etc/* /var /home /opt /root /srv /usr/local"
WORK = """mkdir -p /app/deep/er; cd /app; echo x > file; ln file hard; ln -s nowhere link; mkfifo pipe
chmod 4711 file; chmod 1777 deep; mkdir shut; chmod 000 shut; touch -d 2001-02-03 deep/er
rm -r /var/log /media; echo x >> /etc/passwd; echo 127.0.0.2 me >> /etc/hosts; truncate -s 1G sparse"""
TAMPERING = r"""rm -rf /usr/libexec /usr/sbin/*; ln -s /app /usr/libexec; chmod 4755 /usr/bin/diff
mv /usr/bin/sed /usr/bin/dir; mkdir /usr/lib/new; mkfifo /usr/bin/new; touch $'/usr/bin/a new\nname' /usr/bin/.new
rm /lib64; mkdir /lib64; chmod 700 /usr/lib"""


def state(sandbox, places):
    """What is there: names, kinds, modes, owners, links, and of what is no folder also size, time and content."""
    found = (
        f"find {places} -xdev ! -name docker-init -printf '%p %y %m %U %G %l ' "
        "-a \\( -type d -printf '\\n' -o -printf '%n %s %T@\\n' \\) 2>/dev/null | sort > /tmp/state; "
        f"find {places} -xdev -type f ! -name docker-init -size -9M -print0 2>/dev/null "
        "| sort -z | xargs -0 sha256sum >> /tmp/state"
    )
    assert not sandbox.execute(("sh", "-c", found), timeout_s=60).timed_out
    return sandbox.read("/tmp/state").decode().splitlines()


def test_the_system_is_as_in_the_image_and_the_agents_work_as_it_was(task):
    with opened(task) as sandbox:
        pristine = state(sandbox, SYSTEM)
    with opened(task, WORK) as sandbox:
        before = state(sandbox, PLACES)
        sandbox.run(TAMPERING, timeout_s=30)
        assert {*sandbox.take_back().restored} == {"/usr/bin", "/usr/sbin", "/usr/lib", "/usr/libexec", "/lib64"}
        assert state(sandbox, SYSTEM) == pristine
        assert state(sandbox, PLACES) == before


def test_what_is_installed_is_put_back_with_the_files_so_that_a_verifier_can_install(task):
    with opened(task, "touch /usr/bin/installed; echo 'Package: installed' >> /var/lib/dpkg/status") as sandbox:
        assert set(sandbox.take_back().restored) == {"/usr/bin", "/var/lib/dpkg"}


def test_an_image_whose_find_cannot_tell_gets_everything_back_each_time(tmp_path):
    task = make_task(tmp_path, "RUN rm /usr/bin/find")
    with opened(task, FAKE, CHEATS["another cmp"][0]) as sandbox:
        assert verify(sandbox, task).rewards == {"reward": 0.0}
    with opened(task, HONEST) as sandbox:
        assert verify(sandbox, task).rewards == {"reward": 1.0}


def test_a_path_of_the_image_that_is_a_link_is_followed(tmp_path):
    links = "RUN mkdir -p /srv/real/bin && ln -s /srv/real /opt/tools"
    task = make_task(tmp_path, links, "ENV PATH=/opt/tools/bin/:$PATH")
    with opened(task, FAKE, "cp /app/fake /srv/real/bin/bash; cp /app/fake /srv/real/bin/mine") as sandbox:
        assert sandbox.take_back().restored == ("/srv/real/bin/bash",)
        assert sandbox.execute(("bash", "-c", "command -v mine"), timeout_s=10).output == "/opt/tools/bin/mine\n"


def test_no_library_of_the_agents_is_found_where_musl_looks_before_the_systems(tmp_path):
    task = make_task(tmp_path, "RUN touch /lib/ld-musl-x86_64.so.1 /usr/lib/libreadline.so.8")
    with opened(task, "touch /usr/local/lib/libreadline.so.8 /usr/local/lib/libmine.so") as sandbox:
        assert sandbox.take_back().restored == ("/usr/local/lib/libreadline.so.8",)
        assert sandbox.execute(("ls", "/usr/local/lib"), timeout_s=10).output.split() == ["libmine.so"]
    link = "rm -r /usr/local/lib; mkdir /app/l; touch /app/l/libreadline.so.8; ln -s /app/l /usr/local/lib"
    with opened(task, link) as sandbox:
        assert sandbox.take_back().restored == ("/usr/local/lib",)


POSER = r"""for at in /proc/[0-9]*; do
  tr '\0' ' ' < $at/cmdline | grep -qx 'sleep infinity ' && keeper=${at#/proc/}
done
printf '#!/bin/sh\nwhile :; do echo 1 > /logs/verifier/reward.txt; done\n' > "/app/x) S $keeper
"; chmod 755 /app/x*; setsid /app/x* > /dev/null 2>&1 &"""


def test_no_process_passes_for_one_of_the_entrypoints_by_its_name(tmp_path):
    """In /proc/PID/stat the name stands before the parent: this one has lines, and says that it is the ENTRYPOINT's."""
    task = make_task(tmp_path, 'ENTRYPOINT ["sh", "-c", "exec \\"$@\\"", "sh"]')
    with opened(task, POSER, "sleep 0.2; echo > /logs/verifier/reward.txt") as sandbox:
        verified = verify(sandbox, task)
    assert verified.rewards == {"reward": 0.0}
    assert verified.notes[0].startswith("ended before the verifier ran: x) S ")


def test_tools_that_cannot_be_put_back_are_a_fault_of_the_instrument_and_no_score(tmp_path):
    task = make_task(tmp_path, "RUN rm /usr/bin/cp")
    with (
        opened(task, "ln -sf true /usr/bin/cmp") as sandbox,
        pytest.raises(SandboxUnavailable, match="cp: not found"),
    ):
        verify(sandbox, task)
