"""The vocabulary between stages: frozen dataclasses, each with `to_json` and `from_json`.

Nothing here imports torch, docker or pytest, so every process can share it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import cattrs
from cattrs.preconf.json import make_converter

from capvec.errors import UsageError

_converter = make_converter(forbid_extra_keys=True)
_converter.register_structure_hook(Path, lambda value, _: Path(value))
_converter.register_unstructure_hook(Path, str)

AlphaUnit = Literal["stored", "norm", "ambient"]
Op = Literal["add", "ablate", "set"]
Positions = Literal["all", "prompt", "generated", "assistant"]
ParseStatus = Literal["strict", "repaired", "failed"]
Status = Literal["solved", "unsolved", "error"]
EndReason = Literal["done", "max_steps", "parse_fail_limit", "no_cmd_limit", "context_full", "time", "error"]
Message = Mapping[str, str]
"""One chat message, `{"role": "system" | "user" | "assistant", "content": text}`."""


class Record:
    """A frozen dataclass that goes to JSON and back without loss."""

    def to_json(self) -> dict[str, Any]:
        data: dict[str, Any] = _converter.unstructure(self)
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Build the record from parsed JSON.

        Raises:
            UsageError: a key is missing or unknown, or a value has the wrong type.
        """
        try:
            return _converter.structure(data, cls)
        except (cattrs.BaseValidationError, cattrs.StructureHandlerNotFoundError, TypeError, ValueError) as error:
            reasons = "; ".join(cattrs.transform_error(error, path=cls.__name__))
            raise UsageError(f"not a {cls.__name__} record: {reasons}") from error


# ------------------------------------------------------------------------------------------------ tasks


@dataclass(frozen=True)
class Limits(Record):
    """What one sandbox may use."""

    cpus: float = 1.0
    memory_mb: int = 512
    pids: int = 128
    network: bool = False
    cap_add: tuple[str, ...] = ()
    """Linux capabilities added back to none, each because the task's `task.toml` documents the need."""


@dataclass(frozen=True)
class Task(Record):
    """An instruction, an environment and a verifier, read from a Harbor task folder."""

    name: str
    """Unique within a sweep; letters, digits, `.`, `_` and `-`."""
    path: Path
    instruction: str
    checksum: str
    """SHA-256 over the folder's files, hex."""
    limits: Limits = field(default_factory=Limits)
    image: str | None = None
    """A ready image to use instead of building `environment/Dockerfile`."""
    build_timeout_s: float = 600.0
    agent_timeout_s: float = 600.0
    verifier_timeout_s: float = 120.0
    env: Mapping[str, str] = field(default_factory=dict)
    """Environment variables of the container, for agent, verifier and solution alike."""
    verifier_env: Mapping[str, str] = field(default_factory=dict)
    solution_env: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)


# ------------------------------------------------------------------------------------------------ steering


@dataclass(frozen=True)
class Steer(Record):
    """One intervention on the residual of one layer: h ← h + α·v_L."""

    layer: int
    """Decoder block, counted from 0; its residual is the block's output."""
    direction: str
    """Content hash of the direction, as the engine knows it."""
    alpha: float
    """Multiplier of the *stored* vector v_L, whatever unit the user typed."""
    op: Op = "add"
    positions: Positions = "all"


@dataclass(frozen=True)
class Receipt(Record):
    """What one steer did to one reply, measured inside the forward passes.

    The shift is ⟨h_out − h_in, d_L⟩ with d_L the unit vector: h_in is the block's output before the steer, h_out is
    what the next module really received. Both are projected in float32, over the row's own positions (no padding).
    """

    layer: int
    direction: str
    alpha: float
    fired: int
    """Forward passes in which the hook ran for this row."""
    forwards: int
    """Forward passes that the decode loop made for this row, counted outside the hook."""
    positions: int
    """Token positions that passed through the hook."""
    expected_shift: float
    """⟨Σ_k α_k·v_k, d_L⟩ over every steer of this row at this layer; α·‖v_L‖ when there is one."""
    shift_mean: float
    shift_min: float
    shift_max: float
    ambient_norm: float
    """Mean ‖h_in‖ over the positions: the unit of the dose."""
    rounding_max: float = 0.0
    """The same bound at the position where it is largest: for `shift_min` and `shift_max`."""
    rounding: float = 0.0
    """Bound for what rounding the residual to its dtype does to `shift_mean`: the mean of ε·‖d_L ∘ h_out‖₂, over three
    standard deviations of the sum of independent rounding errors, each uniform in ±ε·|h_j|/2."""


@dataclass(frozen=True)
class ControlOf(Record):
    """What a control config is there for."""

    kind: str
    """As `--controls` names it."""
    configs: tuple[str, ...]
    """The steered configs that it controls for."""


@dataclass(frozen=True)
class Config(Record):
    """One arm of the sweep."""

    name: str
    kind: Literal["baseline", "steered", "control"]
    steers: tuple[Steer, ...] = ()
    layer: int | None = None
    alpha: float | None = None
    """As the user typed it, in `alpha_unit`."""
    alpha_unit: AlphaUnit = "stored"
    dose: float | None = None
    """|α|·‖v_L‖ / ambient norm of the contrast; None where nothing is steered."""
    system_suffix: str = ""
    """Text appended to the system prompt (the `prompt` control); empty elsewhere."""
    control: ControlOf | None = None
    shifts: tuple[float, ...] = ()
    """The shift that each steer's receipt has to show: α·‖v_L‖, from the direction's file and not from the engine."""

    BASELINE: ClassVar[str] = "baseline"


@dataclass(frozen=True)
class TrialSpec(Record):
    """One (task, config, attempt), before it runs."""

    task: str
    config: str
    attempt: int
    seed: int
    """Shared by every config of the same (task, attempt)."""

    @property
    def id(self) -> str:
        """Unique within a run; also the pytest id and the stem of the trajectory file."""
        return f"{self.task}-{self.config}-t{self.attempt}"


# ------------------------------------------------------------------------------------------------ model and shell


@dataclass(frozen=True)
class Reply(Record):
    """One answer of the model."""

    text: str
    finish_reason: Literal["stop", "length"]
    prompt_tokens: int
    completion_tokens: int
    model_s: float
    """Seconds from request to reply, waiting for the batch included."""
    receipts: tuple[Receipt, ...] = ()
    cached_tokens: int = 0
    """Prompt tokens whose keys and values came from an earlier request under the same steers."""


@dataclass(frozen=True)
class Parse(Record):
    """What a protocol made of a reply. Pure: the same text always gives the same parse."""

    status: ParseStatus
    commands: tuple[str, ...] = ()
    done: bool = False
    error: str = ""
    """For `failed`: what was wrong and what was expected, in words the model can act on; for `repaired`: what was
    mended."""

    @property
    def no_cmd(self) -> bool:
        """The reply parses, is not "done", and carries no command."""
        return self.status != "failed" and not self.done and not self.commands


@dataclass(frozen=True)
class CommandResult(Record):
    """What one shell command printed (stdout and stderr in order) and how it ended."""

    output: str
    exit_code: int | None
    """None when the command was ended by its timeout."""
    timed_out: bool = False
    dropped_bytes: int = 0
    """Bytes left out of the middle of a long output."""
    shell_restarted: bool = False
    """The persistent shell had to be replaced, so variables and background jobs are gone."""
    duration_s: float = 0.0


@dataclass(frozen=True)
class Step(Record):
    """One turn: the model's reply, its parse, what the commands did, and what the model was told."""

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
    """What the agent loop hands back: everything said and done, before the verifier speaks."""

    messages: tuple[dict[str, str], ...]
    """The opening messages (system, few-shot examples, instruction) as the model saw them."""
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
class Outcome(Record):
    """The result of one trial: one line of `trials.jsonl`."""

    run: str
    trial: str
    task: str
    config: str
    layer: int | None
    alpha: float | None
    attempt: int
    seed: int
    outcome: Status
    """`error` means that the instrument failed, never the model."""
    reward: float | None = None
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
    worker: str = ""
    shift_expected: float | None = None
    """α·‖v_L‖ that the receipts had to show; None where nothing was steered."""
    shift_measured: float | None = None
    """Mean of the measured shifts over every reply of the trial."""
    error: str = ""


@dataclass(frozen=True)
class Trace(Record):
    """One recorded agent run on one task: what a direction is built from."""

    id: str
    task: str
    model: str
    """Name of the model that acted; `same-model` and `cross-model` compare it."""
    messages: tuple[dict[str, str], ...]
    """The whole conversation in order, replies and observations included."""
    reward: float | None
    steps: int
    parse_fail: int | None
    """None where the source does not let us count."""
    no_cmd: int | None
    config: str = Config.BASELINE
    uncounted: str = ""
    """Why `parse_fail` or `no_cmd` is not known; empty where both are."""
