"""Task folders as Harbor's users write them, judged in real containers as Harbor judges them."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from support.real_sweeps import containers
from support.tasks import TaskFolder, wait_until

from capvec.errors import EnvironmentFault, InfrastructureError, UsageError
from capvec.run.check import Checker
from capvec.run.control import Scale
from capvec.sandbox.docker import DockerProvider
from capvec.sandbox.ownership import closed_to_root
from capvec.sandbox.skills import skills_in_words
from capvec.sandbox.solution import solve
from capvec.sandbox.verifier import verify
from capvec.task_records import Phase
from capvec.tasks import load_task

pytestmark = pytest.mark.integration
RUN = f"test-harbor-{os.getpid()}"


class Folder(TaskFolder):
    """A task folder with an image and settings of its own."""

    def dockerfile(self, *lines, folder="environment"):
        self.write(f"{folder}/Dockerfile", "\n".join(("FROM debian:bookworm-slim", *lines)) + "\n")

    def settings(self, text, *, top="", environment="", network="no-network"):
        lines = (top, "[environment]", f'network_mode = "{network}"', "memory_mb = 256", environment, text, "")
        self.write("task.toml", "\n".join(lines))


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path, RUN)


def say(sandbox, command, timeout_s=10):
    return sandbox.run(command, timeout_s=timeout_s).output.strip()


def reward(sandbox):
    return verify(sandbox, sandbox.task).rewards["reward"]


# ------------------------------------------------------------------------------------------------ users


def test_an_image_with_a_user_of_its_own_is_judged(folder):
    folder.dockerfile("RUN useradd -m dev && mkdir /app && chown dev /app", "USER dev", "WORKDIR /app")
    folder.judge('[ "$(cat /app/hello.txt) $(id -un)" = "hi dev" ]')
    with folder.open() as sandbox:
        assert say(sandbox, "echo hi > hello.txt; id -un; ls -ld /logs/artifacts | cut -c 1-10") == "dev\ndrwxrwxrwx"
        assert reward(sandbox) == 1.0
    with folder.open() as sandbox:
        assert reward(sandbox) == 0.0


@pytest.mark.parametrize("image_user", ["dev:dev", "root"])
def test_each_phase_has_its_user(folder, image_user):
    folder.dockerfile("RUN useradd dev && useradd -u 1234 judge", f"USER {image_user}")
    folder.settings('[agent]\nuser = "dev"\n[verifier]\nuser = "judge"')
    folder.judge('[ "$(id -u) $(cat /tmp/who)" = "1234 dev" ]')
    with folder.open() as sandbox:
        say(sandbox, "id -un > /tmp/who")
        assert reward(sandbox) == 1.0


@pytest.mark.parametrize("image_user", ["dev", "root"])
def test_roots_verifier_reads_what_another_user_kept_to_itself_and_that_user_gains_nothing(folder, image_user):
    folder.dockerfile("RUN useradd dev && mkdir -m 777 /app", f"USER {image_user}", "WORKDIR /app")
    folder.settings('[agent]\nuser = "dev"\n[verifier]\nuser = "root"')
    folder.judge('[ "$(cat /app/own)" = mine ]')
    with folder.open() as sandbox:
        assert say(sandbox, "umask 077; echo mine > own; cat /etc/shadow; kill -9 1; echo $?").endswith("1")
        assert "root:" not in say(sandbox, "cat /etc/shadow")
        assert reward(sandbox) == 1.0


def test_a_user_stays_who_it_was_when_the_agent_changes_the_list_of_users(folder):
    folder.dockerfile("RUN useradd -u 1234 judge")
    folder.settings('[verifier]\nuser = "judge"')
    folder.judge("[ $(id -u) = 1234 ]")
    with folder.open() as sandbox:
        say(sandbox, "rm /etc/passwd")
        assert reward(sandbox) == 1.0


@pytest.mark.parametrize("phase", ["agent", "verifier"])
def test_a_user_that_the_image_lacks_is_refused_before_anything_runs(folder, phase):
    folder.settings(f'[{phase}]\nuser = "nobody-knows"')
    with pytest.raises(UsageError, match=rf"task greet: {phase}\.user: the image has no user 'nobody-knows'"):
        DockerProvider().prepare(load_task(folder.path))


# ------------------------------------------------------------------------------------------------ capabilities


def test_default_capabilities_are_those_of_a_plain_container(folder):
    folder.dockerfile("RUN useradd dev", "RUN cp /usr/bin/id /usr/bin/suid && chmod u+s /usr/bin/suid")
    folder.judge("chown dev /tmp/file && [ $(stat -c %U /tmp/file) = dev ]")
    for capabilities, expected in (("default", 1.0), ("none", 0.0)):
        with folder.open(capabilities) as sandbox:
            say(sandbox, "touch /tmp/file")
            bounding = int(say(sandbox, "grep CapBnd /proc/self/status | cut -f 2"), 16)
            assert bounding == (0xA80425FB if capabilities == "default" else 0)
            assert say(sandbox, "grep NoNewPrivs /proc/self/status | cut -f 2") == ("0" if expected else "1")
            assert reward(sandbox) == expected


def test_what_belongs_to_another_user_is_closed_to_root_without_capabilities(folder):
    found = []
    with folder.open("default") as sandbox:
        for made in (
            "mkdir -p src/deep; touch src/deep/file; ln -s nowhere link; chown -h 1000 link",
            "chown 1000 src/deep/file",
            "chmod g+w src/deep/file",  # its group is root's
            "chgrp 1000 src/deep/file",
            "chmod o+w src/deep/file",
            "chown 1000 .; chmod 700 .",
        ):
            sandbox.enter(user="root", network=None)
            assert sandbox.execute(("sh", "-c", made), timeout_s=30).exit_code == 0
            found.append(closed_to_root(sandbox, sandbox.task))
        added = replace(sandbox.task.environment.limits, cap_add=("DAC_OVERRIDE",))
        capable = replace(sandbox.task, environment=replace(sandbox.task.environment, limits=added))
        other = replace(sandbox.task, agent=Phase(user="1000"))
        assert [closed_to_root(sandbox, task) for task in (capable, other)] == ["", ""]
    assert found == ["", "./src/deep/file", "", "./src/deep/file", "", "."]


@pytest.mark.parametrize(
    "command", ["kill -9 -1", "kill -9 $(grep -l ^sleep /proc/[0-9]*/cmdline | tr -dc '0-9\\n')", "kill -15 1"]
)
def test_an_agent_with_capabilities_that_ends_its_container_has_failed_and_that_is_no_error(folder, command):
    folder.judge("[ -e /tmp/kept ]")
    with folder.open("default") as sandbox:
        say(sandbox, "touch /tmp/kept")
        sandbox.run(f"{command}; sleep 2", timeout_s=10)
        assert say(sandbox, "echo alive") == "alive"
        assert reward(sandbox) == 1.0


# ------------------------------------------------------------------------------------------------ ENTRYPOINT

SERVICE = r"""#!/bin/bash
(while :; do date +%s%N > /run/service.beat; sleep 0.1; done) &
exec "$@"
"""
BEATS = 'a=$(cat /run/service.beat) && sleep 0.5 && [ "$a" != "$(cat /run/service.beat)" ]'


@pytest.fixture
def with_service(folder):
    folder.write("environment/start.sh", SERVICE)
    folder.dockerfile("COPY start.sh /start.sh", 'ENTRYPOINT ["/start.sh"]', 'CMD ["bash"]')
    folder.judge(BEATS)
    return folder


def test_a_service_that_the_entrypoint_starts_lives_for_the_agent_and_for_the_verifier(with_service):
    with with_service.open() as sandbox:
        assert sandbox.run(BEATS, timeout_s=10).exit_code == 0
        sandbox.run("(while :; do echo x >> /tmp/agent; sleep 0.05; done) & sleep 60", timeout_s=1)
        assert sandbox.run(BEATS, timeout_s=10).exit_code == 0
        sandbox.run("setsid sh -c 'while :; do echo x >> /tmp/agent; sleep 0.05; done' >/dev/null 2>&1 &", timeout_s=5)
        assert reward(sandbox) == 1.0
        grown = sandbox.execute(("sh", "-c", "wc -c </tmp/agent; sleep 0.5; wc -c </tmp/agent"), timeout_s=5).output
        assert len(set(grown.split())) == 1


def test_a_service_that_the_agent_ended_is(with_service):
    with with_service.open() as sandbox:
        sandbox.run("kill -9 $(grep -l start.sh /proc/[0-9]*/cmdline | tr -dc '0-9\\n' | grep -v $$)", timeout_s=5)
        assert reward(sandbox) == 0.0


def test_an_entrypoint_that_ends_is_reported_with_what_it_said(folder):
    folder.dockerfile('ENTRYPOINT ["sh", "-c", "echo cannot start; exit 3"]')
    with pytest.raises(InfrastructureError, match="exit code 3 and printed: cannot start"), folder.open():
        pass
    assert containers(RUN) == []


# ------------------------------------------------------------------------------------------------ the environment


def test_programs_start_in_the_environments_workdir(folder):
    folder.dockerfile("RUN mkdir -p /srv/work", "WORKDIR /app")
    folder.settings("", environment='workdir = "/srv/work"')
    folder.judge("[ $PWD = /srv/work ]")
    with folder.open() as sandbox:
        assert say(sandbox, "pwd") == "/srv/work"
        assert reward(sandbox) == 1.0


def test_a_workdir_that_the_image_lacks_is_named(folder):
    folder.settings("", environment='workdir = "/srv/none"')
    with pytest.raises(UsageError, match="/srv/none"), folder.open():
        pass
    assert containers(RUN) == []


def test_a_container_is_ready_when_its_healthcheck_succeeds(folder):
    check = '[environment.healthcheck]\ncommand = "echo x >> /tmp/n; [ $(wc -l </tmp/n) = 3 ]"\ninterval_sec = 0.1\n'
    folder.settings(check)
    with folder.open() as sandbox:
        assert say(sandbox, "wc -l </tmp/n") == "3"
    folder.settings(check + "retries = 2\n")
    with pytest.raises(InfrastructureError, match=r"failed 2 times in a row.*ended with 1"), folder.open():
        pass


@pytest.mark.parametrize(("environment", "agent", "verifier"), [(False, True, False), (True, False, True)])
def test_each_phase_has_the_network_that_it_asks_for(folder, environment, agent, verifier):
    mode = {True: "public", False: "no-network"}
    folder.settings(
        f'[agent]\nnetwork_mode = "{mode[agent]}"\n[verifier]\nnetwork_mode = "{mode[verifier]}"',
        network=mode[environment],
    )
    folder.judge(f'[ "$(ls /sys/class/net | grep -c eth)" = {int(verifier)} ]')
    with folder.open() as sandbox:
        assert say(sandbox, "ls /sys/class/net | grep -c eth") == str(int(agent))
        assert reward(sandbox) == 1.0


# ------------------------------------------------------------------------------------------------ a verifier of its own


def test_a_verifier_in_a_container_of_its_own_sees_the_artifacts_and_nothing_else(folder):
    folder.dockerfile("RUN mkdir -p /app/out && touch /app/out/old")
    folder.dockerfile(
        "RUN useradd judge && mkdir -p /app/out && touch /app/out/stale /app/kept",
        "COPY . /tests",
        "RUN chmod 644 /tests/test.sh",
        folder="tests",
    )
    folder.settings(
        '[verifier]\nuser = "judge"\nenvironment_mode = "separate"\nenv = { MARK = "v" }\n'
        '[[verifier.collect]]\ncommand = "echo held > /app/out/held"\n'
        '[verifier.environment]\nnetwork_mode = "no-network"\nmemory_mb = 128\nenv = { OWN = "e" }\n',
        top='artifacts = ["/app/missing", { source = "/app/out", exclude = ["*.log"] }]',
    )
    folder.judge(
        '[ "$MARK$OWN $(id -un)" = "ve judge" ] && [ -e /app/kept ] && [ ! -e /app/out/stale ] && cd /app/out && '
        '[ "$(find . | sort | tr "\\n" " ")" = ". ./held ./in ./outward ./pipe ./run.sh " ] && '
        '[ "$(readlink in)" = run.sh ] && [ ! -e outward ] && [ ! -e pipe ] && '
        '[ "$(stat -c "%U %a" run.sh)" = "root 755" ] && [ "$(cat /logs/artifacts/said)" = hi ]'
    )
    with folder.open() as sandbox:
        say(sandbox, "cd /app/out; rm old; echo x > a.log; ln -s run.sh in; ln -s /etc/passwd outward; mkfifo pipe")
        say(sandbox, "echo 1 > run.sh; chmod 6700 run.sh; echo hi > /logs/artifacts/said; echo 1 > /tests 2>&1")
        assert reward(sandbox) == 1.0
        wait_until(lambda: len(containers(RUN)) == 1)


def test_volumes_of_the_verifiers_image_are_emptied_for_artifacts_and_stay(folder):
    folder.dockerfile(
        "RUN mkdir -p /app/out/own '/app/b c/d' && touch /app/old /app/.old /app/out/own/old '/app/b c/old'",
        "RUN chown -R nobody /app && chmod -R go-w /app && mkdir /data && touch /data/old",
        'VOLUME ["/app/out", "/app/b c/d", "/data"]',
    )
    folder.settings('[verifier]\nenvironment_mode = "separate"', top='artifacts = ["/app", "/data"]')
    folder.judge(
        '[ "$(cd /app; find . -type f | sort | tr "\\n" " ")" = "./b c/d/new ./new ./out/new " ] && '
        '[ "$(ls -A /data)" = new ] && [ "$(grep -cE " /(app/out|app/b.040c/d|data) " /proc/mounts)" = 3 ]'
    )
    with folder.open(capabilities="default") as sandbox:
        say(
            sandbox,
            "find /app /data -type f -delete; for i in /app /app/out '/app/b c/d' /data; do echo 1 > \"$i/new\"; done",
        )
        assert reward(sandbox) == 1.0


def test_on_the_way_to_an_artifact_no_link_of_the_agents_is_followed(folder):
    folder.dockerfile(
        "RUN useradd dev && mkdir -m 777 /app && echo right > /root/answer && ln -s /app /by-image", "USER dev"
    )
    folder.settings(
        '[verifier]\nuser = "root"\nenvironment_mode = "separate"',
        top='artifacts = ["/app/out/answer", "/by-image/own", "/app/loop/x", "/app/loop", "/app/far"]',
    )
    folder.judge("[ $(cat /by-image/own) = mine ] && [ ! -e /app/out ]")
    with folder.open() as sandbox:
        say(
            sandbox,
            "ln -s /root /app/out; ln -s loop /app/loop; ln -s $(printf %0300d 1) /app/far; echo mine > /app/own",
        )
        assert sandbox.read("/app/loop") is None
        verified = verify(sandbox, sandbox.task)
        assert [note.split(" is missing, or lies behind a link")[0] for note in verified.notes] == [
            "the artifact /app/out/answer",
            "the artifact /app/loop/x",
            "the artifact /app/loop",
            "the artifact /app/far",
        ]
        assert verified.rewards == {"reward": 1.0}


def test_artifacts_beyond_the_limit_are_the_agents_failure_and_no_error(folder):
    folder.settings('[verifier]\nenvironment_mode = "separate"')
    folder.judge("[ -e /logs/artifacts/done ]")
    with folder.open() as sandbox:
        say(sandbox, "touch /logs/artifacts/done")
        assert reward(sandbox) == 1.0
        sandbox.run("truncate -s 1025M /logs/artifacts/large", timeout_s=10)
        judged = verify(sandbox, sandbox.task)
    assert judged.rewards == {"reward": 0.0}
    (note,) = judged.notes
    assert note == "the artifact /logs/artifacts goes beyond 1024 MiB or 100000 files and was not copied"


def test_no_chain_of_links_leads_to_what_is_expected_and_a_left_out_file_keeps_its_other_name(folder):
    folder.settings(
        '[verifier]\nenvironment_mode = "separate"', top='artifacts = [{ source = "/app", exclude = [".cache"] }]'
    )
    folder.write("tests/expected", "right\n")
    folder.judge('[ "$(cat /app/held)" = held ] && ! grep -q right /app/answer /app/whole && [ -L /app/answer ]')
    with folder.open() as sandbox:
        say(
            sandbox,
            "cd /app; ln -s . d; ln -s d/../tests/expected answer; ln -s /app e; ln -s /app/e/../tests/expected whole",
        )
        say(sandbox, "mkdir .cache; echo held > .cache/r; ln .cache/r held")
        assert reward(sandbox) == 1.0


def test_a_reward_of_the_agents_is_not_copied(folder):
    folder.settings(
        '[verifier]\nenvironment_mode = "separate"', top='artifacts = ["/logs", "/tests/own", "/logs/verifier"]'
    )
    folder.judge("[ -e /logs/agent/said ] && [ ! -e /tests/own ] && [ -z $(ls /logs/verifier) ] && false")
    with folder.open() as sandbox:
        say(sandbox, "touch /logs/agent/said; mkdir /tests; touch /tests/own")
        say(sandbox, """echo '{"reward": 1}' > /logs/verifier/reward.json""")
        verified = verify(sandbox, sandbox.task)
    assert verified.rewards == {"reward": 0.0}
    assert [note.partition(" was copied")[0] for note in verified.notes] == [
        "of the artifact /logs nothing in /logs/verifier",
        "of the artifact /tests/own nothing in /tests",
        "of the artifact /logs/verifier nothing in /logs/verifier",
    ]


def test_what_the_agent_removed_is_missing_for_the_verifier_too(folder):
    folder.dockerfile(
        "RUN mkdir -p /app/folder /app/volume && touch /app/file /app/folder/x /app/replaced /app/large /app/link",
        "RUN useradd dev && mkdir /own && touch /own/file && chown -R dev /own /app && chmod 755 /own",
        "VOLUME /app/volume",
        "RUN touch /app/volume/x",
    )
    paths = ("file", "folder", "replaced", "link", "volume", "large")
    listed = ", ".join(f'"{path}"' for path in ("/own/file", *(f"/app/{name}" for name in paths)))
    folder.settings('[agent]\nuser = "dev"\n[verifier]\nenvironment_mode = "separate"', top=f"artifacts = [{listed}]")
    folder.judge(
        'cd /app && [ "$(echo *)" = "replaced volume" ] && [ -d replaced ] && [ "$(echo volume/*)" = volume/y ] && '
        "[ ! -e /own/file ] && [ -d /logs/artifacts ]"
    )
    with folder.open() as sandbox:
        say(sandbox, "cd /app; rm -r file folder replaced volume/x link /own/file; mkdir replaced; touch volume/y")
        say(sandbox, "ln -s file link")
        say(sandbox, "truncate -s 1025M large")
        verified = verify(sandbox, sandbox.task)
    assert verified.rewards == {"reward": 1.0}
    assert len(verified.notes) == 5


# ------------------------------------------------------------------------------------------------ skills


def test_the_agent_is_told_of_the_skills_in_its_container(folder):
    folder.write("environment/skills/pdf/SKILL.md", "---\nname: pdf\ndescription: Read a PDF.\n---\n")
    folder.dockerfile("COPY skills /skills")
    folder.settings("", environment='skills_dir = "/skills"')
    with folder.open() as sandbox:
        words = skills_in_words(sandbox, sandbox.task.skills_dir)
        assert words.splitlines()[1:] == ["- pdf: Read a PDF. (/skills/pdf/SKILL.md)"]
        assert skills_in_words(sandbox, "/skills/pdf") == ""


CLOSED = {
    "none": ("true", "/none: there is no such folder; expected a folder that the agent (user 0) can read"),
    "file": ("touch file", "/file: there is no such folder"),
    "others": ("mkdir -m 700 others; chown 1000 others", "/others: it cannot be read"),
    "shut": ("mkdir -m 600 shut; chown 1000 shut", "/shut: it cannot be read"),
    "inner": ("mkdir -p inner/pdf; chmod 0 inner/pdf; chown 1000 inner/pdf", "/inner/pdf/ cannot be read"),
    "secret": (
        "mkdir -p secret/pdf; touch secret/pdf/SKILL.md; chmod 0 secret/pdf/SKILL.md; chown 1000 secret/pdf/SKILL.md",
        "/secret/pdf/SKILL.md cannot be read",
    ),
    "vast": ("mkdir -p vast/pdf; truncate -s 1G vast/pdf/SKILL.md", "/vast/pdf/SKILL.md"),
}
"""Folder of skills → what makes it, and what is said of it. Root in a sandbox is a user as any other."""


def test_skills_that_the_agent_cannot_read_are_the_tasks_fault(folder):
    folder.dockerfile(*(f"RUN {made}" for made, _ in CLOSED.values()))
    with folder.open() as sandbox:
        for name, (_, said) in CLOSED.items():
            with pytest.raises(EnvironmentFault, match=f"^environment.skills_dir is /{name}: ") as fault:
                skills_in_words(sandbox, f"/{name}")
            assert said in str(fault.value)


def test_the_check_of_a_task_finds_skills_that_its_agent_cannot_read(folder):
    folder.dockerfile(
        "RUN useradd bob && mkdir -p -m 755 /skills/pdf && touch /skills/pdf/SKILL.md && chmod 700 /skills"
    )
    checked = []
    for user in ("root", "bob"):
        folder.settings(f'[agent]\nuser = "{user}"', environment='skills_dir = "/skills"')
        checked += Checker(DockerProvider(), Scale(), jobs=1).check([load_task(folder.path)])
    assert [check.fault for check in checked] == ["", "its environment cannot be made"]
    assert checked[1].reason == (
        "its environment cannot be made: environment.skills_dir is /skills: it cannot be read; expected a folder that "
        "the agent (user 1000) can read"
    )


@pytest.mark.parametrize(
    ("test", "solution"),
    [
        (
            '#!/usr/bin/perl\nopen(F, ">/logs/verifier/reward.txt"); print F -s "/app/said" ? 1 : 0;\n',
            '#!/usr/bin/perl\nopen(F, ">/app/said"); print F $ENV{WORD};\n',
        ),
        (
            # Without a first line that names a program it is bash's.
            "[[ $(</app/said) == hi ]] && echo 1 > /logs/verifier/reward.txt\n",
            "words=(hi there); echo ${words[0]} > /app/said\n",
        ),
        (
            '#!/bin/sh\n[ -z "$BASH_VERSION" ] && [ -e /app/said ] && echo 1 > /logs/verifier/reward.txt\n',
            '#!/bin/sh\n[ -z "$BASH_VERSION" ] && echo hi > /app/said\n',
        ),
    ],
    ids=["perl", "nothing", "sh"],
)
def test_scripts_are_run_by_what_their_first_line_names(folder, test, solution):
    folder.dockerfile("WORKDIR /app")
    folder.settings('[solution.env]\nWORD = "hi"')
    folder.write("tests/test.sh", test)
    folder.write("solution/solve.sh", solution)
    for script in ("tests/test.sh", "solution/solve.sh"):
        (folder.path / script).chmod(0o644)
    with folder.open() as sandbox:
        assert solve(sandbox, sandbox.task, sandbox.task.steps[0]).exit_code == 0
        assert reward(sandbox) == 1.0
