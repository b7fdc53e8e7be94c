"""Processes that outlive the agent's last command: servers that a verifier asks, and those that would deceive it."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.real_sweeps import no_container_is_left
from support.tasks import CLOSED, make_task

from capvec.commands.main import main
from capvec.plan.plan import Plan, Settings
from capvec.records import Config, Outcome, TrialSpec
from capvec.run.trial import TrialRunner
from capvec.sandbox.docker import DockerProvider
from capvec.sandbox.verifier import verify
from capvec.tasks.loader import load_task
from dev.agent.scripted_model import ScriptedModel

pytestmark = pytest.mark.integration
RUN = f"test-kept-{os.getpid()}"

SERVER = """#!/usr/bin/perl
use IO::Socket::INET; $| = 1;
my $listening = IO::Socket::INET->new(LocalAddr => "127.0.0.1:8000", Listen => 5, ReuseAddr => 1) or die "taken";
while (my $client = $listening->accept) {
  <$client>;
  print "served " . "." x 9000 . "\\n" or exit 1;
  print $client `cat /app/page`;
  close $client;
}
"""
"""Answers each request with /app/page, and logs it, as servers do; it ends where its log cannot be written."""
READY = "until (exec 3<>/dev/tcp/127.0.0.1/8000) 2>/dev/null; do sleep 0.1; done"
SERVE = f"echo hello > /app/page; /app/server & {READY}"
ASK = 'exec 3<>/dev/tcp/127.0.0.1/8000 && echo GET >&3 && [ "$(cat <&3)" = hello ]'
JUDGE = """reward=1
for i in 1 2 3 4 5 6 7 8 9 10; do
  ({ask}) || reward=0
done
echo $reward > /logs/verifier/reward.txt
"""


def write(parent: Path, *, solution: str = f"{SERVE}\n", toml: str = CLOSED) -> Path:
    """A task that asks for a server."""
    folder = make_task(parent, "serve", toml)
    (folder / "environment" / "server").write_text(SERVER)
    (folder / "environment" / "server").chmod(0o755)
    with (folder / "environment" / "Dockerfile").open("a") as file:
        file.write("COPY server /app/server\n")
    (folder / "tests" / "test.sh").write_text(JUDGE.format(ask=ASK))
    (folder / "solution" / "solve.sh").write_text(solution)
    return folder


@contextmanager
def opened(folder: Path, *, keep: bool):
    task, provider = load_task(folder), DockerProvider(keep_processes=keep)
    provider.prepare(task)
    with provider.open(task, run=RUN, trial="t") as sandbox:
        yield sandbox, task


def trial(folder: Path, *replies: str, keep: bool) -> Outcome:
    task = load_task(folder)
    spec, config = TrialSpec(task.name, "baseline", 1, 0), Config("baseline", "baseline")
    settings = Settings("m", "bash-block", "zero-shot", 4, 32, 0.7, keep_processes=keep)
    plan = Plan(RUN, folder.parent, (task,), (config,), (spec,), settings)
    outcome = TrialRunner(plan, ScriptedModel(list(replies)), DockerProvider.of(settings)).run(spec)
    assert no_container_is_left(RUN)
    return outcome


def act(command: str) -> str:
    return f"```bash\n{command}\n```"


def test_a_server_that_the_agent_leaves_running_answers_the_verifier_or_is_named_in_the_trials_note(tmp_path):
    folder = write(tmp_path)
    kept = trial(folder, act(SERVE), "DONE", keep=True)
    assert (kept.outcome, kept.error) == ("solved", "")
    ended = trial(folder, act(SERVE), "DONE", keep=False)
    assert ended.outcome == "unsolved"
    assert "ended before the verifier ran: server" in ended.note


def test_the_check_refuses_such_a_task_and_names_the_option_that_makes_it_fit(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CAPVEC_CACHE", str(tmp_path / "cache"))
    folder = write(tmp_path / "tasks")
    assert main(["check", str(folder)]) == 1
    said = capsys.readouterr().out
    assert "ended before the verifier ran: server" in said
    assert "with --keep-processes, which lets processes that it leaves running live on beside the verifier" in said
    assert main(["check", str(folder), "--keep-processes"]) == 0
    assert "1 of 1 task proved" in capsys.readouterr().out
    (proof,) = (tmp_path / "cache").rglob("checks/*.json")
    assert json.loads(proof.read_text())["solution"]["solved"]


def test_the_check_does_not_name_the_option_where_it_would_not_help(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CAPVEC_CACHE", str(tmp_path / "cache"))
    folder = write(tmp_path / "tasks", solution="sleep 600 &\n")
    assert main(["check", str(folder)]) == 1
    said = capsys.readouterr().out
    assert "ended before the verifier ran: sleep" in said
    assert "--keep-processes" not in said


CHEAT = "(while :; do echo 1 > /app/mine; mv /app/mine /logs/verifier/reward.txt; done) > /dev/null 2>&1 &"


def test_a_process_that_writes_its_own_reward_while_the_verifier_runs_is_stopped_without_the_option_only(tmp_path):
    folder = write(tmp_path)
    (folder / "tests" / "test.sh").write_text("echo 0 > /logs/verifier/reward.txt; sleep 1\n")
    for keep, reward in ((False, 0.0), (True, 1.0)):
        with opened(folder, keep=keep) as (sandbox, task):
            sandbox.run(CHEAT, timeout_s=10)
            assert verify(sandbox, task).rewards == {"reward": reward}


def test_what_else_protects_the_verifier_stays_with_the_option(tmp_path):
    folder = write(tmp_path)
    with opened(folder, keep=True) as (sandbox, task):
        sandbox.run(SERVE, timeout_s=10)
        fake = "printf '#!/bin/sh\\necho 1 > /logs/verifier/reward.txt\\n' > /usr/local/bin/bash"
        sandbox.run(f"{fake}; chmod 755 /usr/local/bin/bash; mkdir /tests; echo x > /tests/mine", timeout_s=10)
        sandbox.run("echo 1 > /logs/verifier/reward.txt", timeout_s=10)
        taken = sandbox.take_back()
        assert taken.restored == ("/usr/local/bin/bash",)
        assert taken.ended == ()
        assert sandbox.read("/tests/mine") is sandbox.read("/logs/verifier/reward.txt") is None
        assert verify(sandbox, task).rewards == {"reward": 1.0}  # the server's, which lives


def test_a_changed_dev_costs_the_processes_and_the_note_says_so(tmp_path):
    folder = write(tmp_path)
    with opened(folder, keep=True) as (sandbox, task):
        sandbox.run(f"{SERVE}; rm /dev/null; echo 1 > /dev/null", timeout_s=10)
        verified = verify(sandbox, task)
    assert verified.rewards == {"reward": 0.0}
    assert any("only a restart restores /dev" in note for note in verified.notes)


def test_a_verifier_that_runs_out_of_time_ends_and_the_server_lives_on(tmp_path):
    with opened(write(tmp_path), keep=True) as (sandbox, _):
        sandbox.run(SERVE, timeout_s=10)
        sandbox.take_back()
        hanging = sandbox.execute(("bash", "-c", "sleep 543 & sleep 543"), timeout_s=1)
        assert hanging.timed_out
        assert sandbox.execute(("bash", "-c", ASK), timeout_s=10).exit_code == 0
        assert "sleep 543" not in sandbox.execute(ALL, timeout_s=10).output


ALL = ("sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
STEPS = f"""{CLOSED}
[[steps]]
name = "serve"
[[steps]]
name = "change"
"""


def test_a_server_of_one_step_serves_in_the_next_one(tmp_path):
    folder = write(tmp_path, toml=STEPS)
    (folder / "tests" / "test.sh").unlink()
    for name, page in (("serve", "hello"), ("change", "changed")):
        (folder / "steps" / name / "tests").mkdir(parents=True)
        (folder / "steps" / name / "instruction.md").write_text("Serve.\n")
        (folder / "steps" / name / "tests" / "test.sh").write_text(JUDGE.format(ask=ASK.replace("hello", page)))
    replies = (act(SERVE), "DONE", act("echo changed > /app/page"), "DONE")
    assert trial(folder, *replies, keep=True).rewards == {"reward": 1.0}
    assert trial(folder, *replies, keep=False).rewards == {"reward": 0.0}


# -------------------------------------------------------------------------------------------- within an episode


def test_a_background_job_survives_a_later_command_that_runs_out_of_time(tmp_path):
    with opened(write(tmp_path), keep=False) as (sandbox, _):
        sandbox.run(SERVE, timeout_s=10)
        late = sandbox.run("sleep 543 & (setsid sleep 543 &); sleep 543", timeout_s=1)
        assert late.timed_out
        assert not late.shell_restarted
        again = sandbox.run(ASK, timeout_s=10)
        assert again.exit_code == 0, again
        assert "sleep 543" not in sandbox.execute(ALL, timeout_s=10).output
