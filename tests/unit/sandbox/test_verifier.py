"""The verifier's word, read from a scripted sandbox: what is a reward, and what is a fault."""

from __future__ import annotations

import pytest
from support.scripted_sandbox import ScriptedSandbox

from capvec.errors import VerifierFault
from capvec.records import CommandResult, Task
from capvec.sandbox.verifier import CLEAR, verify

pytestmark = pytest.mark.unit

CLEARED = {f"sh -c {CLEAR}": CommandResult("", 0)}
RAN = CLEARED | {"bash /tests/test.sh": CommandResult("2 passed\n", 0)}


@pytest.fixture
def task(tmp_path):
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test.sh").write_text("true\n")
    return Task("t", tmp_path, "do it", "0")


def judged(task, script=None, **files):
    paths = {f"/logs/verifier/{name.replace('_', '.')}": content for name, content in files.items()}
    return verify(ScriptedSandbox(script or RAN, paths), task)


@pytest.mark.parametrize(
    ("files", "reward"),
    [
        ({"reward_txt": b"1\n"}, 1.0),
        ({"reward_txt": b" 0.5 "}, 0.5),
        ({"reward_json": b'{"reward": 0}'}, 0.0),
        ({"reward_json": b'{"accuracy": 0.25}'}, 0.25),
        ({"reward_json": b'{"reward": 1, "accuracy": 0}'}, 1.0),
        # As Harbor: reward.json first; reward.txt where it names no reward; numbers only.
        ({"reward_txt": b"1", "reward_json": b'{"reward": 0}'}, 0.0),
        ({"reward_txt": b"1", "reward_json": b'{"accuracy": 0.25}'}, 1.0),
        ({"reward_txt": b"1", "reward_json": b'{"a": 0, "b": 0}'}, 1.0),
        ({"reward_json": b'{"accuracy": 0.25, "note": "x", "ok": true}'}, 0.25),
    ],
)
def test_a_finite_number_is_the_reward(task, files, reward):
    assert judged(task, **files) == reward


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, r"neither reward\.json nor reward\.txt.*exit code 0.*2 passed"),
        ({"reward_txt": b""}, "reward.txt holds b''"),
        ({"reward_txt": b"nan"}, "expected one finite number"),
        ({"reward_txt": b"inf"}, "expected one finite number"),
        ({"reward_txt": b"yes"}, "holds b'yes'"),
        ({"reward_txt": b"\xff"}, "expected one finite number"),
        ({"reward_json": b"{"}, r"reward\.json holds"),
        ({"reward_json": b'{"a": 1, "b": 0}'}, "expected an object with one finite number"),
        ({"reward_json": b'{"reward": true}'}, "expected an object with one finite number"),
        ({"reward_json": b'{"reward": NaN}'}, "expected an object with one finite number"),
        ({"reward_json": b"{}"}, "expected an object with one finite number"),
        ({"reward_json": b""}, r"reward\.json holds b''"),
        ({"reward_json": b"", "reward_txt": b"1"}, r"reward\.json holds b''"),
        ({"reward_json": b"1"}, "expected an object with one finite number"),
        ({"reward_json": b'{"reward": "1", "accuracy": 1}'}, "or one named `reward`"),
        ({"reward_json": b'{"reward": 1' + b"0" * 400 + b"}"}, r"reward\.json holds"),
        ({"reward_json": b"[" * 100_000}, r"reward\.json holds"),
    ],
)
def test_anything_else_is_a_fault_and_never_zero(task, files, said):
    with pytest.raises(VerifierFault, match=said):
        judged(task, **files)


def test_a_verifier_that_runs_out_of_time_is_a_fault_even_with_a_reward_on_disk(task):
    script = CLEARED | {"bash /tests/test.sh": CommandResult("thinking", None, timed_out=True)}
    with pytest.raises(VerifierFault, match=r"longer than 600 s.*thinking"):
        judged(task, script, reward_txt=b"1")


def test_the_agent_is_stopped_and_its_logs_are_cleared_before_the_verifier_runs(task):
    sandbox = ScriptedSandbox(RAN, {"/logs/verifier/reward.txt": b"1"})
    verify(sandbox, task)
    assert sandbox.taken_back
    assert sandbox.commands == [f"sh -c {CLEAR}", "bash /tests/test.sh"]


def test_logs_that_cannot_be_cleared_are_a_fault_since_what_they_hold_may_be_planted(task):
    script = RAN | {f"sh -c {CLEAR}": CommandResult("rm: not permitted", 1)}
    with pytest.raises(VerifierFault, match=r"emptied.*not permitted"):
        judged(task, script, reward_txt=b"1")
