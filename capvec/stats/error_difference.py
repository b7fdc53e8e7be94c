"""Do errors of the instrument fall on some configs more than on the baseline?

An error leaves the pass rate. Where a config has more of them than the baseline, the trials that are left may be the
easier or the harder ones, and no test on these can tell.
"""

from __future__ import annotations

from dataclasses import dataclass

from capvec.stats.pooled import fisher_exact
from capvec.stats.summary import Summary


@dataclass(frozen=True)
class ErrorDifference:
    """The errors of one config beside the baseline's."""

    config: str
    errors: int
    trials: int
    """Valid ones and errors."""
    base_errors: int
    base_trials: int
    p: float
    """Of Fisher's exact test, two-sided and not corrected."""

    @property
    def differs(self) -> bool:
        """Whether the shares of errors are not the same."""
        return self.errors * self.base_trials != self.base_errors * self.trials


def error_differences(summary: Summary) -> tuple[ErrorDifference, ...]:
    """Every config that was run beside the baseline, controls included, in the plan's order."""
    rows = {row.config: row for row in summary.configs}
    found = []
    for name, row in rows.items():
        base = summary.bases.get(name, rows.get(summary.baseline))
        if name == summary.baseline or base is None:
            continue
        trials, base_trials = row.n + row.errors, base.n + base.errors
        if trials and base_trials:
            p = fisher_exact(row.errors, trials, base.errors, base_trials).pvalue
            found.append(ErrorDifference(name, row.errors, trials, base.errors, base_trials, p))
    return tuple(found)
