"""The verifier's run in a scripted sandbox: what it finds there, and what is a fault."""

from __future__ import annotations

import pytest
from support.scripted_sandbox import ScriptedSandbox

from capvec.errors import FileTooLarge, VerifierFault
from capvec.records import CommandResult
from capvec.sandbox.base import TakenBack
from capvec.sandbox.verifier import verify
from capvec.task_records import Task

pytestmark = pytest.mark.unit

RAN = {"bash -c /tests/test.sh": CommandResult("2 passed\n", 0)}


@pytest.fixture
def task(tmp_path):
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test.sh").write_text("true\n")
    return Task("t", tmp_path, "do it", "0")


def judged(task, script=None, **files):
    paths = {f"/logs/verifier/{name.replace('_', '.')}": content for name, content in files.items()}
    return verify(ScriptedSandbox(script or RAN, paths), task).rewards


def test_the_rewards_are_read_from_the_verifiers_folder(task):
    assert judged(task, reward_txt=b"1\n") == {"reward": 1.0}
    assert judged(task, reward_txt=b"1", reward_json=b'{"accuracy": 0.5, "speed": 0.25}') == {
        "accuracy": 0.5,
        "speed": 0.25,
    }


@pytest.mark.parametrize(
    ("files", "said"), [({}, "neither reward.json nor"), ({"reward_txt": b""}, "reward.txt holds nothing")]
)
def test_no_reward_is_a_fault_that_shows_what_the_verifier_printed(task, files, said):
    with pytest.raises(VerifierFault, match=rf"{said}.*exit code 0.*2 passed"):
        judged(task, **files)


def test_a_reward_that_is_too_large_to_read_is_a_fault_of_the_verifier(task):
    class Full(ScriptedSandbox):
        def read(self, path):
            raise FileTooLarge(f"{path} in the sandbox has 2000000 bytes")

    with pytest.raises(VerifierFault, match=r"reward\.json in the sandbox has 2000000 bytes; tests/test\.sh ended"):
        verify(Full(RAN), task)


@pytest.mark.parametrize("exit_code", [0, 1])
def test_what_the_verifier_wrote_into_files_is_read_unless_it_is_content(task, exit_code):
    def answer(command):
        if command == "bash -c /tests/test.sh":
            return CommandResult("", 0)
        assert command.endswith("sh /logs/verifier")
        return CommandResult("pytest: not found\n", exit_code)

    for low in (b"0.5", b"5"):  # of a scale that may go up to 100
        found = verify(ScriptedSandbox(answer, {"/logs/verifier/reward.txt": low}), task)
        assert found.logs == ("pytest: not found\n" if exit_code == 0 else "")
    assert verify(ScriptedSandbox(answer, {"/logs/verifier/reward.txt": b"1"}), task).logs == ""
    said = r"printed: nothing\nIts files in /logs/verifier end with: pytest" if exit_code == 0 else "printed: nothing$"
    with pytest.raises(VerifierFault, match=said):
        verify(ScriptedSandbox(answer), task)


def test_of_what_was_restored_only_the_first_names_are_kept():
    many = tuple(f"/usr/bin/{number}" for number in range(100_000))
    (note,) = TakenBack(restored=many).in_words()
    assert note.endswith("/usr/bin/19, and 99980 more")
    assert TakenBack(ended=("a", "b\nc")).in_words() == ("ended before the verifier ran: a, b c",)


def test_a_verifier_that_runs_out_of_time_is_a_fault_even_with_a_reward_on_disk(task):
    script = {"bash -c /tests/test.sh": CommandResult("thinking", None, timed_out=True)}
    with pytest.raises(VerifierFault, match=r"longer than .*600 s.*thinking"):
        judged(task, script, reward_txt=b"1")


def test_the_agent_is_stopped_and_its_logs_are_cleared_before_the_verifier_runs(task):
    sandbox = ScriptedSandbox(RAN, {"/logs/verifier/reward.txt": b"1"})
    verify(sandbox, task)
    assert sandbox.taken_back
    assert sandbox.commands == ["bash -c /tests/test.sh"]
