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
Layers = int | str | None
"""Where a config steers: one layer, or several as in `20+22`; None where nothing is steered."""
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
    """One intervention on the residual h of one layer, along v_L; d_L = v_L / ‖v_L‖ (formulas: `engine.hooks.steer`).

    Raises:
        UsageError: `ablate` with an α, which it would not use.
    """

    layer: int
    """Decoder block, counted from 0; its residual is the block's output."""
    direction: str
    """Content hash of the direction, as the engine knows it."""
    alpha: float
    """Multiplier of the *stored* vector v_L, whatever unit the user typed; 1 for `ablate`."""
    op: Op = "add"
    """`add`: α·v_L is added. `ablate`: the component along d_L is removed. `set`: the component becomes α·‖v_L‖."""
    positions: Positions = "all"
    """`all`; `prompt`, the tokens of the request's prompt; `generated`, the tokens that are fed back after it;
    `assistant`, what assistant messages say in the prompt, and what is generated."""
    keep_norm: bool = False
    """Whether h gets the length back that it had."""

    def __post_init__(self) -> None:
        if self.op == "ablate" and self.alpha != 1.0:
            raise UsageError(
                f"a steer that ablates, with alpha {self.alpha:g}; expected 1, since ablation has no strength"
            )


@dataclass(frozen=True)
class Receipt(Record):
    """What one steer did to one reply, measured inside the forward passes.

    h_in is the block's output before the steer, h_out is what the next module really received, d_L the unit vector. s
    is 1, and where the norm is kept the factor that this took, as measured: what is orthogonal to every direction of
    the row at this layer, a steer does not move, so h_out holds s times what h_in holds of it. All is computed in
    float64, over the row's own positions (no padding). What is measured over the steered positions is None where there
    were none: a reply of one token has no position that was generated and fed back.
    """

    steer: Steer
    fired: int
    """Forward passes in which the hook ran for this row."""
    forwards: int
    """Forward passes that the decode loop made for this row, counted outside the hook."""
    passed: int
    """Token positions that passed through the hook."""
    steered: int
    """Those of them that the steer applied to."""
    block: str = ""
    """Dotted path of the module whose output was steered, as PyTorch named it to the hook; several if it changed."""
    receiver: str = ""
    """Dotted path of the module that h_out was measured in front of; the block itself where nothing is known to follow.
    """
    vector: str = ""
    """Content hash of v_L (`engine.protocol.vector_hash`), made again from its length and the unit vector that was
    multiplied, averaged over the passes: another vector in any one of them is another hash."""
    shift_mean: float | None = None
    """⟨h_out/s − h_in, d_L⟩ over the steered positions, as the next two."""
    shift_min: float | None = None
    shift_max: float | None = None
    level_mean: float | None = None
    """⟨h_out/s, d_L⟩ over the steered positions, as the next two."""
    level_min: float | None = None
    level_max: float | None = None
    norm_ratio_min: float | None = None
    """‖h_out‖ / ‖h_in‖ over the steered positions, as the next one."""
    norm_ratio_max: float | None = None
    ambient_norm: float | None = None
    """Mean ‖h_in‖ over the steered positions: the unit of the dose."""
    rounding: float | None = None
    """Bound for what rounding the residual to its dtype does to `shift_mean` and `level_mean`: the mean of
    ε·‖g ∘ h_out‖₂, over three standard deviations of the sum of independent rounding errors, each uniform in
    ±ε·|h_j|/2. g is how level and shift depend on h_out: d_L, and where the norm is kept (d_L − level·q)/s, as s
    depends on h_out too, by its own q (`engine.hooks.witness`)."""
    rounding_max: float | None = None
    """The same bound at the position where it is largest: for what is least and largest."""
    rounding_worst: float | None = None
    """The most that rounding can do at any steered position: ε/2·Σ|g ∘ h_out|, where all errors add up. They do where
    a steer moves coordinates by less than the dtype resolves: what little is there of a direction that is to be ablated
    then stays."""
    error_max: float | None = None
    """The largest difference, over the steered positions, between the shift and what the formulas of all steers of the
    row at this layer make of h_in, worked out by the witness."""
    stray_max: float | None = None
    """The largest part of h_out/s − h_in that lies along none of the row's directions at this layer, over the steered
    positions, in units of the most that rounding h_out can make of it, ε/2·‖h_out‖/s: at most 1."""
    scale_min: float | None = None
    """s over the steered positions, as the next one: exactly 1 where nothing was to keep the norm."""
    scale_max: float | None = None


@dataclass(frozen=True)
class Stillness(Record):
    """What happened to one reply's residuals where its own steers were to do nothing, whatever its neighbours' did.

    Rows share forward passes, and a hook that steers one row of a batch has all of them in its hands. So every row is
    watched at every site, a layer at which any row of the pass is steered: a reply without steers as well as one that
    is steered at other layers or at other positions.
    """

    forwards: int
    """Forward passes that the decode loop made for this row."""
    sites: int
    """Sites in those passes, counted where they are set up."""
    watched: int
    """Those of them at which the residual was measured for this row, counted where it is measured."""
    steered: int
    """Positions, summed over sites, that were not watched, since a steer of the row was to move them."""
    leak_max: float
    """The largest ‖h_out − h_in‖ of all others: 0, or something leaked."""


@dataclass(frozen=True)
class Stack(Record):
    """The decoder blocks of an engine's model, by which receipts name them."""

    blocks: str = ""
    """Dotted path of their list, such as `model.layers`; block L is `model.layers.L`."""
    n_layers: int = 0


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
    layer: Layers = None
    alpha: float | None = None
    """As the user typed it, in `alpha_unit`; None where it is not used."""
    alpha_unit: AlphaUnit = "stored"
    dose: float | None = None
    """|α|·‖v_L‖ / ambient norm of the contrast, at several layers the largest; None where there is no α, or no ambient
    norm is known."""
    system_suffix: str = ""
    """Text appended to the system prompt (the `prompt` control); empty elsewhere."""
    control: ControlOf | None = None
    targets: tuple[float | None, ...] = ()
    """What each steer's receipt has to show, from the direction's file and not from the engine: the shift where it
    adds, the level where it ablates or sets, None where that is not known beforehand (`engine.receipts.closed_forms`).
    """
    vectors: tuple[str, ...] = ()
    """Content hash of the vector that each steer multiplies, from the direction's file (`engine.protocol.vector_hash`).
    """

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
    """One for each steer that was asked for, in that order."""
    cached_tokens: int = 0
    """Prompt tokens whose keys and values came from an earlier request under the same steers."""
    cached_under: tuple[Steer, ...] = ()
    """The steers of that earlier request, as the engine kept them with the keys and values."""
    stillness: Stillness | None = None
    """What happened where nothing was to happen; None from an engine that does not say."""


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
class Measured(Record):
    """What the receipts of one steer showed, over the replies of a trial."""

    layer: int
    op: Op
    expected: float | None
    """The shift (`add`) or the level (`ablate`, `set`) that they had to show; None if it was not known beforehand."""
    mean: float | None
    """Mean over the replies of what they showed of it; None where no position was steered."""


@dataclass(frozen=True)
class Outcome(Record):
    """The result of one trial: one line of `trials.jsonl`."""

    run: str
    trial: str
    task: str
    config: str
    layer: Layers
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
    measured: tuple[Measured, ...] = ()
    """One for each steer of the config, where there was a reply."""
    error: str = ""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """As every record; also reads a line from before steers had operations, with one shift for each trial."""
        old = dict(data)
        expected, mean = old.pop("shift_expected", None), old.pop("shift_measured", None)
        if mean is not None:
            old["measured"] = [{"layer": data["layer"], "op": "add", "expected": expected, "mean": mean}]
        return super().from_json(old)


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
