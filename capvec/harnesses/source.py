"""What a harness recorded: one value for every tool, and what the user says about how to read it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from capvec.errors import UsageError
from capvec.records import Status
from capvec.serial import Record
from capvec.text import encodable, enumerated

UNKNOWN_OUTCOME = "the results say neither that it was solved nor that it was not"
"""The error of a trial without an outcome."""
_PASS_AT_K = re.compile(r"pass[@_^ ]?(?:at[_ ]?)?[k\d]", re.IGNORECASE)
"""In the name of a column or a metric."""


@dataclass(frozen=True)
class Reading(Record):
    """How the user wants results to be read."""

    columns: Mapping[str, str] = field(default_factory=dict)
    """Field of a table (`table.COLUMNS`) → the user's name of its column."""
    reward: str | None = None
    """The reward, score or metric that counts, where there are several."""
    solved_at: float | None = None
    """The least reward of a trial that is solved. None stands for 1, and then rewards are from 0 to 1."""

    @property
    def threshold(self) -> float:
        """The least reward of a trial that is solved."""
        return 1.0 if self.solved_at is None else self.solved_at

    def status(self, reward: float) -> Status:
        """Whether a reward is that of a solved trial."""
        return "solved" if reward >= self.threshold else "unsolved"


@dataclass(frozen=True)
class Scale:
    """The numbers that decide which trials of a source are solved."""

    name: str
    """What they are, as in `column score`."""
    low: float
    high: float
    share: float | None = None
    """One of them that is between 0 and 1; None if there is none."""

    @classmethod
    def of(cls, name: str, rewards: Iterable[float | None]) -> Self | None:
        """Of these rewards; None without any."""
        known = [reward for reward in rewards if reward is not None]
        if not known:
            return None
        return cls(name, min(known), max(known), next((reward for reward in known if 0 < reward < 1), None))


@dataclass(frozen=True)
class Trial(Record):
    """What is on record of one trial. A count is None where nobody recorded it."""

    task: str
    config: str
    """As the results name it; empty if they do not."""
    outcome: Status
    attempt: int | None = None
    """None where trials of a task are not numbered: they then count in their order."""
    reward: float | None = None
    steps: int | None = None
    parse_fail: int | None = None
    no_cmd: int | None = None
    repaired: int | None = None
    seed: int | None = None
    error: str = ""
    """Why the instrument failed; empty for a trial that was judged."""
    family: str = ""
    """Of the task; so is the next. Empty where unknown."""
    split: str = ""

    def __post_init__(self) -> None:
        for name in ("task", "config", "error", "family", "split"):
            object.__setattr__(self, name, encodable(getattr(self, name)))


@dataclass(frozen=True)
class Source:
    """The trials of one file or folder."""

    path: Path | None
    """None for a table in memory."""
    tool: str
    """What wrote it, as in `Harbor`."""
    trials: tuple[Trial, ...]
    errors_apart: bool | None = None
    """Whether failures of the instrument are told from failures of the agent; None where the results do not show it."""
    notes: tuple[str, ...] = ()
    """Sentences on what was left out, and on choices that were made."""
    files: tuple[Path, ...] = ()
    """Those that the trials were read from; none for a table in memory."""
    scale: Scale | None = None
    """None where no number decides which trials are solved, and where the trials were read before."""
    rewards: tuple[str, ...] | None = None
    """The names of its rewards, scores or metrics, the one that was asked for among them if it was found. None for a
    table, whose columns are named, and where the trials were read before."""

    @property
    def name(self) -> str:
        """The path, for messages and reports."""
        return "the table" if self.path is None else str(self.path)

    @property
    def configs(self) -> tuple[str, ...]:
        """The names of its configs, in their order; an empty one for trials whose config is not named."""
        return tuple(dict.fromkeys(trial.config for trial in self.trials))

    def called(self, config: str) -> Source:
        """The same, with the user's name for its one config.

        Raises:
            UsageError: it has several.
        """
        if len(self.configs) > 1:
            raise UsageError(
                f"{config}={self.name}: it holds several configs ({enumerated(self.configs)}), so one name cannot "
                "stand for all; give the path alone"
            )
        return replace(self, trials=tuple(replace(trial, config=config) for trial in self.trials))


def check_sources(sources: Sequence[Source], reading: Reading) -> None:
    """Refuse sources that cannot be judged together, or not as they were asked to be read.

    Raises:
        UsageError: a file is read twice; columns are named and there is no table; no result has the reward that is
            named; or 1 need not be the reward of a solved trial.
    """
    _check_files(sources)
    _check_named(sources, reading)
    _check_scale(sources, reading)


def _check_files(sources: Sequence[Source]) -> None:
    """Refuse a file that is read twice: its trials would count twice."""
    read: dict[Path, Source] = {}
    for source in sources:
        for file in source.files:
            if (earlier := read.setdefault(file.resolve(), source)) is not source:
                raise UsageError(f"{source.name}: {file} is read for {earlier.name} already; give each file once")


def _check_named(sources: Sequence[Source], reading: Reading) -> None:
    """Refuse columns and a reward that are named and that no source has."""
    if reading.columns and all(source.rewards is not None for source in sources):
        raise UsageError(f"--columns: there is no table, but {_tools(sources)}; leave it out")
    if reading.reward is None:
        return
    if all(source.rewards is None for source in sources):
        column = f"--columns reward={reading.reward}"
        raise UsageError(f"--reward {reading.reward}: the rewards of a table are a column; name it, as in {column}")
    known = dict.fromkeys(name for source in sources for name in source.rewards or ())
    if reading.reward not in known:
        has = f"the results have {enumerated([*known])}" if known else f"{_tools(sources)} has no rewards with names"
        raise UsageError(f"--reward {reading.reward}: {has}; expected one of these, or leave it out")


def _tools(sources: Sequence[Source]) -> str:
    return ", ".join(dict.fromkeys(source.tool for source in sources))


def _check_scale(sources: Sequence[Source], reading: Reading) -> None:
    """Refuse rewards of which 1 need not mean solved, and a threshold by which all trials are solved, or none.

    Raises:
        UsageError: no threshold was given, and rewards are not from 0 to 1 or are pass@k of several attempts; or one
            was given that is not on their scale.
    """
    scales = [source.scale for source in sources if source.scale is not None]
    if reading.solved_at is None:
        for source in sources:
            if source.scale is not None:
                _check_plain(source.name, source.scale)
        return
    if not scales:
        raise UsageError(
            f"--solved-at {reading.solved_at:g}: no number decides whether a trial is solved, only words; leave it "
            "out, or name the column of the numbers, as in --columns outcome=score"
        )
    seen = min(one.low for one in scales), max(one.high for one in scales)
    low, high = min(0.0, seen[0]), max(1.0, seen[1])
    if not low < reading.solved_at <= high:
        raise UsageError(
            f"--solved-at {reading.solved_at:g}: {scales[0].name} goes from {seen[0]:g} to {seen[1]:g}, so that "
            f"{'no' if reading.solved_at > high else 'every'} trial would be solved; expected a value above {low:g} "
            f"and at most {high:g}"
        )


def _check_plain(where: str, scale: Scale) -> None:
    """Check that 1 is the reward of a solved trial."""
    if not 0 <= scale.low <= scale.high <= 1:
        raise UsageError(
            f"{where}: {scale.name} goes from {scale.low:g} to {scale.high:g}, and only of rewards from 0 to 1 it is "
            "known that 1 is solved; say from which value on a trial is solved: --solved-at R"
        )
    if scale.share is not None and _PASS_AT_K.search(scale.name):
        raise UsageError(
            f"{where}: {scale.name} holds {scale.share:g}, a share of several attempts; expected a row for each "
            "attempt with 0 or 1, from which pass@k is computed, or --solved-at R"
        )


def without_provider(models: Iterable[str]) -> dict[str, str]:
    """Model → its name without that of its provider, where these tell the models apart."""
    short = {model: model.rsplit("/", 1)[-1] for model in models}
    return short if len(set(short.values())) == len(short) else {model: model for model in short}


def judged(reward: float | None, reading: Reading, error: str = "") -> tuple[Status, str]:
    """The outcome of a reward, and why the instrument failed where it did: a trial without a reward was not judged."""
    if error or reward is None:
        return "error", error or UNKNOWN_OUTCOME
    return reading.status(reward), ""


def with_attempts(trials: Iterable[Trial], where: str) -> tuple[Trial, ...]:
    """Trials with attempts that count from 1: as they are numbered, or else in their order.

    Raises:
        UsageError: one number stands for two trials of a task and config.
    """
    taken: dict[tuple[str, str], set[int]] = {}
    found = []
    for trial in trials:
        used = taken.setdefault((trial.task, trial.config), set())
        attempt = len(used) + 1 if trial.attempt is None else trial.attempt
        if attempt in used:
            raise UsageError(
                f"{where}: attempt {attempt} of task {trial.task} under {trial.config} is there twice; expected one "
                "trial for each attempt. If they are of different configs, name them: NAME=PATH for each"
            )
        used.add(attempt)
        found.append(replace(trial, attempt=attempt))
    lowest = min((trial.attempt for trial in found if trial.attempt is not None), default=1)
    return tuple(replace(trial, attempt=(trial.attempt or 0) + 1) if lowest == 0 else trial for trial in found)
