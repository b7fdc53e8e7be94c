"""What a battery found: one line of `battery.jsonl` for each (item, config), and what a config costs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Self

from capvec.errors import UsageError
from capvec.parsing import parse_json
from capvec.plan.plan import Plan
from capvec.reading import GIB, open_regular, shown
from capvec.records import Config, Interval
from capvec.results.ledger import cut_torn_line
from capvec.serial import Record
from capvec.stats.effects import Effect, TaskMean, effect_by_task
from capvec.stats.multiplicity import holm
from capvec.storage import writing

BATTERY = "battery.jsonl"
"""Its name in a run folder."""


@dataclass(frozen=True)
class Answer(Record):
    """The reply to one item under one config."""

    item: str
    digest: str
    """Of the item, so that an answer to another question with its id is not taken for it."""
    config: str
    category: str = ""
    right: bool = False
    """Whether the reply is right; says nothing where there is an error."""
    reply: str = ""
    choices: int = 0
    """Of the item; 0 where the answer is written, and in lines of an earlier capvec."""
    error: str = ""
    """How the instrument failed; empty if it did not."""


class BatteryLedger:
    """Appends answers as they arrive, each on disk before the next; an answer again replaces an earlier one."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / BATTERY

    def append(self, answer: Answer) -> None:
        """Write one line.

        Raises:
            StorageFault: the disk refuses.
        """
        with writing(self._path), self._path.open("ab") as file:
            file.write(json.dumps(answer.to_json(), allow_nan=False).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def mend(self) -> None:
        """Cut off a last line that a crash tore, so that the next one begins on a line of its own."""
        cut_torn_line(self._path)

    def read(self) -> tuple[Answer, ...]:
        """Every answer on record, the latest to each (item, config); a torn last line is dropped.

        Raises:
            UsageError: another line is no answer.
        """
        if not self._path.exists():
            return ()
        latest: dict[tuple[str, str], Answer] = {}
        with open_regular(self._path, GIB) as file:
            for number, line in enumerate(file, start=1):
                try:
                    answer = Answer.from_json(parse_json(line))
                except (ValueError, LookupError, TypeError, AttributeError, UsageError) as error:
                    if not line.endswith(b"\n"):
                        break
                    raise UsageError(f"{shown(self._path)}, line {number}: not an answer to an item") from error
                latest[answer.item, answer.config] = answer
        return tuple(latest.values())


@dataclass(frozen=True)
class Cost:
    """One config's answers beside the baseline's."""

    config: str
    right: int
    answered: int
    """Without errors."""
    errors: int
    effect: Effect | None
    """On accuracy, paired by item; None of the baseline, and where no item was answered under both."""
    guessing: float = 0.0
    """The accuracy of choosing blindly among the choices of these items."""

    @property
    def is_significant(self) -> bool:
        """Whether accuracy fell, at a corrected p below 0.05."""
        found = self.effect
        return (
            found is not None and found.difference < 0 and (found.pvalue if found.holm is None else found.holm) < 0.05
        )


def costs_of(answers: Sequence[Answer], configs: Sequence[Config]) -> tuple[Cost, ...]:
    """The cost of each config that has answers; p-values of the steered ones are corrected for each other by Holm."""
    by_config = {config.name: [one for one in answers if one.config == config.name] for config in configs}
    base = _values(by_config.get(Config.BASELINE, ()))
    effects = {
        name: effect_by_task(name, "pass_rate", _values(found), base)
        for name, found in by_config.items()
        if name != Config.BASELINE and found
    }
    steered = [config.name for config in configs if config.kind == "steered" and effects.get(config.name) is not None]
    adjusted = holm([one.pvalue for name in steered if (one := effects[name]) is not None])
    for name, value in zip(steered, adjusted, strict=True):
        effects[name] = replace(effects[name], holm=value)  # type: ignore[type-var]
    return tuple(_cost(name, found, effects.get(name)) for name, found in by_config.items() if found)


def _cost(name: str, answers: Sequence[Answer], effect: Effect | None) -> Cost:
    valid = [one for one in answers if not one.error]
    guessing = sum(1 / one.choices for one in valid if one.choices) / (len(valid) or 1)
    return Cost(name, sum(one.right for one in valid), len(valid), len(answers) - len(valid), effect, guessing)


def _values(answers: Iterable[Answer]) -> dict[str, TaskMean]:
    return {one.item: TaskMean(Fraction(one.right), 1) for one in answers if not one.error}


@dataclass(frozen=True)
class BatteryResult:
    """What a battery found in a run."""

    costs: tuple[Cost, ...]
    """Of each config that was asked."""
    items: int
    missing: int
    """Items that a config was not asked, over all configs."""

    @property
    def is_whole(self) -> bool:
        """Whether every item has a valid answer under every config."""
        return not (self.missing or any(cost.errors for cost in self.costs))


def asked_configs(plan: Plan) -> tuple[Config, ...]:
    """The configs that are asked: without `constrained`, whose grammar is of the protocol and would not hold there."""
    return tuple(config for config in plan.configs if not config.grammar)


def answers_of(plan: Plan) -> tuple[Answer, ...]:
    """The answers on record to the items of a plan, under its configs."""
    configs = {config.name for config in asked_configs(plan)}
    found = BatteryLedger(plan.folder).read()
    return tuple(one for one in found if plan.battery.get(one.item) == one.digest and one.config in configs)


def battery_of(plan: Plan) -> BatteryResult | None:
    """What the battery of a run found, from its folder; None where it has none.

    Raises:
        UsageError: `battery.jsonl` is damaged.
    """
    if not plan.battery:
        return None
    configs, answers = asked_configs(plan), answers_of(plan)
    return BatteryResult(costs_of(answers, configs), len(plan.battery), len(plan.battery) * len(configs) - len(answers))


@dataclass(frozen=True)
class CostRow(Record):
    """A cost as `summary.json` has it."""

    config: str
    right: int
    answered: int
    errors: int
    difference: float | None
    interval: Interval | None
    pvalue: float | None
    holm: float | None

    @classmethod
    def of(cls, cost: Cost) -> Self:
        """The row of a cost; without an effect, its numbers are None."""
        counts, effect = (cost.config, cost.right, cost.answered, cost.errors), cost.effect
        if effect is None:
            return cls(*counts, None, None, None, None)
        return cls(*counts, effect.difference, effect.interval, effect.pvalue, effect.holm)
