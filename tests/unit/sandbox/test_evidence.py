"""In which order an attempt's evidence is saved, and what is told of commands that failed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.scripted_sandbox import ScriptedSandbox

from capvec.records import CommandResult
from capvec.sandbox.evidence import saved
from capvec.sandbox.verifier import verify
from capvec.task_records import Artifact, Collect, Environment, Task, TaskStep, Verifier

pytestmark = pytest.mark.unit
HOOKS = (Collect("dump", "db"), Collect("save"))
APART = Verifier(collect=HOOKS, environment=Environment())
DONE = CommandResult("", 0)


def save(step, *others, script=lambda _command: DONE, renew=False):
    """The commands that ran, shortened, and the evidence's notes and failures."""
    task = Task("t", None, "x", "0", several=(step, *others))
    sandbox = ScriptedSandbox(script, {"/out/x": b"1"})
    with saved(sandbox, task, step) as evidence:
        if renew:
            evidence.renew()
        return [command.rpartition(" ")[2] for command in sandbox.commands], evidence.notes, evidence.failed


def test_the_agents_container_comes_first_and_is_stopped_before_a_service_is_asked():
    assert save(TaskStep("a", "x", verifier=APART))[0] == ["save", "retire", "stop", "dump"]


def test_it_is_not_stopped_where_it_is_needed_again_or_no_service_is_asked():
    step = TaskStep("a", "x", verifier=APART)
    assert save(step, TaskStep("b", "x"))[0] == ["save", "dump"]
    assert save(replace(step, verifier=replace(APART, environment=None)))[0] == ["save", "dump"]
    assert save(replace(step, verifier=replace(APART, collect=HOOKS[1:])))[0] == ["save", "retire"]


def test_artifacts_of_a_service_alone_stop_it():
    step = TaskStep("a", "x", verifier=replace(APART, collect=()), artifacts=(Artifact("/out", service="db"),))
    commands, notes, failed = save(step)
    assert (commands, notes, failed) == (["retire", "stop"], (), ())
    assert save(replace(step, verifier=Verifier()))[0] == []


def test_only_commands_beside_the_agents_container_are_asked_again_and_only_where_one_failed():
    step = TaskStep("a", "x", verifier=APART)
    answers = iter([CommandResult("busy", 1), DONE])

    def fails_once(command):
        return next(answers) if "dump" in command else DONE

    assert save(step, script=fails_once, renew=True) == (["save", "retire", "stop", "dump", "dump"], (), ())
    assert save(step, renew=True)[0] == ["save", "retire", "stop", "dump"]
    commands, (note,), failed = save(
        step, script=lambda command: CommandResult("no", 2) if "save" in command else DONE, renew=True
    )
    assert (commands, failed) == (["save", "retire", "stop", "dump"], ())
    assert "'save' in the service main ended with exit code 2 and printed at last: no, so" in note


def test_what_a_command_printed_is_told_on_one_line_without_control_characters():
    said = "".join(f"line {number}\n" for number in range(9)) + "\x1b[31mred\x1b[0m\n"
    _, (note,), failed = save(
        TaskStep("a", "x", verifier=replace(APART, collect=HOOKS[:1])), script=lambda _command: CommandResult(said, 9)
    )
    assert "'dump' in the service db ended with exit code 9 and printed at last: line 5 / line 6 / line 7 / " in note
    assert failed == (note,)
    assert note.isprintable()


def test_the_verdict_names_the_commands_that_failed(tmp_path):
    step = TaskStep("", "x", verifier=replace(APART, tests=()))
    task = Task("t", tmp_path, "x", "0", verifier=step.verifier)
    sandbox = ScriptedSandbox(
        lambda command: CommandResult("", None, timed_out=True) if "dump" in command else DONE,
        {"/logs/verifier/reward.txt": b"0"},
    )
    verified = verify(sandbox, task)
    assert verified.failed == verified.notes
    assert "'dump' in the service db ran longer than its timeout_sec, 60 s, and printed nothing" in verified.notes[0]
