"""The trials of a run and their order. The same inputs give the same plan in every process."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

from capvec.directions.direction import Direction
from capvec.engines.generation import Shaping
from capvec.engines.protocol import ChatTemplateInfo, GenerationDefaults
from capvec.errors import UsageError
from capvec.plan.dealing import Dealing
from capvec.plan.option_parsers import Control
from capvec.plan.options import SweepOptions
from capvec.plan.seeds import trial_seed
from capvec.receipts import closed_forms
from capvec.records import AlphaUnit, Config, ControlOf, Thinking, TrialId, TrialSpec
from capvec.serial import Record
from capvec.steering import BlockLayout, Op, Positions, Steer, vector_hash
from capvec.task_records import Capabilities, Task
from capvec.text import counted

ConfigKind = Literal["steered", "control"]
_OF_STEERED = ("steered-", "ablate-", "set-")
"""How the names of steered configs begin."""
UNSTEERED = ("prompt", "constrained")
"""Controls without a vector, and the names of their configs."""
_CONTROL = re.compile(r"(?P<kind>zero|negated|(?:random|shuffled|orthogonal)(?=\d))\d*-(?P<where>.+)")
SHAPING = ("top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty")
"""Options, and fields of the settings, that shape the distribution from which a token is drawn."""
PROMPT_CONTROL = "Work carefully. Check the result of each command before you finish. Do the task completely."
"""The `prompt` control adds this instruction to the system prompt, and steers with no vector."""


@dataclass(frozen=True)
class Settings(Record):
    """How the agent acts in every trial of the run."""

    model: str
    protocol: str
    prompt_style: str
    max_steps: int
    max_tokens: int
    temperature: float
    thinking: Thinking | None = None
    """None where the chat template has no switch, and in a run of an earlier capvec."""
    allow_network: bool = False
    """Whether tasks that ask for a public network have it."""
    capabilities: Capabilities = "none"
    """Linux capabilities of the containers."""
    keep_processes: bool = False
    """Whether processes that an agent leaves running live on beside the verifier."""
    reward: str | None = None
    """The name of the verifier's reward that counts (`--reward`); None: `reward`, or the only one."""
    solved_at: float = 1.0
    """The least reward of a trial that is solved (`--solved-at`)."""
    top_p: float = Shaping.top_p
    """This and the next five are those of `Shaping`; an earlier capvec had none, and drew from all tokens."""
    top_k: int = Shaping.top_k
    min_p: float = Shaping.min_p
    presence_penalty: float = Shaping.presence_penalty
    frequency_penalty: float = Shaping.frequency_penalty
    repetition_penalty: float = Shaping.repetition_penalty

    @property
    def shaping(self) -> Shaping:
        """What changes the model's distribution beside the temperature."""
        return Shaping(**{name: getattr(self, name) for name in SHAPING})

    @property
    def sampling(self) -> str:
        """`temperature 0.7, top_p 0.9`: the temperature, and what else is not at its default."""
        shaped = (
            f"{name} {getattr(self, name):g}" for name in SHAPING if getattr(self, name) != getattr(Shaping, name)
        )
        return ", ".join((f"temperature {self.temperature:g}", *shaped))


def settings_for(
    options: SweepOptions, defaults: GenerationDefaults, model: str, template: ChatTemplateInfo | None = None
) -> Settings:
    """The settings that the user asked for, completed by the model's defaults.

    Args:
        options: the user's.
        defaults: the model's.
        model: its name.
        template: its chat template; None before an engine has looked at it.

    Raises:
        UsageError: thinking is to be switched, and the chat template has no switch; or the assistant's tokens are to be
            steered, and they are not known.
    """
    if template is not None and template.unmarked and options.positions == "assistant":
        raise UsageError(f"--positions assistant: {template.unmarked}; steer at other positions")
    return Settings(
        model=model,
        protocol=options.protocol,
        prompt_style=defaults.prompt_style,
        max_steps=options.max_steps or defaults.max_steps,
        max_tokens=options.max_tokens or defaults.max_tokens,
        temperature=options.temperature,
        thinking=options.thinking if template is None else _thinking(options.thinking, template, model),
        allow_network=options.allow_network,
        capabilities=options.capabilities,
        keep_processes=options.keep_processes,
        reward=options.reward,
        solved_at=options.solved_at,
        **{name: getattr(options, name) for name in SHAPING},
    )


def _thinking(asked: Thinking | None, template: ChatTemplateInfo, model: str) -> Thinking | None:
    """What was asked for, or off, as far as there is a switch."""
    if template.switch:
        if template.unknown_thoughts and (asked == "on" or (asked == "default" and template.thinks)):
            raise UsageError(
                f"--thinking {asked}: the chat template of {model} shows no tags around a thought, so commands in a "
                "thought could not be told from the answer's; use --thinking off, or give the model a "
                "chat_template.jinja that renders reasoning_content"
            )
        return asked or "off"
    if asked in ("on", "off"):
        raise UsageError(
            f"--thinking {asked}: the chat template of {model} has no switch for thinking; leave the option out"
        )
    return None


@dataclass(frozen=True)
class Plan(Record):
    """Everything that a worker has to know except the engine's address."""

    run: str
    """The name of the run: its folder's."""
    folder: Path
    tasks: tuple[Task, ...]
    configs: tuple[Config, ...]
    trials: tuple[TrialSpec, ...]
    settings: Settings
    study: str = "sweep"
    """The kind of study: also the mark that asks for it, and part of the name of its file in the suite."""
    sequential: bool = False
    """Whether configs may stop before their last trial (`--sequential`)."""
    layout: BlockLayout = field(default_factory=BlockLayout)
    """The decoder blocks of the served model; empty in a plan that steers nothing or was read from a run folder."""
    effect: float | None = None
    """The equivalence margin (`--effect`), a difference in pass rate; None for the verdict's default
    (`results.interim.equivalence_margin_of`)."""
    template: ChatTemplateInfo = field(default_factory=ChatTemplateInfo)
    """What the served model's chat template was found to do."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Task that was asked for and does not run → why."""
    unproved: Mapping[str, str] = field(default_factory=dict)
    """Task that runs, and of which no check showed that it can be solved → why."""
    merged: tuple[str, ...] = ()
    """Sentences on the runs that a merged run was made of; empty for any other run."""
    battery: Mapping[str, str] = field(default_factory=dict)
    """Item of the battery → digest of its question and answer; empty without `--battery`."""
    dealing: Dealing | None = None
    """Where the plan is of a shard, or of merged shards: what was dealt, and which shards it holds."""

    @property
    def title(self) -> str:
        """`Sweep NAME`; the study alone where the run is called the same."""
        return self.study.capitalize() + (f" {self.run}" if self.run != self.study else "")

    @property
    def shard(self) -> Dealing | None:
        """The dealing, where the plan is of a shard that was not merged: its numbers are of a part, for no verdict."""
        return None if self.merged else self.dealing

    @property
    def attempts(self) -> int:
        """Attempts at each (task, config), in all shards."""
        return self.dealing.attempts if self.dealing else max(trial.attempt for trial in self.trials)

    @property
    def tasks_in_all(self) -> int:
        """Number of tasks, in all shards."""
        return len(self.dealing.tasks) if self.dealing else len(self.tasks)

    @property
    def size(self) -> str:
        """`2 configs × 6 tasks × 1 attempt`, or `shard 3 of 8, 2 configs × 6 of 48 (task, attempt) pairs`."""
        configs = counted(len(self.configs), "config")
        if self.dealing is not None:
            pairs = f"{len(self.trials) // len(self.configs)} of {len(self.dealing.blocks)} (task, attempt) pairs"
            return f"{self.dealing.in_words}, {configs} × {pairs}"
        return f"{configs} × {counted(len(self.tasks), 'task')} × {counted(self.attempts, 'attempt')}"

    @property
    def steered(self) -> tuple[str, ...]:
        """The names of the steered configs, whose comparisons with the baseline are corrected for each other."""
        return tuple(config.name for config in self.configs if config.kind == "steered")

    def task(self, name: str) -> Task:
        return next(task for task in self.tasks if task.name == name)

    def config(self, name: str) -> Config:
        return next(config for config in self.configs if config.name == name)

    def trial(self, text: str) -> TrialSpec | None:
        """The trial whose id has this text; None if there is none."""
        return self._by_text.get(text)

    def trajectory(self, trial: TrialId) -> Path:
        """The file of a trial's trajectory."""
        return self.folder / "trajectories" / f"{trial}.json"

    def lost_try(self, trial: TrialId, number: int) -> Path:
        """The file of the trajectory of a try that a fault of the instrument ended; tries count from 1."""
        return self.folder / "lost" / f"{trial}-try{number}.json"

    @cached_property
    def _by_text(self) -> dict[str, TrialSpec]:
        return {str(trial.id): trial for trial in self.trials}


def interleave(tasks: Sequence[Task], configs: Sequence[Config], attempts: int, seed: int) -> tuple[TrialSpec, ...]:
    """Every (task, config, attempt) once.

    The configs of a (task, attempt) follow each other, and their order rotates from one (task, attempt) to the next.
    No config runs early or late as a block, so drift of the machine cannot pass for an effect.
    """
    trials = []
    for attempt in range(1, attempts + 1):
        for position, task in enumerate(tasks):
            turn = (position + attempt) % len(configs)
            trials += [
                TrialSpec(task.name, config.name, attempt, trial_seed(seed, task.name, attempt))
                for config in (*configs[turn:], *configs[:turn])
            ]
    return tuple(trials)


@dataclass(frozen=True)
class SteeringMode:
    """The operation, the positions and the norm of a config's steers; as in `Steer`."""

    op: Op = "add"
    positions: Positions = "all"
    keep_norm: bool = False

    @property
    def suffix(self) -> str:
        """The end of a config's name: its positions and `keepnorm`, where they are not the defaults."""
        where = f"-{self.positions}" if self.positions != "all" else ""
        return where + ("-keepnorm" if self.keep_norm else "")


PLAIN = SteeringMode()
"""The vector is added at every position."""


def config_name(
    layers: Sequence[int] | str, alpha: float | None, unit: AlphaUnit = "stored", mode: SteeringMode = PLAIN
) -> str:
    """The name of a steered config, such as `steered-L22-a4`, `set-L20+22-a4-generated` or `ablate-L22`.

    Args:
        layers: one or several; a text for those that are not known yet.
        alpha: None for `ablate`, which has none.
        unit: of `alpha`.
        mode: of steering; only what differs from the default is part of the name.
    """
    where = layers if isinstance(layers, str) else layers_label(layers)
    head = f"{'steered' if mode.op == 'add' else mode.op}-L{where}"
    strength = f"-a{alpha:g}" if alpha is not None else ""
    measure = f"-{unit}" if unit != "stored" and alpha is not None else ""
    return head + strength + measure + mode.suffix


def layers_label(layers: Sequence[int]) -> str:
    """`22`, or `20+22`."""
    return "+".join(map(str, layers))


def steered_config(
    direction: Direction,
    layers: int | Sequence[int],
    alpha: float | None,
    unit: AlphaUnit = "stored",
    mode: SteeringMode = PLAIN,
) -> Config:
    """The config that `config_name` names.

    Raises:
        UsageError: as `make_config`.
    """
    where = (layers,) if isinstance(layers, int) else tuple(layers)
    return make_config(config_name(where, alpha, unit, mode), "steered", direction, where, alpha, unit, mode)


def control_configs(
    controls: Sequence[Control],
    steered: Sequence[Config],
    direction: Direction,
    matched: Mapping[str, Sequence[Direction]],
    grammar: str = "",
) -> tuple[Config, ...]:
    """The control configs: one per control of every steered config, but a single `prompt` and a single `constrained`.

    A control steers at the layers and in the mode of its config; only `zero` always adds, since setting to 0 ablates.

    Args:
        controls: as `--controls` asked for.
        steered: the configs to control for.
        direction: the direction that they steer with.
        matched: the directions of the matched controls: kind (`random`, `shuffled`, `orthogonal`) → as many directions
            as the control counts.
        grammar: of the replies of `constrained`.

    Raises:
        UsageError: `negated` of an ablation, which has no sign.
    """
    configs: dict[str, Config] = {}
    for control in controls:
        if control.kind == "prompt":
            of = [(Config("prompt", "control", system_suffix=PROMPT_CONTROL), base) for base in steered]
        elif control.kind == "constrained":
            of = [(Config("constrained", "control", grammar=grammar), base) for base in steered]
        else:
            of = [(config, base) for base in steered for config in _controls_for(base, control, direction, matched)]
        for config, base in of:
            # One α = 0 serves every strength at a layer, and one config without a vector the whole sweep.
            earlier = configs[config.name].control if config.name in configs else None
            bases = (*(earlier.configs if earlier else ()), base.name)
            configs[config.name] = replace(config, control=ControlOf(control.kind, bases))
    return tuple(configs.values())


def control_names(control: Control, base: str, layers: int | str | None, mode: SteeringMode = PLAIN) -> tuple[str, ...]:
    """The names of the configs that control for a steered config.

    Args:
        control: which, and how many.
        base: the name of the steered config.
        layers: that it steers, as in its name.
        mode: of its steering.
    """
    where = base.removeprefix("steered-")
    match control.kind:
        case "zero":
            return (f"zero-L{layers}{mode.suffix}",)
        case "negated":
            return (f"negated-{where}",)
        case "random" | "shuffled" | "orthogonal" as kind:
            return tuple(f"{kind}{number}-{where}" for number in range(1, control.count + 1))
        case kind:  # without a vector, one serves the whole sweep
            return (kind,)


def _controls_for(
    base: Config, control: Control, direction: Direction, matched: Mapping[str, Sequence[Direction]]
) -> Iterator[Config]:
    first = base.steers[0]
    layers, unit = [steer.layer for steer in base.steers], base.alpha_unit
    mode = SteeringMode(first.op, first.positions, first.keep_norm)
    names = control_names(control, base.name, base.layer, mode)
    if control.kind == "zero":
        yield make_config(names[0], "control", direction, layers, 0.0, unit, replace(mode, op="add"))
    elif control.kind == "negated":
        if base.alpha is None:
            raise UsageError(f"--controls negated: {base.name} has no alpha whose sign could change; leave negated out")
        yield make_config(names[0], "control", direction, layers, -base.alpha, unit, mode)
    else:
        for name, other in zip(names, matched[control.kind], strict=True):
            yield make_config(name, "control", other, layers, base.alpha, unit, mode)


def control_of(name: str, others: Sequence[str]) -> ControlOf | None:
    """What a config controls for, as its name says: the inverse of the names that `control_configs` gives.

    Args:
        name: of the config.
        others: of those beside it.

    Returns:
        None for a name that is no control's of any of them.
    """
    if name in UNSTEERED:
        bases = tuple(other for other in others if other.startswith(_OF_STEERED))
        return ControlOf(name, bases) if bases else None
    match = _CONTROL.fullmatch(name)
    if match is None:
        return None
    kind, where = match["kind"], match["where"]
    found: list[str] = []
    for other in (other for other in others if other.startswith(_OF_STEERED)):
        its = other.removeprefix("steered-")
        layers = re.search(r"L[\d+]+", its)
        if where == its or (kind == "zero" and layers is not None and where.split("-")[0] == layers[0]):
            found.append(other)
    return ControlOf(kind, tuple(found)) if found else None


def make_config(
    name: str,
    kind: ConfigKind,
    direction: Direction,
    layers: int | Sequence[int],
    alpha: float | None,
    unit: AlphaUnit = "stored",
    mode: SteeringMode = PLAIN,
) -> Config:
    """A config that steers with a direction at one or several layers, by the same α at each.

    Args:
        name: unique within the run.
        kind: `steered` for a config that the study compares with the baseline, `control` for one of its controls.
        direction: v_L of every layer.
        layers: decoder blocks, from 0.
        alpha: in `unit`; `ablate` ignores it, and its config has neither α nor dose.
        unit: of `alpha`; its value in stored units differs from layer to layer.
        mode: of steering.

    Raises:
        UsageError: the direction is zero at a layer, its ambient norm is needed and unknown, or `alpha` is missing.
    """
    where = (layers,) if isinstance(layers, int) else tuple(layers)
    if mode.op == "ablate":
        alpha, used, unit = None, 1.0, "stored"
    elif alpha is None:
        raise UsageError(f"config {name}: --op {mode.op} needs an alpha; give --alpha")
    else:
        used = alpha
    steers = tuple(
        Steer(layer, direction.hash, direction.stored_alpha(used, unit, layer), *astuple(mode)) for layer in where
    )
    doses = [direction.dose(steer.alpha, steer.layer) for steer in steers] if alpha is not None else []
    return Config(
        name=name,
        kind=kind,
        steers=steers,
        targets=closed_forms(steers, [direction.vectors[layer] for layer in where]),
        vectors=tuple(vector_hash(direction.vectors[layer]) for layer in where),
        layer=where[0] if len(where) == 1 else layers_label(where),
        alpha=alpha,
        alpha_unit=unit,
        dose=max((dose for dose in doses if dose is not None), default=None),
    )
