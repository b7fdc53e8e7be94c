"""The tests that every sandbox must pass.

To test a new sandbox, subclass `SandboxConformance` and define two fixtures: `provider`, a `SandboxProvider`, and
`task`, a `Task` that it can prepare. `SCRIPT` holds the answers of the scripted sandbox; a real one must give the
same.
"""

from __future__ import annotations

import pytest

from capvec.errors import SandboxUnavailable
from capvec.records import CommandResult
from capvec.sandbox.base import Budget, TakenBack
from capvec.task_records import Artifact

SCRIPT = {
    "echo hello": CommandResult("hello\n", 0),
    "echo out; echo err >&2; (exit 7)": CommandResult("out\nerr\n", 7),
    "cd /tmp": CommandResult("", 0),
    "pwd": CommandResult("/tmp\n", 0),
    "sleep 60": CommandResult("", None, timed_out=True),
    "exit 3": CommandResult("", 3, shell_restarted=True),
    "printf hello": CommandResult("hello", 0),
    "cat /given/sub/file": CommandResult("content", 0),
}


class SandboxConformance:
    """Tests of `capvec.sandbox.base`, with one sandbox for each test."""

    @pytest.fixture
    def sandbox(self, provider, task):
        provider.prepare(task)
        with provider.open(task, run="conformance", trial="t") as sandbox:
            yield sandbox

    def test_preparing_twice_gives_the_same_image(self, provider, task):
        assert provider.prepare(task) == provider.prepare(task) != ""

    def test_a_command_gives_its_output_and_exit_code(self, sandbox):
        result = sandbox.run("echo hello", timeout_s=10)
        assert (result.output, result.exit_code, result.timed_out) == ("hello\n", 0, False)

    def test_a_failing_command_is_a_result_with_both_streams_in_order(self, sandbox):
        result = sandbox.run("echo out; echo err >&2; (exit 7)", timeout_s=10)
        assert (result.output, result.exit_code) == ("out\nerr\n", 7)

    def test_a_command_that_does_not_exist_is_a_result_too(self, sandbox):
        result = sandbox.run("no-such-command", timeout_s=10)
        assert result.exit_code == 127
        assert "command not found" in result.output

    def test_the_shell_keeps_its_directory(self, sandbox):
        sandbox.run("cd /tmp", timeout_s=10)
        assert sandbox.run("pwd", timeout_s=10).output == "/tmp\n"

    def test_a_command_that_runs_too_long_has_no_exit_code(self, sandbox):
        result = sandbox.run("sleep 60", timeout_s=1)
        assert (result.timed_out, result.exit_code) == (True, None)
        assert sandbox.run("echo hello", timeout_s=10).output == "hello\n"

    def test_a_shell_that_ends_says_so_and_is_replaced(self, sandbox):
        result = sandbox.run("exit 3", timeout_s=10)
        assert (result.exit_code, result.shell_restarted) == (3, True)
        assert sandbox.run("echo hello", timeout_s=10).output == "hello\n"

    def test_a_program_runs_beside_the_shell(self, sandbox):
        result = sandbox.execute(("printf", "hello"), timeout_s=10)
        assert (result.output, result.exit_code) == ("hello", 0)

    def test_a_sandbox_that_was_taken_back_runs_programs_and_had_nothing_to_put_back(self, sandbox):
        sandbox.run("echo hello", timeout_s=10)
        assert sandbox.take_back() == TakenBack()
        assert sandbox.execute(("printf", "hello"), timeout_s=10).output == "hello"

    def test_what_is_uploaded_can_be_read_and_used(self, sandbox, tmp_path):
        (tmp_path / "sub").mkdir()
        (tmp_path / "sub" / "file").write_bytes(b"content")
        sandbox.upload(tmp_path, "/given")
        assert sandbox.read("/given/sub/file") == b"content"
        assert sandbox.run("cat /given/sub/file", timeout_s=10).output == "content"

    def test_a_file_that_is_not_there_reads_as_none(self, sandbox):
        assert sandbox.read("/nowhere/at/all") is None

    def test_what_is_taken_from_one_sandbox_can_be_placed_in_another(self, provider, task, sandbox, tmp_path):
        (tmp_path / "sub").mkdir()
        (tmp_path / "sub" / "file").write_bytes(b"content")
        (tmp_path / "sub" / "left.log").write_bytes(b"out")
        sandbox.upload(tmp_path, "/made")
        archive = sandbox.take(Artifact("/made", exclude=("*.log",)), Budget())
        with provider.open(task, run="conformance", trial="other") as other:
            other.upload(tmp_path, "/made/before")
            other.make_room(["/made"])
            with archive:
                other.place([("/made", archive)])
            assert other.read("/made/before/sub/file") is None
            assert other.read("/made/sub/file") == b"content"
            assert other.read("/made/sub/left.log") is None
        assert sandbox.take(Artifact("/nowhere"), Budget()) is None
        assert sandbox.take(Artifact("/made"), Budget(bytes_left=5)) is None

    def test_folders_are_emptied_and_what_was_written_outlives_a_stop(self, sandbox, tmp_path):
        (tmp_path / "file").write_bytes(b"content")
        for folder in ("/logs/artifacts", "/kept"):
            sandbox.upload(tmp_path, folder)
        sandbox.empty(["/logs/artifacts", "/logs/new"])
        sandbox.stop()
        assert sandbox.read("/logs/artifacts/file") is None
        assert sandbox.read("/kept/file") == b"content"

    def test_after_its_context_a_sandbox_is_unavailable(self, provider, task):
        with provider.open(task, run="conformance", trial="t") as sandbox:
            sandbox.run("echo hello", timeout_s=10)
        for use in (
            lambda: sandbox.run("echo hello", timeout_s=10),
            lambda: sandbox.execute(("printf", "hello"), timeout_s=10),
            lambda: sandbox.read("/etc/passwd"),
            sandbox.take_back,
        ):
            with pytest.raises(SandboxUnavailable):
                use()
