"""What the page is made of, as a run leaves it: nothing is computed here."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from capvec.plan.plan import Plan
from capvec.records import Outcome
from capvec.tasks.splits import split_of


@dataclass(frozen=True)
class RunReport:
    """A run as the other reports tell it."""

    plan: Plan
    outcomes: Sequence[Outcome]
    summary: Mapping[str, Any]
    """What `summary.json` holds."""
    results: str
    """What `RESULTS.md` holds."""

    @property
    def steered_layers(self) -> frozenset[int]:
        return frozenset(steer.layer for config in self.plan.configs for steer in config.steers)

    @property
    def kinds(self) -> dict[str, str]:
        """Config → `baseline`, `steered` or `control`."""
        return {config.name: config.kind for config in self.plan.configs}

    @cached_property
    def cells(self) -> dict[tuple[str, str], list[Outcome]]:
        """(task, config) → its trials, by attempt."""
        cells: defaultdict[tuple[str, str], list[Outcome]] = defaultdict(list)
        for outcome in sorted(self.outcomes, key=lambda outcome: outcome.attempt):
            cells[outcome.task, outcome.config].append(outcome)
        return dict(cells)

    @cached_property
    def splits(self) -> dict[str, list[str]]:
        """Split → names of its tasks, both in the plan's order."""
        splits: defaultdict[str, list[str]] = defaultdict(list)
        for task in self.plan.tasks:
            splits[split_of(task)].append(task.name)
        return dict(splits)

    def ranking(self) -> list[dict[str, float | None]]:
        """Rows of `ranking.csv`, numbers alone; empty for a run without one."""
        path = self.plan.folder / "vectors" / "ranking.csv"
        if not path.is_file():
            return []
        with path.open(newline="", encoding="utf-8") as file:
            return [{name: _number(text) for name, text in row.items()} for row in csv.DictReader(file)]


@dataclass(frozen=True)
class Section:
    """One `##` section of `RESULTS.md`."""

    title: str
    lines: tuple[str, ...]


def sections(results: str) -> tuple[Section, ...]:
    """The document's parts in order; the first has what stands above the first section, its title the document's."""
    parts: list[tuple[str, list[str]]] = [("", [])]
    for line in results.splitlines():
        if line.startswith("## "):
            parts.append((line[3:].strip(), []))
        elif line.startswith("# "):
            parts[0] = (line[2:].strip(), parts[0][1])
        else:
            parts[-1][1].append(line)
    return tuple(Section(title, tuple(lines)) for title, lines in parts)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
