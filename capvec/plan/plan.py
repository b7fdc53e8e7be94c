"""The trials of a run and their order. The same inputs give the same plan in every process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from capvec.engines.generation import Shaping
from capvec.engines.protocol import ChatTemplateInfo, GenerationDefaults
from capvec.errors import UsageError
from capvec.plan.dealing import Dealing
from capvec.plan.options import SweepOptions
from capvec.plan.seeds import trial_seed
from capvec.records import Config, Thinking, TrialId, TrialSpec
from capvec.serial import Record
from capvec.steering import BlockLayout
from capvec.task_records import Capabilities, Task
from capvec.text import counted

SHAPING = ("top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty")
"""Options, and fields of the settings, that shape the distribution from which a token is drawn."""


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
    session: str = ""
    """Identity of the session that runs it; empty in a plan that was read from a run folder."""
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
