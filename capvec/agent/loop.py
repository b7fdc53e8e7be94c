"""The agent loop: ask the model, run what it says, tell it what happened, until one stated reason ends it."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import takewhile

from capvec.agent.model import ChatModel
from capvec.agent.protocols import OBSERVATION_CHARS, AgentProtocol
from capvec.errors import ContextOverflow, InfrastructureError
from capvec.records import CommandResult, EndReason, Episode, Message, Reply, Step
from capvec.sandbox.base import Sandbox
from capvec.steering import Steer


@dataclass(frozen=True)
class LoopLimits:
    """What one episode may use."""

    max_steps: int
    max_tokens: int
    """Tokens of one reply."""
    temperature: float
    sandbox_s: float
    """Seconds for all commands of the episode together. Waiting for the model does not count: how long a reply takes is
    up to the machine and to whoever shares the batch, and must not decide what is solved. `max_steps` and `max_tokens`
    bound the model."""
    command_timeout_s: float = 20.0
    """Seconds for one command, less where `sandbox_s` ends sooner."""
    parse_fail_limit: int = 5
    """Failed parses in a row that end the episode."""
    no_cmd_limit: int = 5
    """Replies in a row without a command that end the episode."""
    observation_chars: int = OBSERVATION_CHARS


def run_episode(
    messages: Sequence[Message],
    *,
    model: ChatModel,
    sandbox: Sandbox,
    protocol: AgentProtocol,
    limits: LoopLimits,
    seed: int,
    steers: Sequence[Steer] = (),
    on_reply: Callable[[Reply], None] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Episode:
    """Let the model act in the sandbox until it is done or a limit ends it.

    Args:
        messages: the opening conversation, as `opening_messages` makes it.
        model: answers under `steers`.
        sandbox: runs the commands, in order, in one persistent shell.
        protocol: reads the replies and words the observations.
        limits: when to stop.
        seed: of the trial; step k of every config samples with `step_seed(seed, k)`.
        steers: the config's, sent with every request.
        on_reply: called with each reply before its commands run; may raise an InfrastructureError.
        clock: seconds, for what the commands take.

    Returns:
        The episode. It ends `done` after the commands of the reply that says so; `context_full` when the grown
        conversation no longer fits; and `error` on an instrument fault, which keeps the steps so far. An opening
        that does not fit is such a fault: it is ours, not the model's. A step's `observation` is filled when the
        model has answered it, so the last step has none.
    """
    opening = tuple(dict(message) for message in messages)
    steps, observation = list[Step](), ""

    def left() -> float:
        return limits.sandbox_s - sum(step.sandbox_s for step in steps)

    def ended(reason: EndReason, error: str = "") -> Episode:
        return Episode(opening, tuple(steps), reason, error)

    try:
        while len(steps) < limits.max_steps:
            if left() <= 0:
                return ended("time")
            try:
                reply = model.complete(
                    _conversation(opening, steps, observation),
                    seed=step_seed(seed, len(steps)),
                    max_tokens=limits.max_tokens,
                    temperature=limits.temperature,
                    stop=protocol.stop,
                    steers=steers,
                )
            except ContextOverflow:
                if not steps:
                    raise
                return ended("context_full")
            if steps:
                steps[-1] = replace(steps[-1], observation=observation)
            parse = protocol.parse(reply.text)
            steps.append(Step(len(steps), reply, parse, timestamp=_now()))
            if on_reply is not None:
                on_reply(reply)
            for command in parse.commands:
                if left() <= 0:
                    return ended("time")
                before = clock()
                result = sandbox.run(command, timeout_s=min(limits.command_timeout_s, left()))
                steps[-1] = _with_result(steps[-1], result, clock() - before)
            if parse.done:
                return ended("done")
            if _in_a_row(step.parse.status == "failed" for step in steps) >= limits.parse_fail_limit:
                return ended("parse_fail_limit")
            if _in_a_row(step.parse.no_cmd for step in steps) >= limits.no_cmd_limit:
                return ended("no_cmd_limit")
            observation = protocol.observation(steps[-1].results, parse, limit=limits.observation_chars)
        return ended("max_steps")
    except InfrastructureError as fault:
        return ended("error", f"{type(fault).__name__}: {fault}")


def step_seed(seed: int, index: int) -> int:
    """The seed of reply `index`: fixed by the trial's seed alone, so that every config draws the same noise.

    48 bits of SHA-256, so that neither steps nor neighbouring trial seeds share a stream.
    """
    return int.from_bytes(hashlib.sha256(f"{seed}:{index}".encode()).digest()[:6], "big")


def _conversation(opening: Sequence[dict[str, str]], steps: Sequence[Step], observation: str) -> list[dict[str, str]]:
    """What the model is sent: the opening, then every reply and what it was told, `observation` last."""
    talk = list(opening)
    for step in steps:
        talk.append({"role": "assistant", "content": step.reply.text})
        talk.append({"role": "user", "content": observation if step is steps[-1] else step.observation})
    return talk


def _with_result(step: Step, result: CommandResult, seconds: float) -> Step:
    return replace(step, results=(*step.results, result), sandbox_s=step.sandbox_s + seconds)


def _in_a_row(flags: Iterable[bool]) -> int:
    """How many at the end are true."""
    return len(list(takewhile(bool, reversed(list(flags)))))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
