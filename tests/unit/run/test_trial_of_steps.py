"""A trial of a task with several steps, against a scripted model and sandbox."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.scripted_sandbox import OnOneHost, ScriptedSandbox

from capvec.errors import SandboxBroken, SandboxUnavailable, StorageExceeded
from capvec.plan.plan import Plan, Settings
from capvec.records import CommandResult, Config, Outcome, TrialSpec
from capvec.run.trial import TrialRunner
from capvec.sandbox.base import TakenBack
from capvec.task_records import Task, TaskStep
from dev.agent.scripted_model import ScriptedModel

pytestmark = pytest.mark.unit
TEST, SETUP, PWD = "bash -c /tests/test.sh", "bash /app/setup.sh", "pwd"
SOLVE = "bash -c /solution/solve.sh"
FULL = StorageExceeded("more than storage_mb = 20 was written")
AT_ONCE, LATER = "```bash\nfill\n```", "```bash\nfill, and be found at the end\n```"
"""Replies that write too much to the disk: the container is removed before the command ends, or the trial has ended."""
SIGN = CommandResult("curl: (6) Could not resolve host: astral.sh\n", 0)


class Judging(ScriptedSandbox):
    """Each call of the verifier writes the next rewards and gives the next result; `setup.sh` as scripted."""

    def __init__(self, calls, setups) -> None:
        super().__init__(lambda _command: CommandResult("", 0))
        self.calls, self.setups = iter(calls), iter(setups)
        self.exceeded: StorageExceeded | None = None
        """What the end of the sandbox raises, as the watch of its storage does."""

    def run(self, command: str, *, timeout_s: float) -> CommandResult:
        self.exceeded = FULL if command.startswith("fill") else self.exceeded
        if command == "fill":
            raise SandboxUnavailable("the container was removed")
        return super().run(command, timeout_s=timeout_s)

    def take_back(self) -> TakenBack:
        self.commands.append("take back")
        return super().take_back()

    def execute(self, argv, *, timeout_s, env=None):
        command = " ".join(argv)
        result = super().execute(argv, timeout_s=timeout_s, env=env)
        if command == TEST:
            rewards, result = next(self.calls)
            self._files["/logs/verifier/reward.json"] = json.dumps(rewards).encode()
        if command == SETUP:
            result = next(self.setups)
            result = result if isinstance(result, Exception) else CommandResult("", result)
        if isinstance(result, StorageExceeded):
            self.exceeded = result
            raise SandboxUnavailable("the container was removed") from result
        if isinstance(result, Exception):
            raise result
        return CommandResult("/app\n", 0) if command == PWD else result


class Sandboxes(OnOneHost):
    """Opens the sandboxes that were given, the agent's first."""

    def __init__(self, *given) -> None:
        self.given, self.opened = iter(given), []

    @contextmanager
    def open(self, task: Task, **_: str) -> Iterator[Judging]:
        assert task.name == "t"
        sandbox = Judging(*next(self.given))
        self.opened.append(sandbox)
        try:
            yield sandbox
        finally:
            if sandbox.exceeded is not None:
                raise sandbox.exceeded

    def prepare(self, task: Task) -> str:
        return task.name


@pytest.fixture
def run(tmp_path):
    def run(*sandboxes, strategy="mean", least=None, replies=("DONE",) * 3, reward=None, solution=False, solved_at=1.0):
        sandboxes = [one if isinstance(one, tuple) else (one, ()) for one in sandboxes]
        setups = any(setups for _, setups in sandboxes)
        for name in ("a", "b", "c"):
            folder = tmp_path / "steps" / name
            (folder / "tests").mkdir(parents=True)
            (folder / "tests" / "test.sh").write_text("true\n")
            if solution:
                (folder / "solution").mkdir()
                (folder / "solution" / "solve.sh").write_text("true\n")
            if setups:
                (folder / "workdir").mkdir()
                (folder / "workdir" / "setup.sh").write_text("true\n")
        several = tuple(TaskStep(name, f"Do {name}.", min_reward=least or {}) for name in ("a", "b", "c"))
        task = Task("t", tmp_path, "Do a.", "0", several=several, step_reward=strategy)
        spec, config = TrialSpec("t", "baseline", 1, 7), Config("baseline", "baseline")
        settings = Settings("m", "bash-block", "zero-shot", 4, 32, 0.7, reward=reward, solved_at=solved_at)
        plan = Plan("r", tmp_path, (task,), (config,), (spec,), settings)
        run.sandboxes = Sandboxes(*sandboxes)
        return TrialRunner(plan, ScriptedModel(list(replies)), run.sandboxes).run(spec)

    return run


def wrote(*rewards):
    """A verifier that ends well, and writes these at its calls."""
    fine = CommandResult("", 0)
    return [one if isinstance(one, tuple) else (one, fine) for one in rewards]


def summary(outcome: Outcome):
    return outcome.outcome, outcome.reward, outcome.steps


@pytest.mark.parametrize(("strategy", "reward"), [("mean", 0.5), ("final", 1.0)])
def test_the_reward_is_the_mean_of_the_steps_or_that_of_the_last(run, strategy, reward):
    outcome = run(wrote({"reward": 0.5}, {"reward": 0}, {"reward": 1}), strategy=strategy)
    assert summary(outcome) == ("solved" if reward == 1 else "unsolved", reward, 3)


@pytest.mark.parametrize(
    ("rewards", "solved_at"), [((0.6, 0.7, 0.65), 0.65), ((0.1, 0.2, 0.3), 0.2), ((0.1 + 0.2, 0.3, 0.3), 0.3)]
)
def test_a_mean_of_decimals_reaches_its_threshold_whatever_their_sum_of_floats_is(run, rewards, solved_at):
    outcome = run(wrote(*({"reward": reward} for reward in rewards)), solved_at=solved_at)
    assert summary(outcome) == ("solved", solved_at, 3)


@pytest.mark.parametrize(("least", "steps"), [(0.3, 3), (0.3000001, 1)])
def test_a_sum_of_decimals_reaches_the_least_reward_of_its_step(run, least, steps):
    assert run(wrote(*[{"reward": 0.1 + 0.2}] * 3), least={"reward": least}).steps == steps


def test_a_name_that_a_step_did_not_write_counts_as_0(run):
    outcome = run(wrote({"x": 1}, {"x": 1, "y": 3}, {"y": 3}), reward="y")
    assert (outcome.outcome, outcome.rewards) == ("solved", {"x": 2 / 3, "y": 2.0})


@pytest.mark.parametrize("reward", ["reward", "later"])
def test_steps_after_one_below_its_least_reward_are_not_run_and_not_counted(run, reward):
    outcome = run(wrote({"reward": 0.9}, {"reward": 0.5}), least={"reward": 0.6}, reward=reward)
    assert summary(outcome) == ("unsolved", 0.7 if reward == "reward" else 0.0, 2)


def test_a_least_reward_that_was_not_written_is_not_met(run):
    assert summary(run(wrote({"reward": 1}), least={"other": 0.0})) == ("solved", 1.0, 1)


def test_a_reward_that_no_step_wrote_is_an_error(run):
    wrong = wrote({"x": 1}, {"x": 1}, {"x": 1})
    outcome = run(wrong, wrong, reward="y")
    assert (outcome.outcome, outcome.reward) == ("error", None)


def test_the_container_is_taken_back_before_each_verifier_and_before_the_next_agent(run):
    run(wrote({"reward": 1}, {"reward": 1}, {"reward": 1}))
    (sandbox,) = run.sandboxes.opened
    assert sandbox.commands == [*["take back", TEST, "take back"] * 2, "take back", TEST]


def test_a_fault_in_a_later_step_is_an_error_and_keeps_what_was_said(run, tmp_path: Path):
    outcome = run([*wrote({"reward": 1}), ({}, SandboxUnavailable("it is gone"))])
    assert (*summary(outcome), outcome.end_reason) == ("error", None, 2, "error")
    steps = json.loads((tmp_path / "trajectories" / "t-baseline-t1.json").read_text())["steps"]
    assert [step["extra"]["step"] for step in steps] == ["a", "a", "a", "b", "b"]


def test_an_attempt_goes_on_where_the_verifier_of_a_step_seems_to_have_failed(run):
    """The control does all three steps, by their solutions."""
    passes = wrote({"reward": 1}, {"reward": 1}, {"reward": 1})
    own = wrote({"reward": 1}, ({"reward": 0.25}, SIGN), {"reward": 1})
    outcome = run(own, passes, solution=True)
    assert summary(outcome) == ("unsolved", 0.75, 3)
    assert "only on what the agent left" in outcome.note


def test_a_later_step_whose_verifier_fails_where_nothing_was_done_is_an_error(run):
    own = wrote({"reward": 1}, ({"reward": 0}, SIGN))
    outcome = run(own, wrote(({"reward": 0}, SIGN)))
    assert (outcome.outcome, ", too: " in outcome.error) == ("error", True)


def test_a_step_that_cannot_begin_on_what_the_agent_left_earns_nothing(run):
    passes = wrote({"reward": 1}, {"reward": 1}, {"reward": 1})
    nothing = (wrote({"reward": 0}, {"reward": 0}), (0, 0, 0))
    outcome = run((wrote({"reward": 1}), (0, 1)), (passes, (0, 0, 0)), nothing, solution=True)
    assert summary(outcome) == ("unsolved", 1 / 3, 1)
    assert "setup.sh ended with exit code 1" in outcome.note


def test_a_step_that_cannot_be_judged_earns_what_doing_nothing_does_there_if_that_is_less_than_0(run):
    """The steps before are done by their solutions, since the step's rewards may depend on them; later ones follow."""
    passes, mute = wrote(*[{"reward": 1, "speed": 2}] * 3), ({}, CommandResult("", 0))
    own, nothing = [*wrote({"reward": 1, "speed": 2}), mute], wrote(*[{"reward": -0.5, "speed": 1}] * 2)
    outcome = run(own, passes, nothing, solution=True)
    assert summary(outcome) == ("unsolved", 0.0, 2)
    assert outcome.rewards == {"reward": 0.0, "speed": 2 / 3}
    commands = run.sandboxes.opened[-1].commands
    assert [command for command in commands if command in (TEST, SOLVE)] == [SOLVE, TEST, TEST]


@pytest.mark.parametrize(("least", "reward"), [(None, 1 / 3), ({"reward": 0.5}, 0.5)])
def test_breaking_a_verifier_earns_what_stopping_before_it_does(run, least, reward):
    """Where the next step needs a reward, neither reaches it."""
    broken = [*wrote({"reward": 1}), ({}, CommandResult("", 0))]
    control = [wrote({"reward": 1}, {"reward": 1}), wrote({"reward": 0}, {"reward": 0})]
    assert run(broken, *control, least=least).reward == reward


@pytest.mark.parametrize(("least", "reward"), [(None, 1 / 3), ({"reward": 0.5}, 0.5)])
def test_stopping_before_a_step_earns_what_its_verifier_finds(run, least, reward):
    assert run(wrote({"reward": 1}, {"reward": 0}, {"reward": 0}), least=least).reward == reward


@pytest.mark.parametrize("solution", [True, False])
@pytest.mark.parametrize(
    ("replies", "own"),
    [
        (("DONE", AT_ONCE), wrote({"reward": 1})),
        (("DONE", LATER, "DONE"), wrote({"reward": 1}, {"reward": 0.25})),
        (("DONE", "DONE"), [*wrote({"reward": 1}), ({}, FULL)]),
    ],
    ids=["agent", "found late", "verifier"],
)
def test_too_much_on_the_disk_in_a_later_step_takes_nothing_from_those_before(run, replies, own, solution):
    outcome = run(own, wrote({"reward": 0}), replies=replies, least={"reward": 0.5}, solution=solution)
    assert (outcome.outcome, outcome.reward, outcome.end_reason) == ("unsolved", 0.5, "storage")
    assert (outcome.rewards, outcome.note) == ({"reward": 0.5}, str(FULL))


def test_too_much_on_the_disk_before_a_step_begins_ends_that_step(run):
    own, nothing = (wrote({"reward": 1}), (0, FULL)), (wrote({"reward": -1}, {"reward": -1}), (0, 0, 0))
    outcome = run(own, nothing)
    assert (outcome.outcome, outcome.reward, outcome.end_reason) == ("unsolved", -1 / 3, "storage")


def test_too_much_on_the_disk_in_the_first_step_earns_what_doing_nothing_does(run):
    outcome = run([], wrote(*[{"reward": -2}] * 3), replies=[AT_ONCE], reward="reward")
    assert (outcome.outcome, outcome.reward, outcome.rewards) == ("unsolved", -2.0, {"reward": -2.0})


@pytest.mark.parametrize("sandboxes", [[([], ()), ([({}, FULL)], ())], [([], (FULL,))]], ids=["control", "own"])
def test_too_much_on_the_disk_where_no_agent_was_is_an_error(run, sandboxes):
    outcome = run(*sandboxes, replies=[AT_ONCE])
    assert (outcome.outcome, outcome.reward, outcome.rewards) == ("error", None, {})
    assert str(FULL) in outcome.error


def test_a_later_step_that_needs_what_was_not_done_earns_nothing_where_it_cannot_be_judged(run):
    own, nothing = (wrote({"reward": 1}), (0, 0)), ([], (0, 1))
    outcome = run(own, nothing, replies=["DONE", AT_ONCE])
    assert (outcome.outcome, outcome.reward, outcome.error) == ("unsolved", 1 / 3, "")


def test_a_container_that_docker_refuses_before_a_step_is_the_agents_only_where_a_fresh_one_is_judged(run):
    refused, passes = SandboxBroken("Docker refuses"), wrote({"reward": 1}, {"reward": 1}, {"reward": 1})
    nothing = (wrote({"reward": 0}, {"reward": 0}), (0, 0, 0))
    outcome = run((wrote({"reward": 1}), (0, refused, refused)), (passes, (0, 0, 0)), nothing, solution=True)
    assert (*summary(outcome), outcome.error) == ("unsolved", 1 / 3, 1, "")
    assert "on what the agent left, Docker refuses" in outcome.note


def test_a_step_before_which_docker_refuses_once_begins_where_a_fresh_container_is_judged(run):
    refused, passes = SandboxBroken("Docker refuses"), wrote({"reward": 1}, {"reward": 1}, {"reward": 1})
    outcome = run((passes, (0, refused, 0, 0)), (passes, (0, 0, 0)), solution=True)
    assert (*summary(outcome), outcome.note, outcome.error) == ("solved", 1.0, 3, "", "")


@pytest.mark.parametrize("setups", [((1,), ()), ((0, 1), (0, 1))])
def test_a_step_that_cannot_begin_anywhere_is_an_error(run, setups):
    passes = wrote({"reward": 1}, {"reward": 1})
    outcome = run((passes, setups[0]), (passes, setups[1]), solution=True)
    assert (outcome.outcome, "setup.sh ended with exit code 1" in outcome.error) == ("error", True)
