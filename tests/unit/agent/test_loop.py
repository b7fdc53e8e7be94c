"""The loop: every end has its reason, every fault keeps what came before it, and the model is told what happened."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace

import pytest

from capvec.agent.loop import LoopLimits, run_episode, step_seed
from capvec.agent.protocols import get_protocol
from capvec.engines.generation import Shaping
from capvec.errors import ContextOverflow, EngineUnavailable, SandboxUnavailable, SteeringFault
from capvec.records import CommandResult, Parse
from capvec.steering import Steer
from dev.agent.scripted_model import ScriptedModel

pytestmark = pytest.mark.unit

BASH = get_protocol("bash-block")
OPENING = ({"role": "system", "content": "Act."}, {"role": "user", "content": "Do it."})
SHAPED = Shaping(top_p=0.9, repetition_penalty=1.1)
LIMITS = LoopLimits(max_steps=5, max_tokens=64, temperature=0.7, sandbox_s=100.0, shaping=SHAPED)
BROKEN = "```python\nx\n```"  # a block in another language: failed under bash-block


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self):
        return self.now


@dataclass
class Shell:
    """Prints the command back; may fail, and may take time on the clock."""

    fault: Exception | None = None
    fault_at: int = 0
    clock: Clock = field(default_factory=Clock)
    seconds: float = 0.0
    ran: list = field(default_factory=list)
    timeouts: list = field(default_factory=list)

    def run(self, command, *, timeout_s):
        if self.fault is not None and len(self.ran) >= self.fault_at:
            raise self.fault
        self.ran.append(command)
        self.timeouts.append(timeout_s)
        self.clock.now += self.seconds
        return CommandResult(f"ran {command}", 0)


def run(replies, *, shell=None, limits=LIMITS, protocol=BASH, **options):
    model = ScriptedModel(replies)
    shell = shell or Shell()
    episode = run_episode(
        OPENING, model=model, sandbox=shell, protocol=protocol, limits=limits, seed=1, clock=shell.clock, **options
    )
    return episode, model, shell


class Thinker(ScriptedModel):
    """Thinks before each reply."""

    def complete(self, messages, **options):
        return replace(super().complete(messages, **options), thought="I look first.")


def test_a_thought_runs_nothing_is_kept_and_goes_back_in_a_field_of_its_own():
    model, shell = Thinker([BASH.render(["ls"]), "DONE"]), Shell()
    limits = replace(LIMITS, thinking="on")
    episode = run_episode(OPENING, model=model, sandbox=shell, protocol=BASH, limits=limits, seed=1)
    assert shell.ran == ["ls"]
    assert [step.reply.thought for step in episode.steps] == ["I look first."] * 2
    assert model.seen[1][len(OPENING)] == {
        "role": "assistant",
        "content": BASH.render(["ls"]),
        "reasoning_content": "I look first.",
    }


def test_a_reply_that_ended_within_its_thought_is_no_command():
    episode, model, shell = run(["", "DONE"])
    assert shell.ran == []
    assert episode.steps[0].parse.no_cmd
    assert "no command" in model.seen[1][-1]["content"]


def test_the_model_sees_its_replies_and_what_they_did_until_it_is_done():
    episode, model, shell = run([BASH.render(["ls"]), "DONE"])
    assert episode.end_reason == "done"
    assert shell.ran == ["ls"]
    observed = episode.steps[0].observation
    assert "ran ls" in observed
    assert "exit code 0" in observed
    assert model.seen[1] == (
        *OPENING,
        {"role": "assistant", "content": BASH.render(["ls"])},
        {"role": "user", "content": observed},
    )
    assert episode.steps[1].observation == ""


def test_max_steps_ends_the_episode_and_the_last_commands_still_run():
    episode, model, shell = run([BASH.render([str(n)]) for n in range(9)], limits=replace(LIMITS, max_steps=3))
    assert (episode.end_reason, len(model.seen), shell.ran) == ("max_steps", 3, ["0", "1", "2"])
    assert [bool(step.observation) for step in episode.steps] == [True, True, False]


def test_only_failed_parses_in_a_row_reach_the_limit():
    limits = replace(LIMITS, max_steps=9, parse_fail_limit=2)
    episode, _, _ = run([BROKEN, "prose", BROKEN, BROKEN, "DONE"], limits=limits)
    assert (episode.end_reason, len(episode.steps), episode.parse_fail, episode.no_cmd) == ("parse_fail_limit", 4, 3, 1)


def test_only_replies_without_a_command_in_a_row_reach_the_limit():
    limits = replace(LIMITS, max_steps=9, no_cmd_limit=2)
    replies = ["prose", BROKEN, "prose", BASH.render(["ls"]), "prose", "prose", "DONE"]
    episode, _, shell = run(replies, limits=limits)
    assert (episode.end_reason, len(episode.steps), episode.no_cmd, shell.ran) == ("no_cmd_limit", 6, 4, ["ls"])


def test_a_conversation_that_outgrows_the_context_is_a_result():
    episode, _, _ = run([BASH.render(["ls"]), ContextOverflow("2049 > 2048")])
    assert (episode.end_reason, episode.error, len(episode.steps)) == ("context_full", "", 1)
    assert episode.steps[0].observation == ""  # it was never told


def test_an_opening_that_does_not_fit_is_a_fault_of_ours():
    episode, _, _ = run([ContextOverflow("3000 > 2048")])
    assert (episode.end_reason, episode.error, episode.steps) == ("error", "ContextOverflow: 3000 > 2048", ())


def test_time_ends_the_episode_between_replies_and_between_commands():
    tools = get_protocol("tool-call")
    slow = Shell(seconds=60.0)  # sandbox_s is 100: two commands begin (at 0 and 60 s), a third would at 120 s
    episode, _, shell = run([tools.render(["a", "b", "c"])], shell=slow, protocol=tools)
    assert (episode.end_reason, shell.ran, len(episode.steps[0].results)) == ("time", ["a", "b"], 2)
    slow = Shell(seconds=60.0)
    episode, model, _ = run([BASH.render(["a"]), BASH.render(["b"]), "DONE"], shell=slow)
    assert (episode.end_reason, len(model.seen)) == ("time", 2)


def test_a_slow_model_does_not_run_out_of_the_sandbox_time():
    shell = Shell(seconds=1.0)

    def slow(_reply):
        shell.clock.now += 1000.0  # ten times sandbox_s, while the model is thinking

    episode, _, _ = run([BASH.render(["a"]), BASH.render(["b"]), "DONE"], shell=shell, on_reply=slow)
    assert (episode.end_reason, shell.ran) == ("done", ["a", "b"])


def test_a_command_gets_its_own_timeout_or_what_is_left_of_the_episode():
    shell = Shell(seconds=90.0)  # after the first, 10 s of 100 are left, less than the 20 s of a command
    run([BASH.render(["a"]), BASH.render(["b"])], shell=shell)
    assert shell.timeouts == [20.0, 10.0]


@pytest.mark.parametrize("name", ["terminus-json", "tool-call"])
def test_commands_beside_done_run_before_the_end(name):
    protocol = get_protocol(name)
    episode, _, shell = run([protocol.render(["a", "b"], True)], protocol=protocol)
    assert (episode.end_reason, shell.ran, len(episode.steps)) == ("done", ["a", "b"], 1)


def test_a_dead_sandbox_ends_in_error_and_keeps_steps_and_results():
    tools = get_protocol("tool-call")
    shell = Shell(fault=SandboxUnavailable("container gone"), fault_at=2)
    episode, _, _ = run([tools.render(["a"]), tools.render(["b", "c"])], shell=shell, protocol=tools)
    assert (episode.end_reason, episode.error) == ("error", "SandboxUnavailable: container gone")
    assert [result.output for step in episode.steps for result in step.results] == ["ran a", "ran b"]


def test_a_dead_engine_ends_in_error_and_keeps_the_steps():
    episode, _, _ = run([BASH.render(["a"]), EngineUnavailable("no answer")])
    assert (episode.end_reason, episode.error, len(episode.steps)) == ("error", "EngineUnavailable: no answer", 1)


def test_a_reply_whose_receipt_fails_is_recorded_but_never_run():
    def refuse(reply):
        raise SteeringFault(f"no receipt for {reply.text!r}")

    episode, _, shell = run([BASH.render(["rm -rf /"])], on_reply=refuse)
    assert episode.end_reason == "error"
    assert episode.error.startswith("SteeringFault: no receipt")
    assert (len(episode.steps), shell.ran) == (1, [])


def test_ctrl_c_and_bugs_are_not_turned_into_results():
    for fault in (KeyboardInterrupt(), ZeroDivisionError()):
        with pytest.raises(type(fault)):
            run([BASH.render(["a"])], shell=Shell(fault=fault))


class Recorder(ScriptedModel):
    def __init__(self, replies):
        super().__init__(replies)
        self.asked = []

    def complete(self, messages, **options):
        self.asked.append(options)
        return super().complete(messages, **options)


def test_every_config_draws_with_the_same_seed_at_the_same_step_and_never_twice():
    asked = []
    for steers in ((), (Steer(3, "d", 4.0),)):
        model = Recorder([BASH.render(["a"]), BASH.render(["b"]), "DONE"])
        run_episode(OPENING, model=model, sandbox=Shell(), protocol=BASH, limits=LIMITS, seed=11, steers=steers)
        asked.append(model.asked)
        assert all(options["steers"] == steers for options in model.asked)
        drawn = [(options["max_tokens"], options["temperature"], options["shaping"]) for options in model.asked]
        assert drawn == [(64, 0.7, SHAPED)] * 3
    seeds = [[options["seed"] for options in model] for model in asked]
    assert seeds[0] == seeds[1] == [step_seed(11, 0), step_seed(11, 1), step_seed(11, 2)]
    # Neighbouring trial seeds must not meet at neighbouring steps, as seed + step would.
    assert len({step_seed(seed, step) for seed in range(50) for step in range(50)}) == 2500


@pytest.mark.parametrize("name", ["tool-call", "terminus-json"])
def test_a_lone_surrogate_runs_nothing_and_every_request_can_still_be_sent(name):
    protocol = get_protocol(name)
    escaped = protocol.render(["echo X"]).replace("X", "\\ud83d")
    bare = protocol.render(["echo \udc00", "ls"])
    episode, model, shell = run([escaped, bare, "<parameter=\ud800>", protocol.render([], True)], protocol=protocol)
    assert (episode.end_reason, episode.parse_fail, shell.ran) == ("done", 3, [])
    assert "U+D83D" in episode.steps[0].observation
    assert "echo \ufffd" in episode.steps[1].reply.text
    json.dumps([list(seen) for seen in model.seen], ensure_ascii=False).encode()


class Limited(ScriptedModel):
    """Reaches the token limit with every reply."""

    def complete(self, messages, **options):
        return replace(super().complete(messages, **options), finish_reason="length")


def test_a_reply_that_the_token_limit_cut_behind_its_command_is_told_so_and_not_run():
    model, shell = Limited([BASH.render(["ls"]), BASH.render(["pwd"]) + "\nThis prints"]), Shell()
    episode = run_episode(
        OPENING, model=model, sandbox=shell, protocol=BASH, limits=replace(LIMITS, max_steps=2), seed=1
    )
    assert (episode.parse_fail, shell.ran) == (1, ["pwd"])
    assert "token limit" in episode.steps[0].observation


def test_a_failed_reply_is_told_what_was_wrong_and_a_silent_one_that_it_has_no_command():
    episode, _, _ = run([BROKEN, "prose", "DONE"])
    assert episode.steps[0].parse.error in episode.steps[0].observation
    assert "no command" in episode.steps[1].observation


def test_an_observation_names_timeouts_and_restarts_and_is_capped_head_and_tail():
    observed = BASH.observation(
        [CommandResult("", None, timed_out=True, shell_restarted=True)], Parse("strict", ("a",))
    )
    assert "ran out of time" in observed
    assert "restarted" in observed
    long = CommandResult("H" + "x" * 5000 + "T", 3)
    observed = BASH.observation([long], Parse("strict", ("a",)), limit=100)
    assert len(observed) < 100 + 80  # the cap, and the words around it
    assert observed.startswith("exit code 3\nH")
    assert observed.endswith("xT")
