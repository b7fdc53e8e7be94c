"""Where outcomes come from that capvec did not make, and what is known about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from capvec.harnesses import Served

Seeds = Literal["shared", "separate"]
"""Whether all configs of a (task, attempt) ran from one seed."""
Errors = Literal["apart", "failures"]
"""Whether failures of the instrument are told from failures of the agent, or count as these."""


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
