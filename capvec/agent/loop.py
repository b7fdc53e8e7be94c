"""The agent loop: ask the model, run its commands and return the results, until one of the stated reasons ends it."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import takewhile

from capvec.agent.model import ChatModel
from capvec.agent.protocols import OBSERVATION_CHARS, AgentProtocol
from capvec.agent.protocols.base import encodable
from capvec.engines.generation import PLAIN, Shaping
from capvec.errors import ContextOverflow, InfrastructureError
from capvec.records import EndReason, Episode, Message, Reply, Step, Thinking
from capvec.sandbox.base import Sandbox
from capvec.steering import Steer


@dataclass(frozen=True)
class LoopLimits:
    """The limits of one episode."""

    max_steps: int
    max_tokens: int
    """Tokens of one reply."""
    temperature: float
    sandbox_s: float
    """Seconds for all commands of the episode together. Time spent waiting for the model does not count, because it
    depends on the machine and the batch; `max_steps` and `max_tokens` bound the model."""
    command_timeout_s: float = 20.0
    """Seconds for one command, or what is left of `sandbox_s` if that is less."""
    parse_fail_limit: int = 5
    """Consecutive replies that do not parse, after which the episode ends."""
    no_cmd_limit: int = 5
    """Consecutive replies without a command, after which the episode ends."""
    observation_chars: int = OBSERVATION_CHARS
    """Characters of command output in one observation."""
    thinking: Thinking | None = None
    """Whether the model thinks before it answers; None is the engine's default."""
    shaping: Shaping = PLAIN
    """What else changes the distribution from which tokens are drawn."""


def run_episode(
    messages: Sequence[Message],
    *,
    model: ChatModel,
    sandbox: Sandbox,
    protocol: AgentProtocol,
    limits: LoopLimits,
    seed: int,
    steers: Sequence[Steer] = (),
    grammar: str = "",
    on_reply: Callable[[Reply], None] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Episode:
    """Let the model act in the sandbox until it says that it is done or reaches a limit.

    Args:
        messages: the opening conversation, as `opening_messages` makes it.
        model: answers under `steers`.
        sandbox: runs the commands, in order, in one persistent shell.
        protocol: parses the replies and writes the observations.
        limits: of the episode.
        seed: of the trial; step k of every config samples with `step_seed(seed, k)`.
        steers: of the config, sent with every request.
        grammar: of the config: a regular expression that every reply must match; empty where it may be any.
        on_reply: called with each reply before its commands run; may raise an `InfrastructureError`.
        clock: in seconds; measures the commands.

    Returns:
        The episode. It ends with `done` after the commands of the reply that says so, with `context_full` if the
        conversation has grown too long, and with `error` on an `InfrastructureError`, which keeps the steps so far. An
        opening that is too long is such an error, because the model did not write it. A step's `observation` is set
        once the model has answered it, so the last step has none.
    """
    opening = tuple(dict(message) for message in messages)
    steps, observation = list[Step](), ""

    def ended(reason: EndReason, error: str = "") -> Episode:
        return Episode(opening, tuple(steps), reason, error)

    try:
        while len(steps) < limits.max_steps:
            if _time_left(steps, limits) <= 0:
                return ended("time")
            try:
                reply = model.complete(
                    _conversation(opening, steps, observation),
                    seed=step_seed(seed, len(steps)),
                    max_tokens=limits.max_tokens,
                    temperature=limits.temperature,
                    stop=protocol.stop,
                    steers=steers,
                    thinking=limits.thinking,
                    shaping=limits.shaping,
                    grammar=grammar,
                )
            except ContextOverflow:
                if not steps:
                    raise
                return ended("context_full")
            if steps:
                steps[-1] = replace(steps[-1], observation=observation)
            reply = protocol.settled(reply)
            parse, reply = protocol.read(reply), _encodable(reply)
            steps.append(Step(len(steps), reply, parse, timestamp=datetime.now(UTC).isoformat(timespec="milliseconds")))
            if on_reply is not None:
                on_reply(reply)
            if not _run_commands(steps, sandbox, limits, clock):
                return ended("time")
            if reason := _end_reason(steps, limits):
                return ended(reason)
            observation = protocol.observation(steps[-1].results, parse, limit=limits.observation_chars)
        return ended("max_steps")
    except InfrastructureError as fault:
        return ended("error", f"{type(fault).__name__}: {fault}")


def step_seed(seed: int, index: int) -> int:
    """The seed of reply `index`, from the trial's seed alone, so that every config draws the same noise.

    Hashing (48 bits of SHA-256) keeps steps and neighbouring trial seeds from sharing a stream.
    """
    return int.from_bytes(hashlib.sha256(f"{seed}:{index}".encode()).digest()[:6], "big")


def _encodable(reply: Reply) -> Reply:
    """The reply as it is kept and sent back: a lone surrogate, which no request can hold, is U+FFFD there.

    It is parsed as it came, so that a command that holds one fails instead of running as another.
    """
    return replace(reply, text=encodable(reply.text), thought=encodable(reply.thought))


def _time_left(steps: Sequence[Step], limits: LoopLimits) -> float:
    return limits.sandbox_s - sum(step.sandbox_s for step in steps)


def _run_commands(steps: list[Step], sandbox: Sandbox, limits: LoopLimits, clock: Callable[[], float]) -> bool:
    """Run the commands of the last step, adding each result to it; whether there was time for all of them."""
    for command in steps[-1].parse.commands:
        if (left := _time_left(steps, limits)) <= 0:
            return False
        before = clock()
        result = sandbox.run(command, timeout_s=min(limits.command_timeout_s, left))
        seconds, step = clock() - before, steps[-1]
        steps[-1] = replace(step, results=(*step.results, result), sandbox_s=step.sandbox_s + seconds)
    return True


def _end_reason(steps: Sequence[Step], limits: LoopLimits) -> EndReason | None:
    """Why the replies so far end the episode, if they do."""
    if steps[-1].parse.done:
        return "done"
    if _in_a_row(step.parse.status == "failed" for step in steps) >= limits.parse_fail_limit:
        return "parse_fail_limit"
    return "no_cmd_limit" if _in_a_row(step.parse.no_cmd for step in steps) >= limits.no_cmd_limit else None


def _conversation(opening: Sequence[dict[str, str]], steps: Sequence[Step], observation: str) -> list[dict[str, str]]:
    """The opening, then each reply with its observation; `observation` is the last one."""
    talk = list(opening)
    for step in steps:
        talk.append({"role": "assistant", "content": step.reply.text} | _thought(step.reply))
        talk.append({"role": "user", "content": observation if step is steps[-1] else step.observation})
    return talk


def _thought(reply: Reply) -> dict[str, str]:
    """In a field of its own, so that the chat template decides whether the model reads it again."""
    return {"reasoning_content": reply.thought} if reply.thought else {}


def _in_a_row(flags: Iterable[bool]) -> int:
    """How many flags at the end are true."""
    return len(list(takewhile(bool, reversed(list(flags)))))
