"""A preregistration: what a sweep is to show and how it is judged, written down before its first trial.

The file is JSON. Its `hash` is the SHA-256 of everything else in it, so that a later change shows. Whoever changes the
file can compute another hash: what was claimed, and when, is proved by the hash that others have seen before the data.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self

from capvec import __version__
from capvec.directions.recipe import Recipe
from capvec.errors import UsageError
from capvec.parsing import read_json
from capvec.plan.options import SweepOptions
from capvec.reading import TEXT, shown
from capvec.records import Config
from capvec.results.gates import split_gate
from capvec.serial import Record
from capvec.stats.assumed import EQUIVALENCE_MARGIN
from capvec.stats.sequential import schedule
from capvec.stats.verdict import TEST
from capvec.storage import make_folder, writing
from capvec.task_records import Task

PREREGISTRATION = "preregistration.json"
"""In the run folder: the copy that its report is compared with."""
SHOWN = 12
"""Digits of a hash that messages and reports show."""
_LONGEST = 100
"""Characters of a value in a message."""
ConfigKind = Literal["baseline", "steered", "control"]
_ELSEWHERE = (
    *("alphas", "alpha_unit", "layers", "op", "positions", "keep_norm", "controls", "direction", "traces", "recipe"),
    *("model", "engine", "tasks", "skip_unsupported", "attempts", "effect", "sequential", "gate", "hypothesis"),
)
"""Options that stand in a preregistration under a name of their own, as far as they mean anything there."""


@dataclass(frozen=True)
class RegisteredModel(Record):
    """The model that is to be steered."""

    name: str
    revision: str | None = None
    """As in `EngineInfo`; None for the bundled models, and for one of the hub that is not on this machine."""
    engine: str | None = None
    """What computes, as `provenance.engine_in_words` says it; None where no engine was asked or named."""


@dataclass(frozen=True)
class RegisteredDirection(Record):
    """What is to be steered with: a direction, or what it is to be built from."""

    hash: str | None = None
    """None for one that was not yet built."""
    contrast: str | None = None
    """Hash of the traces that it is built from; None for one that was read from a file."""
    recipe: Recipe | None = None
    """How it is built; None for one that was read from a file."""


@dataclass(frozen=True)
class Stopping(Record):
    """When the trials end."""

    rule: Literal["fixed", "sequential"]
    analyses: tuple[int, ...]
    """The numbers of (task, attempt) pairs after which the data are analysed; the last is all of them."""

    @property
    def in_words(self) -> str:
        """`a fixed number of trials`, or the interim analyses."""
        if self.rule == "fixed":
            return "a fixed number of trials"
        return f"interim analyses after {', '.join(map(str, self.analyses))} (task, attempt) pairs"


@dataclass(frozen=True)
class Preregistration(Record):
    """The content of a preregistration."""

    capvec: str
    """The version that wrote it."""
    hypothesis: str
    configs: Mapping[str, ConfigKind]
    """Name → kind. A layer that is chosen later is `auto`, as in `steered-Lauto-a4`."""
    tasks: Mapping[str, str]
    """Name → checksum of its files."""
    attempts: int
    """At each (task, config)."""
    margin: float
    """The equivalence margin, a difference in pass rate."""
    test: str
    stopping: Stopping
    gates: tuple[str, ...]
    """Conditions, all of which are to hold."""
    model: RegisteredModel
    direction: RegisteredDirection
    settings: Mapping[str, Any]
    """What else the trials depend on, under the names of `options` in `provenance.json`; null for the model's own."""
    written: str
    """ISO 8601, UTC."""
    hash: str = field(default="")
    """SHA-256 of all of the above."""

    @property
    def layer_is_open(self) -> bool:
        """Whether the layer is to be chosen by the ranking."""
        return any("Lauto" in name for name in self.configs)

    @property
    def time(self) -> datetime:
        """When it was written."""
        return datetime.fromisoformat(self.written)

    @property
    def in_words(self) -> str:
        """`2a7f…, written 2026-11-28 05:20:11 UTC`, with the first digits of the hash."""
        return f"{self.hash[:SHOWN]}, written {moment(self.time)}"

    @property
    def reference(self) -> dict[str, str]:
        """What `provenance.json` says of it."""
        return {"hash": self.hash, "written": self.written}

    def write(self, path: Path) -> None:
        """Write a new file, and make its folder.

        Raises:
            UsageError: something is there already.
            StorageFault: the file cannot be written.
        """
        check_new(path)
        make_folder(path.parent)
        with writing(path), path.open("x", encoding="utf-8") as file:
            file.write(self.text)

    @property
    def text(self) -> str:
        """The content of the file."""
        return json.dumps(self.to_json(), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file, and check that it is what was written.

        Raises:
            UsageError: no such file, no preregistration, one that was changed after it was written, or one that says
                what capvec never writes.
        """
        data = read_json(path, TEXT, whole=True, finite=True)
        if not isinstance(data, dict) or not isinstance(data.get("hash"), str):
            raise UsageError(f"{shown(path)}: no preregistration; expected a file that `capvec preregister` wrote")
        if (found := _hash(data)) != data["hash"]:
            raise UsageError(
                f"{shown(path)}: was changed after it was written: its hash is {shown(data['hash'][:SHOWN])} and its "
                f"content gives {found[:SHOWN]}; put the file back as `capvec preregister` wrote it"
            )
        try:
            read = cls.from_json(data)
            read._check()
        except (UsageError, ValueError, OverflowError) as error:
            raise UsageError(f"{shown(path)}: not what `capvec preregister` writes ({shown(str(error))})") from error
        return read

    def _check(self) -> None:
        """Check what the types leave open.

        Raises:
            UsageError: a value is none that is written.
            ValueError, OverflowError: the time is none, or in no year of the calendar.
        """
        for name in (self.hypothesis, self.test, self.model.name, *self.configs, *self.tasks, *self.gates):
            if not name.strip() or not name.isprintable():
                raise UsageError(f"{name!r:.{_LONGEST}} is no line of text")
        for gate in self.gates:
            split_gate(gate)
        if not 0 < self.margin < 1:
            raise UsageError(f"margin is {self.margin:g}; expected a difference in pass rate between 0 and 1")
        if self.attempts < 1:
            raise UsageError(f"attempts is {self.attempts}; expected at least 1")
        if not self.stopping.analyses or min(self.stopping.analyses) < 1:
            raise UsageError(f"analyses is {list(self.stopping.analyses)!r:.{_LONGEST}}; expected counts of pairs")
        if self.time.tzinfo is None:
            raise UsageError(f"written is {self.written!r}; expected a time with its zone")
        moment(self.time)


def preregister(
    options: SweepOptions,
    configs: Sequence[Config],
    tasks: Sequence[Task],
    *,
    model: RegisteredModel,
    direction: RegisteredDirection,
) -> Preregistration:
    """The preregistration of a sweep, written now.

    Args:
        options: of the sweep; its `hypothesis` is that of the preregistration.
        configs: of the sweep; their names and kinds count.
        tasks: of the sweep.
        model: to steer.
        direction: to steer with.

    Raises:
        UsageError: the hypothesis is empty, or not one line of text.
    """
    hypothesis = (options.hypothesis or "").strip()
    if not hypothesis or not hypothesis.isprintable():
        raise UsageError(f"--hypothesis {hypothesis!r}: expected what the sweep is to show, in one line")
    content = Preregistration(
        capvec=__version__,
        hypothesis=hypothesis,
        configs={config.name: config.kind for config in configs},
        tasks={task.name: task.checksum for task in tasks},
        attempts=options.attempts,
        margin=EQUIVALENCE_MARGIN if options.effect is None else options.effect,
        test=TEST,
        stopping=stopping_of(len(tasks), options.attempts, sequential=options.sequential),
        gates=split_gate(options.gate) if options.gate is not None else (),
        model=model,
        direction=direction,
        settings=settings_of(options.recorded("preregister")),
        written=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    return replace(content, hash=_hash(content.to_json()))


def stopping_of(tasks: int, attempts: int, *, sequential: bool) -> Stopping:
    """When the trials of a sweep end."""
    if sequential:
        return Stopping("sequential", schedule(tasks, attempts))
    return Stopping("fixed", (tasks * attempts,))


def settings_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options, as recorded, that stand under `settings` of a preregistration."""
    return {name: value for name, value in options.items() if name not in _ELSEWHERE}


def check_new(path: Path) -> None:
    """Refuse to write over anything.

    Raises:
        UsageError: something is there already.
    """
    if path.exists() or path.is_symlink():
        raise UsageError(
            f"{shown(path)}: is there already, and a preregistration is never overwritten; name a new file"
        )


def moment(time: datetime) -> str:
    """`2026-11-28 05:20:11 UTC`."""
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _hash(data: Mapping[str, Any]) -> str:
    content = {name: value for name, value in data.items() if name != "hash"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
