"""Whose fault a verifier's failure is: a control decides, out of the agent's reach, and not what was printed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from support.scripted_sandbox import ScriptedSandbox
from support.tasks import make_task

from capvec.errors import SandboxBroken, VerifierFault
from capvec.records import CommandResult
from capvec.run.control import Control, Judged, Scale, judge
from capvec.task_records import Task
from capvec.tasks.loader import load_task

pytestmark = pytest.mark.unit

SIGN = "curl: (6) Could not resolve host: astral.sh\n"
MUTE = b""


@dataclass
class Verifiers:
    """Opens sandboxes whose verifiers print and write what was given for each."""

    given: list[tuple[bytes, list[str]]]
    """Of each sandbox: the reward that is written, and what the verifier prints at each call."""
    refused: list[str] = field(default_factory=list)
    """Of each sandbox, as far as given: how the commands begin that Docker refuses to run there."""
    refusals: int | None = None
    """How many of those it refuses; None for all."""
    opened: list[ScriptedSandbox] = field(default_factory=list)
    logs: str = ""
    """What every verifier writes into a file."""

    @contextmanager
    def open(self, task: Task, **_: str) -> Iterator[ScriptedSandbox]:
        """The next sandbox."""
        assert task.name == "greet"
        reward, printed = self.given[len(self.opened)]
        calls = iter(printed)

        refused = dict(enumerate(self.refused)).get(len(self.opened))
        left = iter([True] * (self.refusals or 99) + [False] * 99)

        def answer(command: str) -> CommandResult | Exception:
            if refused and command.startswith(refused) and next(left):
                return SandboxBroken("Docker refuses")
            if command == "bash -c /tests/test.sh":
                return CommandResult(next(calls), 0)
            return CommandResult(self.logs if command.endswith("sh /logs/verifier") else "", 0)

        sandbox = ScriptedSandbox(answer, {"/logs/verifier/reward.txt": reward} if reward else {})
        self.opened.append(sandbox)
        yield sandbox

    def prepare(self, task: Task) -> str:
        return task.name


@pytest.fixture(params=[True, False], ids=["solution", "no solution"])
def task(request: pytest.FixtureRequest, tmp_path: Path) -> Task:
    folder = make_task(tmp_path)
    if not request.param:
        (folder / "solution" / "solve.sh").unlink()
    return load_task(folder)


def judged(task: Task, *given: tuple[bytes, list[str]]) -> tuple[Judged, int]:
    """How the attempt of the first sandbox is judged, and how many sandboxes that took."""
    sandboxes = Verifiers(list(given))
    with sandboxes.open(task, run="r", trial="t") as sandbox:
        return judge(sandbox, task, Control(sandboxes, "r", "t", Scale())), len(sandboxes.opened)


@pytest.mark.parametrize(("reward", "printed"), [(b"1", SIGN), (b"1", ""), (b"0", "1 failed\n")])
def test_a_verifier_without_a_sign_of_failure_or_one_that_is_content_needs_no_control(
    task: Task, reward: bytes, printed: str
) -> None:
    found, sandboxes = judged(task, (reward, [printed]))
    assert (found.solved, found.note, sandboxes) == (reward == b"1", "", 1)


@pytest.mark.parametrize("first", [(b"0", [SIGN]), (MUTE, [""])])
@pytest.mark.parametrize("control", [(MUTE, [""]), (b"0", [SIGN])])
def test_where_the_control_fails_too_the_instrument_is_at_fault(
    task: Task, first: tuple[bytes, list[str]], control: tuple[bytes, list[str]]
) -> None:
    with pytest.raises(VerifierFault, match=", too: "):
        judged(task, first, control)


@pytest.mark.parametrize(("first", "opened"), [((b"0", [SIGN, SIGN]), 2), ((MUTE, ["", ""]), 3)])
def test_where_the_control_is_as_it_should_be_the_attempt_failed_and_not_the_verifier(
    task: Task, first: tuple[bytes, list[str]], opened: int
) -> None:
    found, sandboxes = judged(task, first, (b"1", [""]), (b"0", [""]))
    assert (found.reward, found.solved, sandboxes) == (0.0, False, opened)
    assert "only on what the agent left" in found.note


@pytest.mark.parametrize(
    ("nothing", "reward", "rewards"),
    [
        (b"-100", -100.0, {"reward": -100.0}),
        (b"0", 0.0, {"reward": 0.0}),
        (b"0.5", 0.0, {"reward": 0.0}),
        (MUTE, 0.0, {}),
    ],
)
def test_an_attempt_that_breaks_its_verifier_earns_at_most_what_doing_nothing_does(
    task: Task, nothing: bytes, reward: float, rewards: dict[str, float]
) -> None:
    found, _ = judged(task, (MUTE, ["", ""]), (b"1", [""]), (nothing, [""]))
    assert (found.reward, found.rewards, found.solved) == (reward, rewards, False)


def test_what_doing_nothing_earns_is_told_by_a_container_in_which_no_solution_ran(task: Task) -> None:
    sandboxes = Verifiers([(MUTE, ["", ""]), (b"1", [""]), (b"-1", [""])])
    with sandboxes.open(task, run="r", trial="t") as sandbox:
        assert judge(sandbox, task, Control(sandboxes, "r", "t", Scale(solved_at=-1.0))).solved is False
    assert not any("solve.sh" in command for command in sandboxes.opened[2].commands)


def test_a_sign_in_a_file_of_the_verifiers_counts_as_one_that_it_printed(tmp_path: Path) -> None:
    sandboxes, task = Verifiers([(b"0", ["", ""]), (b"0", [""])], logs=SIGN), load_task(make_task(tmp_path))
    (task.path / "solution" / "solve.sh").unlink()
    with (
        sandboxes.open(task, run="r", trial="t") as sandbox,
        pytest.raises(VerifierFault, match=r"astral\.sh.*, too: "),
    ):
        judge(sandbox, task, Control(sandboxes, "r", "t", Scale()))


@pytest.mark.parametrize("first", [(b"0.5", [SIGN]), (MUTE, [""])])
def test_a_verifier_in_the_agents_container_does_not_judge_what_its_first_run_changed(
    task: Task, first: tuple[bytes, list[str]]
) -> None:
    """What an agent's program does at its second run is no second try."""
    found, _ = judged(task, first, (b"1", [""]), (b"0", [""]))
    assert (found.reward, found.solved) == (float(first[0] or 0), False)
    assert found.note.startswith("the verifier fails only on what the agent left: ")


@pytest.mark.parametrize(("again", "noted"), [("", False), (SIGN, True)])
def test_a_verifier_apart_judges_the_same_copy_once_more(tmp_path: Path, again: str, noted: bool) -> None:
    own = '[environment]\nnetwork_mode = "no-network"\n[verifier]\nenvironment_mode = "separate"\n'
    found, _ = judged(load_task(make_task(tmp_path, toml=own)), (b"0", [SIGN, again]), (b"1", [""]))
    assert (found.reward, found.rewards, bool(found.note)) == (0.0, {"reward": 0.0}, noted)


def test_a_solution_that_is_no_longer_judged_solved_shows_a_fault_that_leaves_no_sign(tmp_path: Path) -> None:
    with pytest.raises(VerifierFault, match="it is not judged solved"):
        judged(load_task(make_task(tmp_path)), (b"0", [SIGN]), (b"0", [""]))


def test_the_control_runs_the_solution_where_there_is_one(tmp_path: Path) -> None:
    sandboxes, task = Verifiers([(b"0", [SIGN, SIGN]), (b"1", [""])]), load_task(make_task(tmp_path))
    with sandboxes.open(task, run="r", trial="t") as sandbox:
        judge(sandbox, task, Control(sandboxes, "r", "t", Scale()))
    assert "bash -c /solution/solve.sh" in sandboxes.opened[1].commands
    assert "bash -c /solution/solve.sh" not in sandboxes.opened[0].commands


@pytest.mark.parametrize("where", ["bash -c /tests/test.sh", "sh -c"])
def test_a_container_that_docker_refuses_is_the_agents_only_where_a_fresh_one_is_judged(
    tmp_path: Path, where: str
) -> None:
    """Docker refuses to run the verifier, or already a command that saves what it is to see."""
    collect = '[[verifier.collect]]\ncommand = "true"\n'
    task = load_task(make_task(tmp_path, toml=f'{collect}[environment]\nnetwork_mode = "no-network"\n'))
    for refused in ([where], [where, where]):
        sandboxes = Verifiers([(b"1", [""]), (b"1", [""]), (b"0", [""])], refused=refused)
        with sandboxes.open(task, run="r", trial="t") as sandbox:
            control = Control(sandboxes, "r", "t", Scale())
            if len(refused) == 1:
                found = judge(sandbox, task, control)
                assert (found.reward, found.solved) == (0.0, False)
                assert "only on what the agent left: Docker refuses" in found.note
            else:
                with pytest.raises(VerifierFault, match="Docker refuses; and after the task's own solution, too"):
                    judge(sandbox, task, control)


@pytest.mark.parametrize("where", ["bash -c /tests/test.sh", "sh -c"])
@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("reward", [b"1", b"0"])
def test_what_docker_refused_once_is_judged_as_it_is_where_a_fresh_container_is_judged(
    tmp_path: Path, where: str, apart: bool, reward: bytes
) -> None:
    """The refusal may have been Docker's own, and has passed."""
    collect = '[[verifier.collect]]\ncommand = "true"\n[environment]\nnetwork_mode = "no-network"\n'
    own = '[verifier]\nenvironment_mode = "separate"\n' if apart else ""
    task = load_task(make_task(tmp_path, toml=f"{own}{collect}"))
    sandboxes = Verifiers([(reward, ["", ""]), (b"1", [""])], refused=[where], refusals=1)
    with sandboxes.open(task, run="r", trial="t") as sandbox:
        found = judge(sandbox, task, Control(sandboxes, "r", "t", Scale()))
    assert (found.solved, found.reward, found.note) == (reward == b"1", float(reward), "")
