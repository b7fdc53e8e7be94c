"""What an option is: one command-line option, as one or several commands have it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Place(NamedTuple):
    """A command that takes options."""

    command: str
    """As typed."""
    summary: str
    note: str = ""
    """Why it refuses the options of others."""


class Default(NamedTuple):
    """What an option is when it was not typed."""

    text: str | None = None
    """As it would be typed; None where there is no value to type."""
    words: str = ""
    """What to show instead of the text."""

    @property
    def shown(self) -> str:
        return self.words or self.text or ""


_NONE = Default()


@dataclass(frozen=True)
class Option:
    """One option, as one or several commands have it."""

    name: str
    """With `_` for `-`; upper case for a positional argument."""
    metavar: str | None
    """None for a switch."""
    group: str
    """A key of `GROUPS`."""
    places: tuple[str, ...]
    """Keys of `PLACES`."""
    help: str
    """Without the default."""
    parse: Callable[[str], Any] = str
    """Of what was typed, to what the code uses; raises `UsageError`, naming the option, what it got and expected."""
    default: Default = _NONE
    differs: Mapping[str, Default] = field(default_factory=dict)
    """Place → its default, where it is not `default`."""
    required: bool = False
    several: bool = False
    """Whether it may be given more than once."""
    earlier: tuple[str, ...] = ()
    """Spellings of earlier versions, which are accepted and not shown."""
    record: str = ""
    """Its field in `SweepOptions` and key in `provenance.json`, where that is not the name."""

    @property
    def flag(self) -> str:
        return self.name if self.positional else f"--{self.name.replace('_', '-')}"

    @property
    def positional(self) -> bool:
        return self.name.isupper()

    @property
    def key(self) -> str:
        return self.record or self.name

    def default_in(self, place: str) -> Default:
        return self.differs.get(place, self.default)
