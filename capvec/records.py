"""The records that stages exchange: configs, trials and outcomes.

`capvec.task_records` has tasks, `capvec.steering` steers and receipts.

Nothing here imports torch, docker or pytest, so every process can share it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self

from capvec.errors import UsageError, fault_of
from capvec.serial import Record
from capvec.steering import IsolationCheck, Op, Receipt, Steer
from capvec.thoughts import ThoughtTags

AlphaUnit = Literal["stored", "norm", "ambient"]
ParseStatus = Literal["strict", "repaired", "failed"]
Status = Literal["solved", "unsolved", "error"]
InstrumentPart = Literal["Docker", "engine"]
"""What all trials need."""
Layers = int | str | None
"""The layer of a config; a text such as `20+22` for several; None if nothing is steered."""
EndReason = Literal["done", "max_steps", "parse_fail_limit", "no_cmd_limit", "context_full", "time", "storage", "error"]
Thinking = Literal["on", "off", "default"]
"""Whether a model thinks before it answers; `default` leaves it to the chat template."""
Message = Mapping[str, str]
"""One chat message, `{"role": "system" | "user" | "assistant", "content": text}`. An assistant's may have the thought
that led to it in `reasoning_content`."""


# ------------------------------------------------------------------------------------------------ configs and trials


@dataclass(frozen=True)
class ControlOf(Record):
    """The purpose of a control config."""

    kind: str
    """The name in `--controls`."""
    configs: tuple[str, ...]
    """The steered configs that it controls for."""


@dataclass(frozen=True)
class Config(Record):
    """One experimental arm."""

    name: str
    kind: Literal["baseline", "steered", "control"]
    steers: tuple[Steer, ...] = ()
    layer: Layers = None
    alpha: float | None = None
    """As the user typed it, in `alpha_unit`; None if the config has none."""
    alpha_unit: AlphaUnit = "stored"
    dose: float | None = None
    """|α|·‖v_L‖ / ambient norm of the contrast, at several layers the largest; None where there is no α, or no ambient
    norm is known."""
    system_suffix: str = ""
    """Text appended to the system prompt (the `prompt` control); empty elsewhere."""
    grammar: str = ""
    """A regular expression that every reply must match (the `constrained` control); empty elsewhere."""
    control: ControlOf | None = None
    targets: tuple[float | None, ...] = ()
    """What each steer's receipt must show, computed from the direction's file and not by the engine: the shift for
    `add`, the level for `ablate` and `set`; None if it is not known beforehand (`capvec.receipts.closed_forms`)."""
    vectors: tuple[str, ...] = ()
    """Content hash of each steer's vector, computed from the direction's file (`capvec.steering.vector_hash`)."""

    BASELINE: ClassVar[str] = "baseline"


@dataclass(frozen=True)
class TrialId:
    """Which trial of a run: unique within it.

    Its text, `task-config-tN`, is the pytest id, the stem of the trajectory file and the `trial` of `trials.jsonl`.
    """

    task: str
    config: str
    attempt: int
    """From 1."""

    def __str__(self) -> str:
        return f"{self.task}-{self.config}-t{self.attempt}"

    @classmethod
    def parse(cls, text: str, tasks: Collection[str], configs: Collection[str]) -> Self:
        """Read the text of an id. Names may hold `-`, so only a plan's names tell where one ends.

        Raises:
            UsageError: it is no trial of these tasks and configs.
        """
        pair, _, attempt = text.rpartition("-t")
        for config in configs:
            task = pair.removesuffix(f"-{config}")
            if task != pair and task in tasks and attempt.isdecimal():
                return cls(task, config, int(attempt))
        raise UsageError(
            f"{text!r} is no trial of this run; expected TASK-CONFIG-tN with a task and a config of its plan"
        )


@dataclass(frozen=True)
class TrialSpec(Record):
    """One trial, before it runs."""

    task: str
    config: str
    attempt: int
    seed: int
    """Shared by every config of the same (task, attempt)."""

    @property
    def id(self) -> TrialId:
        return TrialId(self.task, self.config, self.attempt)


# ------------------------------------------------------------------------------------------------ model and shell


@dataclass(frozen=True)
class Reply(Record):
    """One reply of the model."""

    text: str
    """The answer, without the thought before it; empty if the reply ended within the thought."""
    finish_reason: Literal["stop", "length"]
    prompt_tokens: int
    completion_tokens: int
    model_s: float
    """Seconds from request to reply, waiting for the batch included."""
    receipts: tuple[Receipt, ...] = ()
    """One per requested steer, in that order."""
    cached_tokens: int = 0
    """Prompt tokens whose keys and values came from an earlier request under the same steers."""
    cached_under: tuple[Steer, ...] = ()
    """The steers of that earlier request, which the engine keeps with the keys and values."""
    isolation: IsolationCheck | None = None
    """The check of positions without a steer; None from an engine that does not make it."""
    thought: str = ""
    """What the model thought before it answered, without tags; empty if nothing."""
    tags: ThoughtTags | None = None
    """The tags of the model's thoughts where its answer holds one: in a command, or around another thought."""
    logprob: float | None = None
    """The log-likelihood of a reply that was given and not drawn; None of any other."""


@dataclass(frozen=True)
class Parse(Record):
    """The result of parsing a reply; depends on its text, and on whether the token limit cut it."""

    status: ParseStatus
    commands: tuple[str, ...] = ()
    done: bool = False
    error: str = ""
    """For `failed`: what was wrong and what was expected, as the model reads it; for `repaired`: the repair."""

    @property
    def no_cmd(self) -> bool:
        """The reply parses, is not "done", and carries no command."""
        return self.status != "failed" and not self.done and not self.commands


@dataclass(frozen=True)
class CommandResult(Record):
    """The output of one shell command (stdout and stderr in order) and how it ended."""

    output: str
    exit_code: int | None
    """None when the command was ended by its timeout."""
    timed_out: bool = False
    dropped_bytes: int = 0
    """Bytes left out of the middle of a long output."""
    shell_restarted: bool = False
    """Whether the shell was replaced, which loses its variables and background jobs."""
    duration_s: float = 0.0


@dataclass(frozen=True)
class Step(Record):
    """One turn: the model's reply, its parse, the results of its commands, and the observation."""

    index: int
    """From 0."""
    reply: Reply
    parse: Parse
    results: tuple[CommandResult, ...] = ()
    observation: str = ""
    """The text fed back to the model; empty after the last step."""
    sandbox_s: float = 0.0
    timestamp: str = ""
    """ISO 8601, UTC, when the reply arrived."""


# ------------------------------------------------------------------------------------------------ results


@dataclass(frozen=True)
class Episode(Record):
    """One run of the agent loop, before the verifier."""

    messages: tuple[dict[str, str], ...]
    """The opening messages: system prompt, few-shot examples, instruction."""
    steps: tuple[Step, ...]
    end_reason: EndReason
    error: str = ""

    @property
    def parse_fail(self) -> int:
        return sum(step.parse.status == "failed" for step in self.steps)

    @property
    def repaired(self) -> int:
        return sum(step.parse.status == "repaired" for step in self.steps)

    @property
    def no_cmd(self) -> int:
        return sum(step.parse.no_cmd for step in self.steps)


@dataclass(frozen=True)
class Measured(Record):
    """What the receipts of one steer showed over the replies of a trial."""

    layer: int
    op: Op
    expected: float | None
    """The expected shift (`add`) or level (`ablate`, `set`); None if it was not known beforehand."""
    mean: float | None
    """The measured shift or level, averaged over the replies; None if no position was steered."""


@dataclass(frozen=True)
class LostTry(Record):
    """A try of a trial that a fault of the instrument ended, after which the trial began anew."""

    error: str
    away: InstrumentPart | None = None
    """What was out, and came back after `waited_s`, or has other hosts that took the trial; None where nothing was, so
    that the try counts as a retry, unless the process of the trial was suspended."""
    waited_s: float = 0.0
    started: str = ""
    """ISO 8601, UTC."""
    wall_s: float = 0.0
    """Seconds from the start of the try to its end."""
    host: str = ""
    """As of `Outcome`."""


ONLY_HERE = "the verifier fails only on what the agent left"
"""How the note of a trial begins whose verifier failed, although it worked where no agent was."""


@dataclass(frozen=True)
class Outcome(Record):
    """The result of one trial: one line of `trials.jsonl`."""

    run: str
    trial: str = field(init=False)
    """The text of `id`, for people and for tools that read the file."""
    task: str
    config: str
    layer: Layers
    alpha: float | None
    attempt: int
    seed: int
    outcome: Status
    """`error` means that the infrastructure failed, never the model."""
    reward: float | None = None
    """The reward that counts; None for an error."""
    rewards: Mapping[str, float] = field(default_factory=dict)
    """All rewards of the verifier by name, or what is earned where it cannot judge the attempt; empty for an error, and
    in lines of an earlier capvec."""
    steps: int = 0
    parse_fail: int = 0
    """Replies that the protocol could not parse."""
    repaired: int = 0
    no_cmd: int = 0
    """Replies that parse, are not "done" and carry no command."""
    end_reason: EndReason = "error"
    prompt_tokens: int = 0
    completion_tokens: int = 0
    model_s: float = 0.0
    sandbox_s: float = 0.0
    wall_s: float = 0.0
    started: str = ""
    """ISO 8601, UTC."""
    session: str = ""
    """Identity of the session that ran it, as in `provenance.json`; empty in lines of an earlier capvec."""
    worker: str = ""
    host: str = ""
    """The Docker host that ran it, as `--docker-host` names it; empty where that was not given."""
    measured: tuple[Measured, ...] = ()
    """One per steer of the config; empty if there was no reply."""
    error: str = ""
    fault: str = field(init=False)
    """The class of an error (`errors.fault_of`), for people and for tools that read the file; empty otherwise."""
    note: str = ""
    """Why it counts as judged although the verifier failed on what the agent left."""
    lost: tuple[LostTry, ...] = ()
    """The tries before, oldest first; all other fields are of the last try."""
    away: InstrumentPart | None = None
    """What did not come back in time, so that the session stopped; of an error."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "trial", str(self.id))
        object.__setattr__(self, "fault", fault_of(self.error) if self.outcome == "error" else "")

    @property
    def id(self) -> TrialId:
        return TrialId(self.task, self.config, self.attempt)

    @property
    def tries(self) -> int:
        """How often the trial began."""
        return len(self.lost) + 1

    def to_json(self) -> dict[str, Any]:
        data = super().to_json()
        return {"run": data.pop("run"), "trial": self.trial, **data}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """As for every record; also reads lines of an earlier capvec, with one shift per trial."""
        old = {**data}
        old.pop("trial", None)
        old.pop("fault", None)
        expected, mean = old.pop("shift_expected", None), old.pop("shift_measured", None)
        if mean is not None:
            old["measured"] = [{"layer": data["layer"], "op": "add", "expected": expected, "mean": mean}]
        return super().from_json(old)


@dataclass(frozen=True)
class Interval:
    """A confidence interval; both ends in [0, 1] for a proportion, in [−1, 1] for a difference of two.

    Of a reward it is on the scale of the rewards.
    """

    low: float
    high: float


@dataclass(frozen=True)
class Trace(Record):
    """One recorded agent run on one task; directions are built from traces."""

    id: str
    task: str
    model: str
    """The name of the acting model, which `same-model` and `cross-model` compare."""
    messages: tuple[dict[str, str], ...]
    """The whole conversation in order, replies and observations included."""
    reward: float | None
    steps: int
    parse_fail: int | None
    """None if the source does not allow counting."""
    no_cmd: int | None
    config: str = Config.BASELINE
    uncounted: str = ""
    """Why `parse_fail` or `no_cmd` is None; empty if neither is."""
