"""A task family: a seeded maker of instances, each a small shell task with a verifier.

An instance holds what a task folder needs (files, instruction, checks, solution) and what a demonstration needs (what a
careful agent looks at first, how it confirms the result, and plausible wrong answers). Paths are relative to `/app`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Literal

Split = Literal["trained", "held-out"]
"""Whether the bundled agent was fine-tuned on other instances of the family, or on none."""
Difficulty = Literal["easy", "medium", "hard"]


@dataclass(frozen=True)
class Wrong:
    """A plausible answer that is wrong."""

    command: str
    why: str


@dataclass(frozen=True)
class Instance:
    """One task."""

    instruction: str
    files: Mapping[str, str]
    """Path → text, as the agent finds them."""
    checks: tuple[str, ...]
    """Lines of the verifier, which call functions of `verifier.sh`. Checks of `kept` files are added to them."""
    solution: tuple[str, ...]
    """The commands of the reference solution, in order."""
    wrong: tuple[Wrong, ...]
    expected: Mapping[str, str] = field(default_factory=dict)
    """Path → text, for the checks to compare with."""
    unchanged: tuple[str, ...] | None = None
    """Files that must stay as they are; None for all of `files`."""
    looks: tuple[str, ...] = ()
    """Commands that a careful agent runs before it acts."""
    needs_look: bool = False
    """Whether the solution cannot be known without `looks`."""
    confirms: tuple[str, ...] = ()
    """Commands that show whether it worked."""
    setup: tuple[str, ...] = ()
    """Shell lines that complete the environment, run in `/app` after the files exist."""

    @property
    def kept(self) -> tuple[str, ...]:
        """The files that must stay as they are."""
        return tuple(self.files) if self.unchanged is None else self.unchanged


@dataclass(frozen=True)
class Family:
    """A kind of task, and the function that makes instances of it."""

    name: str
    category: str
    split: Split
    difficulty: Difficulty
    make: Callable[[Random], Instance]


FAMILIES: dict[str, Family] = {}
"""Every family by name, in the order of definition."""


def family(
    name: str, *, category: str, split: Split, difficulty: Difficulty
) -> Callable[[Callable[[Random], Instance]], Callable[[Random], Instance]]:
    """Register the decorated maker of instances as a task family."""

    def register(make: Callable[[Random], Instance]) -> Callable[[Random], Instance]:
        assert name not in FAMILIES, name
        FAMILIES[name] = Family(name, category, split, difficulty, make)
        return make

    return register
