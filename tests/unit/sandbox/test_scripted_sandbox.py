"""The fake keeps the contract of a sandbox, and does what its script says."""

from __future__ import annotations

import pytest
from support.sandbox_conformance import SCRIPT, SandboxConformance
from support.scripted_sandbox import ScriptedProvider, ScriptedSandbox

from capvec.errors import SandboxUnavailable
from capvec.records import CommandResult
from capvec.task_records import Task

pytestmark = pytest.mark.unit


class TestScriptedSandbox(SandboxConformance):
    @pytest.fixture
    def provider(self):
        return ScriptedProvider(SCRIPT)

    @pytest.fixture
    def task(self, tmp_path):
        return Task("t", tmp_path, "do it", "0")


def test_a_script_can_be_a_function_and_what_it_does_not_know_is_not_found():
    sandbox = ScriptedSandbox(lambda command: CommandResult(command.upper(), 0) if command.startswith("say ") else None)
    assert sandbox.run("say hi", timeout_s=1).output == "SAY HI"
    assert sandbox.run("shout hi", timeout_s=1).exit_code == 127


def test_a_scripted_exception_is_raised_and_what_was_run_is_on_record():
    sandbox = ScriptedSandbox({"boom": SandboxUnavailable("the engine is down")})
    with pytest.raises(SandboxUnavailable, match="the engine is down"):
        sandbox.run("boom", timeout_s=1)
    assert sandbox.commands == ["boom"]
