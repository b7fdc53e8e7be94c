"""The Docker sandbox where it differs from any other: hardening, timeouts, the persistent shell, and cleaning up."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from support.real_sweeps import containers
from support.sandbox_conformance import SandboxConformance

from capvec.errors import FileTooLarge, SandboxBroken, SandboxUnavailable, UsageError
from capvec.sandbox import root_work
from capvec.sandbox.base import LOG_FOLDERS
from capvec.sandbox.docker import DockerProvider
from capvec.sandbox.docker_host import check_docker, connect
from capvec.sandbox.files import READ_LIMIT
from capvec.sandbox.reaper import RUN_LABEL, TRIAL_LABEL, reap
from capvec.sandbox.verifier import verify
from capvec.task_records import Environment, Limits, Task

pytestmark = pytest.mark.integration
RUN = f"test-sandbox-{os.getpid()}"


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    folder = tmp_path_factory.mktemp("task")
    (folder / "environment").mkdir()
    (folder / "environment" / "Dockerfile").write_text("FROM debian:bookworm-slim\nWORKDIR /app\nENV GREETING=hello\n")
    return Task(
        "plain",
        folder,
        "do it",
        "0",
        environment=Environment(limits=Limits(memory_mb=128, pids=64), env={"FROM_TASK": "yes"}),
    )


@pytest.fixture(scope="module")
def shared(task):
    with DockerProvider().open(task, run=RUN, trial="shared") as sandbox:
        yield sandbox


@pytest.fixture
def fresh(task):
    with DockerProvider().open(task, run=RUN, trial="fresh") as sandbox:
        yield sandbox


def with_limits(task, **limits):
    """The task with other limits."""
    environment = task.environment
    return replace(task, environment=replace(environment, limits=replace(environment.limits, **limits)))


def say(sandbox, command, timeout_s=10):
    return sandbox.run(command, timeout_s=timeout_s).output.strip()


def test_the_containers_own_processes_are_told_from_what_runs_beside_them(shared):
    say(shared, "sleep 60 &")
    keepers = shared.processes.find_keepers()
    assert keepers == shared.processes.keepers
    init, child = keepers.pids.split()
    assert init == "1"
    assert say(shared, f"tr '\\0' ' ' < /proc/{child}/cmdline") == "sleep infinity"


def test_an_agent_that_is_nobody_has_no_access_to_the_containers_own_processes(fresh):
    fresh.enter(user="nobody", network=None)
    listed = say(fresh, "echo own >&2; cat /proc/1/environ; kill -9 -1; echo $?").splitlines()
    assert listed == ["own", "cat: /proc/1/environ: Permission denied", "0"]
    assert not fresh.processes.restarted


class TestDockerSandbox(SandboxConformance):
    @pytest.fixture
    def provider(self):
        return DockerProvider()


# ------------------------------------------------------------------------------------------------ the shell


def test_directory_variables_and_functions_survive(shared):
    say(shared, "cd /tmp; X='a b'; export Y=2; f() { echo called $1; }")
    assert say(shared, 'echo "$PWD $X $Y"; f now; cd /app') == "/tmp a b 2\ncalled now"


def test_output_keeps_the_order_of_stdout_and_stderr_and_the_exit_code_is_the_commands(shared):
    result = shared.run("echo one; echo two >&2; echo three; (exit 7)", timeout_s=10)
    assert (result.output, result.exit_code) == ("one\ntwo\nthree\n", 7)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("printf 'no newline'", "no newline"),
        ("cat <<'EOF'\nit's \"quoted\" $HOME\nEOF", 'it\'s "quoted" $HOME'),
        ("echo $((1+1)) # a comment", "2"),
        ("cat", ""),
        ("exec >/dev/null; echo gone", ""),
        ("printf '\\377\\n'", "\ufffd"),
        ("echo nul\0byte", "nulbyte"),
        ("echo half \ud800", "half ?"),
        ("", ""),
    ],
)
def test_commands_of_every_kind_come_through_and_leave_the_shell_usable(shared, command, said):
    assert say(shared, command) == said
    assert say(shared, "echo still here") == "still here"


def test_a_syntax_error_is_an_output_and_the_shell_goes_on(shared):
    result = shared.run("if then fi (", timeout_s=10)
    assert result.exit_code not in {0, None}
    assert "syntax error" in result.output
    assert not result.shell_restarted
    assert say(shared, "echo fine") == "fine"


def test_exit_gives_its_code_and_a_new_shell_in_the_same_directory(fresh):
    result = fresh.run("mkdir -p /tmp/here; cd /tmp/here; X=1", timeout_s=10)
    result = fresh.run("echo bye; exit 3", timeout_s=10)
    assert (result.output, result.exit_code, result.shell_restarted) == ("bye\n", 3, True)
    assert say(fresh, 'echo "$PWD [$X]"') == "/tmp/here []"


def test_a_deleted_working_directory_does_not_lose_the_sandbox(fresh):
    say(fresh, "mkdir /tmp/gone; cd /tmp/gone; rmdir /tmp/gone")
    assert fresh.run("exit 1", timeout_s=10).shell_restarted
    assert say(fresh, "echo alive") == "alive"


def test_a_broken_path_can_be_mended(fresh):
    say(fresh, "export PATH=/nowhere")
    assert fresh.run("ls", timeout_s=10).exit_code == 127
    assert say(fresh, "export PATH=/usr/bin; ls -d /app") == "/app"


def test_tracing_shows_the_agents_commands_and_none_of_ours(fresh):
    fresh.run("set -xv", timeout_s=10)
    assert "capvec-" not in fresh.run("echo a", timeout_s=10).output + fresh.run("echo b", timeout_s=10).output


def test_a_shell_that_was_killed_between_commands_is_replaced_and_the_command_runs(fresh):
    say(fresh, "cd /tmp; (sleep 0.2; kill -9 $$) >/dev/null 2>&1 &")
    time.sleep(1)
    result = fresh.run("pwd", timeout_s=10)
    assert (result.output, result.exit_code, result.shell_restarted) == ("/tmp\n", 0, True)


def test_an_image_without_bash_gets_a_plain_shell(tmp_path):
    environment = tmp_path / "environment"
    (environment / "only").mkdir(parents=True)
    for name, target in {"sh": "dash", "sleep": "sleep"}.items():
        (environment / "only" / name).symlink_to(f"/usr/bin/{target}")
    (environment / "Dockerfile").write_text("FROM debian:bookworm-slim\nCOPY only /only\nENV PATH=/only\n")
    with DockerProvider().open(Task("bashless", tmp_path, "x", "0"), run=RUN, trial="bashless") as sandbox:
        assert say(sandbox, "cd /tmp; X=1; f() { echo [$1]; }; echo ${BASH_VERSION:-none}") == "none"
        assert say(sandbox, "f $X; pwd") == "[1]\n/tmp"
        assert sandbox.run("sleep 60", timeout_s=1).timed_out
        assert sandbox.run("exit 3", timeout_s=10).exit_code == 3
        assert say(sandbox, "pwd") == "/tmp"


SILENT_ONCE = """#!/bin/bash
place=/proc/1/root/tmp
[ -d $place ] || place=/tmp
mkdir "$place/asked-$#" 2>/dev/null && exit
exec /bin/dash "$@"
"""


def test_what_docker_lost_of_a_programs_output_is_asked_for_again(tmp_path):
    """On busy cores Docker lets go of what a program printed, as if it had printed nothing."""
    environment = tmp_path / "environment"
    environment.mkdir()
    (environment / "once").write_text(SILENT_ONCE)
    lines = ("FROM debian:bookworm-slim", "COPY once /usr/bin/", "RUN cd /usr/bin; chmod 755 once; ln -sf once sh", "")
    (environment / "Dockerfile").write_text("\n".join(lines))
    with DockerProvider().open(Task("silent", tmp_path, "x", "0"), run=RUN, trial="silent") as sandbox:
        asked = say(sandbox, "ls /tmp").splitlines()
        assert asked == ["asked-2", "asked-3"]  # the list of processes, and the shell
        assert sandbox.take_back().restored == ()
        assert len(say(sandbox, "ls /tmp").splitlines()) == len(asked) + 1


def test_a_background_process_does_not_hold_the_command_up(fresh):
    started = time.monotonic()
    assert say(fresh, "sleep 60 & echo started") == "started"
    assert time.monotonic() - started < 5


def test_long_output_is_capped_head_and_tail_and_says_how_much_is_missing(shared):
    result = shared.run("seq 1 100000", timeout_s=20)
    # 1 to 100000, one a line: 9·2 + 90·3 + 900·4 + 9000·5 + 90000·6 + 7 bytes.
    assert result.dropped_bytes == 588895 - 8192
    assert result.output.startswith("1\n2\n3\n")
    assert result.output.endswith("\n99999\n100000\n")
    assert f"{result.dropped_bytes} bytes left out" in result.output


# ------------------------------------------------------------------------------------------------ timeouts


@pytest.mark.parametrize(
    "command",
    [
        "sleep 987",
        "for i in 1 2 3 4 5; do sleep 987; done",
        "trap '' TERM INT HUP; sleep 987",
        "(setsid sleep 987 &) ; sleep 987",
        "yes",
        "while :; do :; done",
    ],
)
def test_a_timed_out_command_is_dead_inside_the_container_and_the_next_one_runs(fresh, command):
    say(fresh, "cd /tmp")
    result = fresh.run(command, timeout_s=1)
    assert result.timed_out
    assert result.exit_code is None
    left = fresh.execute(("sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"), timeout_s=10).output
    assert "987" not in left
    assert "yes" not in left
    assert say(fresh, "pwd") == "/tmp"


def test_a_shell_that_will_not_end_its_loop_is_replaced_and_does_nothing_more(fresh):
    assert fresh.run("cd /tmp; while :; do echo x > /tmp/beat; done", timeout_s=1).shell_restarted
    fresh.execute(("rm", "/tmp/beat"), timeout_s=10)
    time.sleep(0.3)
    assert fresh.read("/tmp/beat") is None


def test_output_before_the_timeout_is_kept(fresh):
    result = fresh.run("echo before; sleep 100", timeout_s=1)
    assert result.output.startswith("before\n")


def test_a_program_of_the_verifier_is_bounded_too(fresh):
    started = time.monotonic()
    result = fresh.execute(("sh", "-c", "echo begun; sleep 987"), timeout_s=1)
    assert (result.timed_out, result.exit_code, result.output) == (True, None, "begun\n")
    assert time.monotonic() - started < 15


def test_a_program_is_over_when_it_ends_though_it_left_a_child_with_its_output(fresh):
    result = fresh.execute(("sh", "-c", "sleep 60 & echo done"), timeout_s=30)
    assert (result.output, result.exit_code, result.timed_out) == ("done\n", 0, False)
    assert result.duration_s < 15


def test_a_program_runs_in_the_images_directory_or_in_the_root_where_that_is_gone(fresh):
    # Verifiers of Harbor tasks refuse to run in / ("No working directory set").
    assert fresh.execute(("pwd",), timeout_s=10).output == "/app\n"
    say(fresh, "rm -r /app")
    assert fresh.execute(("pwd",), timeout_s=10).output == "/\n"
    assert fresh.execute(("no-such-program",), timeout_s=10).exit_code == 127


def test_stopping_the_agent_works_where_no_further_process_may_start(fresh):
    # 64 processes are allowed, and these stay.
    fresh.run("for i in $(seq 100); do sleep 500 & done", timeout_s=2)
    fresh.run("for i in $(seq 61); do sleep 500 & done", timeout_s=5)
    fresh.take_back()
    left = fresh.execute(("sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"), timeout_s=10).output
    assert "sleep 500" not in left
    assert say(fresh, "ls -d /app") == "/app"


def test_a_process_that_became_another_user_is_ended_too_and_files_stay(task):
    needy = with_limits(task, cap_add=("SETUID", "SETGID"))
    with DockerProvider().open(needy, run=RUN, trial="setuid") as sandbox:
        say(sandbox, "echo kept > /app/file; setpriv --reuid=1000 --regid=1000 --clear-groups sleep 987 &")
        everything = ("sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
        assert "sleep 987" in sandbox.execute(everything, timeout_s=10).output
        sandbox.take_back()
        assert "sleep 987" not in sandbox.execute(everything, timeout_s=10).output
        assert sandbox.read("/app/file") == b"kept\n"
        assert say(sandbox, "echo alive") == "alive"


def test_stopping_the_agent_ends_what_it_left_running(fresh):
    say(fresh, "(while :; do echo x >> /tmp/log; sleep 0.01; done) >/dev/null 2>&1 &")
    fresh.take_back()
    size = fresh.execute(("stat", "-c", "%s", "/tmp/log"), timeout_s=10).output
    time.sleep(0.3)
    assert fresh.execute(("stat", "-c", "%s", "/tmp/log"), timeout_s=10).output == size
    assert say(fresh, "echo again") == "again"


# ------------------------------------------------------------------------------------------------ hardening


def test_no_capabilities_no_new_privileges_and_no_network(shared):
    status = dict(line.split(":\t", 1) for line in say(shared, "cat /proc/self/status").splitlines() if ":\t" in line)
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
    assert status["NoNewPrivs"].strip() == "1"
    assert say(shared, "ls /sys/class/net") == "lo"


def test_a_needed_capability_can_be_added_back(task):
    needy = with_limits(task, cap_add=("CHOWN",))
    with DockerProvider().open(needy, run=RUN, trial="cap") as sandbox:
        status = say(sandbox, "grep CapEff /proc/self/status")
    assert int(status.split()[1], 16) == 1  # CAP_CHOWN is bit 0


def test_a_fork_bomb_meets_its_limit_and_the_sandbox_survives(fresh):
    fresh.run("b() { b | b & }; b", timeout_s=2)
    fresh.take_back()
    assert say(fresh, "echo alive", timeout_s=20) == "alive"


@pytest.mark.parametrize(
    "command", ["kill -9 -1", "kill 1", "kill -9 $(grep -l ^sleep /proc/[0-9]*/cmdline | tr -dc '0-9\\n')"]
)
def test_an_agent_cannot_end_its_own_sandbox(fresh, command):
    fresh.run(command, timeout_s=10)
    assert say(fresh, "echo alive") == "alive"


def test_more_cpus_than_the_engine_has_are_all_of_them(task):
    greedy = with_limits(task, cpus=4096.0)
    with DockerProvider().open(greedy, run=RUN, trial="cpus") as sandbox:
        assert say(sandbox, "echo runs") == "runs"


def test_memory_is_limited(fresh):
    result = fresh.run("head -c 400m /dev/zero | tail -c 400m | wc -c", timeout_s=30)
    assert result.output.strip() != str(400 * 2**20)
    assert say(fresh, "echo alive") == "alive"


def test_an_init_process_reaps_orphans(shared):
    assert "init" in say(shared, "cat /proc/1/comm")


def test_the_environment_is_the_images_and_the_tasks(shared):
    assert say(shared, 'echo "$GREETING $FROM_TASK"') == "hello yes"


# ------------------------------------------------------------------------------------------------ files


def test_uploads_keep_executable_bits_and_reads_give_bytes_or_none(shared, tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "run.sh").write_text("#!/bin/sh\necho ran\n")
    (tmp_path / "sub" / "run.sh").chmod(0o755)
    (tmp_path / "data").write_bytes(b"\x00\xff")
    shared.upload(tmp_path, "/new/place")
    assert say(shared, "/new/place/sub/run.sh") == "ran"
    assert shared.read("/new/place/data") == b"\x00\xff"
    assert shared.read("/new/place/missing") is None
    assert shared.read("/new/place/sub") is None


@pytest.mark.parametrize(
    ("made", "kept"),
    [
        ("mkdir -m 1777 /tmp/w1", "0:0 1777"),
        ("mkdir /tmp/own; chown 1000 /tmp/own; chmod 2775 /tmp/own; ln -s own /tmp/w1", "1000:0 2775"),
        ("true", "0:0 755"),
        ("touch /tmp/w1", "0:0 755"),
        ("ln -s nowhere /tmp/w1", "0:0 755"),
    ],
)
def test_a_folder_that_is_there_keeps_its_owner_and_mode_when_files_are_put_into_it(task, tmp_path, made, kept):
    (tmp_path / "note").write_text("n")
    with DockerProvider(capabilities="default").open(task, run=RUN, trial="owned") as sandbox:
        sandbox.run(made, timeout_s=10)
        sandbox.upload(tmp_path, "/tmp/w1")
        assert say(sandbox, "stat -Lc '%u:%g %a' /tmp/w1; stat -c '%u:%g %a' /tmp/w1/note") == f"{kept}\n0:0 644"


def test_only_regular_files_of_a_sensible_size_are_read(shared):
    shared.run(f"cd /tmp; ln -s /etc/passwd link; mkfifo pipe; head -c {READ_LIMIT} /dev/zero > fits", timeout_s=10)
    shared.run("cd /tmp; cp fits large; echo >> large", timeout_s=10)
    for path in ("/tmp/link", "/tmp/pipe", "/dev/zero", "/usr", "/etc/passwd/below"):
        assert shared.read(path) is None
    assert len(shared.read("/tmp/fits")) == READ_LIMIT
    with pytest.raises(FileTooLarge, match=f"{READ_LIMIT + 1} bytes"):
        shared.read("/tmp/large")


def test_a_file_that_changes_its_size_all_the_time_is_read_as_it_was_at_one_moment(fresh):
    fresh.run("(while :; do truncate -s 900000 /tmp/f; truncate -s 9 /tmp/f; done) >/dev/null 2>&1 &", timeout_s=10)
    assert {len(fresh.read("/tmp/f") or b"") for _ in range(12)} <= {0, 9, 900_000}


def test_a_planted_reward_is_not_believed_however_it_is_kept(fresh, task, tmp_path):
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test.sh").write_text("[ ! -e /tests/helper ] && echo 0 > /logs/verifier/reward.txt\n")
    plant = (
        "mkdir -p /logs/verifier /tests; cd /logs/verifier; echo 1 > reward.txt; echo '{\"reward\": 1}' > reward.json"
    )
    fresh.run(f"{plant}; touch /tests/helper; chmod 444 *; chmod 555 . /logs /tests /", timeout_s=10)
    assert verify(fresh, replace(task, path=tmp_path)).rewards == {"reward": 0.0}


# ------------------------------------------------------------------------------------------------ cleaning up


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_container_is_gone_however_the_trial_ends(task, error):
    run = f"{RUN}-{error.__name__}"

    def trial():
        with DockerProvider().open(task, run=run, trial="t"):
            assert len(containers(run)) == 1
            raise error

    with pytest.raises(error):
        trial()
    assert containers(run) == []


# ------------------------------------------------------------------------------------------------ what goes wrong


def test_a_docker_that_does_not_answer_is_reported_in_one_line_with_a_remedy(monkeypatch):
    # Not a missing socket file: for that the SDK leaves a socket open, which a later test would be blamed for.
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    with pytest.raises(SandboxUnavailable, match=r"tcp://127\.0\.0\.1:1 .*capvec doctor") as caught:
        check_docker()
    assert "\n" not in str(caught.value)


def test_a_missing_socket_is_reported_without_a_traceback():
    # In a process of its own: the SDK leaves a socket open here, which a later test would be blamed for.
    script = (
        "from capvec.sandbox.docker_host import check_docker\n"
        "try: check_docker()\nexcept Exception as e: print(type(e).__name__, e)"
    )
    environment = os.environ | {"DOCKER_HOST": "unix:///nonexistent"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("SandboxUnavailable ")
    assert "unix:///nonexistent (" in done.stdout
    assert "make setup" in done.stdout


def test_a_container_that_was_removed_is_unavailable_and_not_a_failed_command(task):
    with DockerProvider().open(task, run=f"{RUN}-gone", trial="t") as sandbox:
        reap(f"{RUN}-gone")
        for use in (
            lambda: sandbox.run("true", timeout_s=5),
            lambda: sandbox.execute(("true",), timeout_s=5),
            lambda: sandbox.read("/etc/passwd"),
            sandbox.take_back,
        ):
            with pytest.raises(SandboxUnavailable):
                use()


def test_a_dockerfile_that_does_not_build_is_the_users_error_with_the_log(tmp_path):
    (tmp_path / "environment").mkdir()
    (tmp_path / "environment" / "Dockerfile").write_text("FROM debian:bookworm-slim\nRUN echo doomed && exit 5\n")
    with pytest.raises(UsageError, match=r"(?s)task broken: .*Dockerfile does not build.*doomed"):
        DockerProvider().prepare(Task("broken", tmp_path, "x", "0"))


def test_a_base_image_that_is_nowhere_is_the_users_error(tmp_path):
    (tmp_path / "environment").mkdir()
    (tmp_path / "environment" / "Dockerfile").write_text("FROM capvec.invalid/no/such:image\n")
    with pytest.raises(UsageError, match="base image is missing: `docker pull`") as refused:
        DockerProvider().prepare(Task("baseless", tmp_path, "x", "0"))
    assert str(refused.value).count("/manifests/image") == 1  # the cause, which BuildKit repeats


def test_an_image_is_built_once_and_again_when_its_files_change(tmp_path):
    (tmp_path / "environment").mkdir()
    dockerfile = tmp_path / "environment" / "Dockerfile"
    dockerfile.write_text("FROM debian:bookworm-slim\n")
    task = Task("changing", tmp_path, "x", "0")
    first = DockerProvider().prepare(task)
    assert DockerProvider().prepare(task) == first
    dockerfile.write_text("FROM debian:bookworm-slim\nENV CHANGED=1\n")
    assert DockerProvider().prepare(task) != first


def test_an_image_name_that_is_none_is_the_users_error_and_any_task_name_can_be_built(task):
    with pytest.raises(UsageError, match=r"'Not One'.*expected one such as"):
        DockerProvider().prepare(replace(task, environment=Environment(image="Not One")))
    assert DockerProvider().prepare(replace(task, name="A._-b-")) == DockerProvider().prepare(task)


# ------------------------------------------------------------------------------------------------ the work of root

STOPS_ROOT = """while :; do
  for at in /proc/[0-9]*; do
    read -r line 2>/dev/null < $at/cmdline
    case $line in *"set -eu" | */proc/1/root*) kill -STOP ${at#/proc/};; esac
  done
done"""
"""Stops the process that acts as root for the instrument: it is the same user's."""


def test_no_process_of_the_agents_stops_what_acts_as_root_beside_it(fresh):
    say(fresh, f"echo of a step > /logs/agent/x; setsid bash -c {shlex.quote(STOPS_ROOT)} > /dev/null 2>&1 &")
    fresh.empty(LOG_FOLDERS)
    assert say(fresh, "ls -A /logs/agent") == ""


@pytest.mark.usefixtures("fresh")
def test_work_of_root_that_takes_too_long_while_docker_answers_is_what_the_agent_left(monkeypatch):
    monkeypatch.setattr(root_work, "LIMIT_S", 1.0)
    with connect() as client:
        (found,) = client.containers.list(filters={"label": [f"{RUN_LABEL}={RUN}", f"{TRIAL_LABEL}=fresh"]})
        origin = root_work.Origin.of(client, found.name)
        with pytest.raises(SandboxBroken, match=r"^it cannot be done within 1 s$"):
            root_work.work_as_root(client, found.name, origin, "sleep 60", (), what="it cannot be done")
