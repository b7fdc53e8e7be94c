"""Where outcomes come from that capvec did not make, and what is known about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from capvec.harnesses import Reading, Source
from capvec.results.preregistration import Preregistration
from capvec.results.served import Served
from capvec.results.software import now
from capvec.serial import Record

Seeds = Literal["shared", "separate"]
"""Whether all configs of a (task, attempt) ran from one seed."""
Errors = Literal["apart", "failures"]
"""Whether failures of the instrument are told from failures of the agent, or count as these."""


@dataclass(frozen=True)
class Asked(Record):
    """What the user says about results that were made elsewhere; None for what is left to the results."""

    baseline: str | None = None
    controls: tuple[str, ...] | None = None
    """Names of configs that are not among the compared. None: those with the names of capvec's controls."""
    seeds: Seeds | None = None
    errors: Errors | None = None
    effect: float | None = None
    """The equivalence margin, a difference in pass rate."""
    gate: str | None = None
    reading: Reading = field(default_factory=Reading)


@dataclass(frozen=True)
class Judged:
    """Everything that the report of results is made from."""

    run: str
    """The name of the report: its folder's when it was written."""
    sources: tuple[tuple[str | None, Source], ...] = ()
    """Each with the user's name for its one config, or None."""
    asked: Asked = field(default_factory=Asked)
    served: Mapping[str, Served] | None = None
    """Config → the replies that `capvec serve` has receipts of."""
    registered: Preregistration | None = None
    """What the results are compared with."""
    counts: Mapping[str, tuple[int, int]] | None = None
    """Config → solved trials and all, where there are counts alone, and no sources."""
    written: str = field(default_factory=now)
    """When they were judged: ISO 8601, UTC."""


@dataclass(frozen=True)
class SourceLine:
    """One source, for the report."""

    name: str
    tool: str
    configs: tuple[str, ...]
    trials: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Origin:
    """What is known of outcomes that were made elsewhere. What is not is None, and a caveat of the report."""

    sources: tuple[SourceLine, ...]
    seeds: Seeds | None = None
    errors: Errors | None = None
    stated: tuple[str, ...] = ()
    """Which of `seeds` and `errors` the user stated: the results do not show it."""
    served: Mapping[str, Served] | None = None
    """Config → the replies of `capvec serve` under its name; None without a file of their receipts."""
    named_controls: tuple[str, ...] = ()
    """Configs that were taken for controls by their names, which are those that capvec gives."""

    @property
    def tools(self) -> Sequence[str]:
        """Whose results they are."""
        return tuple(dict.fromkeys(source.tool for source in self.sources))
