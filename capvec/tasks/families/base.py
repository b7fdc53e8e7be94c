"""What a family of tasks is: a seeded maker of instances, each a small piece of shell work with its own proof.

An instance knows everything a task folder needs (files, instruction, checks, solution) and what a demonstration needs
(what a careful agent looks at first, how it confirms, and plausible wrong ways). All paths are relative to `/app`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Literal

Split = Literal["trained", "held-out"]
"""Whether the bundled agent was fine-tuned on other instances of the family, or never saw the family."""
Difficulty = Literal["easy", "medium", "hard"]


@dataclass(frozen=True)
class Wrong:
    """An answer that looks right and is not."""

    command: str
    why: str


@dataclass(frozen=True)
class Instance:
    """One piece of work."""

    instruction: str
    files: Mapping[str, str]
    """Path → text, before the agent starts."""
    checks: tuple[str, ...]
    """Lines of the verifier, in the words of `verifier.sh`; what must stay unchanged is checked without being named."""
    solution: tuple[str, ...]
    """The expert's commands, in order: the oracle."""
    wrong: tuple[Wrong, ...]
    expected: Mapping[str, str] = field(default_factory=dict)
    """Path → text that the checks compare with."""
    unchanged: tuple[str, ...] | None = None
    """Files that must stay as they are; all of `files` where None."""
    looks: tuple[str, ...] = ()
    """What the expert looks at before it acts. Where `needs_look`, the solution cannot be known without."""
    needs_look: bool = False
    confirms: tuple[str, ...] = ()
    """Commands that show whether it worked."""
    setup: tuple[str, ...] = ()
    """Shell lines that finish the environment after the files are there, in `/app`."""

    @property
    def kept(self) -> tuple[str, ...]:
        """The files that must stay as they are."""
        return tuple(self.files) if self.unchanged is None else self.unchanged


@dataclass(frozen=True)
class Family:
    """A kind of work, and how to make more of it."""

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
    """Register the decorated maker of instances as a family."""

    def register(make: Callable[[Random], Instance]) -> Callable[[Random], Instance]:
        assert name not in FAMILIES, name
        FAMILIES[name] = Family(name, category, split, difficulty, make)
        return make

    return register
