"""What a plan's power is computed from: the baseline's assumed pass rate, and the effect to detect."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from capvec.errors import UsageError
from capvec.plan.options import SweepOptions
from capvec.plan.plan import Plan
from capvec.records import Config
from capvec.results.ledger import TRIALS
from capvec.results.run_folder import read_outcomes
from capvec.stats.assumed import EQUIVALENCE_MARGIN, UNKNOWN_RATE, UNKNOWN_SPREAD
from capvec.stats.power import SweepDesign, observed_rate
from capvec.stats.power_warning import PowerWarning, power_warning
from capvec.stats.summary import spread_between_tasks
from capvec.stats.verdict import LEVEL


@dataclass(frozen=True)
class Assumptions:
    """What power is computed from, in addition to tasks and attempts."""

    base_rate: float
    spread: float
    """Logit SD between tasks."""
    effect: float
    """The rise of the pass rate to detect."""
    source: str
    """The source of rate and spread, in words."""

    def design(self, plan: Plan) -> SweepDesign | None:
        """The design of the whole plan for a config of its comparisons; None where no config is steered."""
        if not plan.steered:
            return None
        level = LEVEL / len(plan.steered)
        return SweepDesign(plan.tasks_in_all, plan.attempts, self.base_rate, self.spread, level=level)

    def power_warning(self, plan: Plan) -> PowerWarning | None:
        """The warning that the plan is underpowered for the effect; None if it is not."""
        design = self.design(plan)
        return None if design is None else power_warning(design, self.effect)


def assumptions_of(options: SweepOptions) -> Assumptions:
    """From `--base-rate`, `--spread` and `--effect`.

    Raises:
        UsageError: `--base-rate` names a folder without trials of a baseline, or leaves no room for the effect.
    """
    effect = EQUIVALENCE_MARGIN if options.effect is None else options.effect
    found = _assumed(options) if isinstance(options.base_rate, float | None) else _from_run(Path(options.base_rate))
    rate, spread, source = found
    if rate + effect >= 1:
        raise UsageError(
            f"--effect {effect:g}: a pass rate of {rate:g} ({source}) cannot rise by that; expected less than "
            f"{1 - rate:g}, or another --base-rate"
        )
    if options.spread is not None:
        spread, source = options.spread, f"{source}; --spread as given"
    return Assumptions(rate, spread, effect, source)


def _assumed(options: SweepOptions) -> tuple[float, float, str]:
    if isinstance(options.base_rate, float):
        return options.base_rate, UNKNOWN_SPREAD, "--base-rate as given"
    return UNKNOWN_RATE, UNKNOWN_SPREAD, "nothing is known: --base-rate reports/RUN takes both from an earlier run"


def _from_run(folder: Path) -> tuple[float, float, str]:
    path = folder / TRIALS
    if not path.is_file():
        raise UsageError(
            f"--base-rate {folder}: expected a rate between 0 and 1, or the folder of an earlier run, and there is no "
            f"{path}"
        )
    valid = [one for one in read_outcomes(folder) if one.config == Config.BASELINE and one.outcome != "error"]
    if not valid:
        raise UsageError(f"--base-rate {folder}: no valid trial of a baseline in {path}; name another run, or a rate")
    rate = observed_rate(sum(one.outcome == "solved" for one in valid), len(valid))
    spread = spread_between_tasks(valid)
    source = f"from {len(valid)} baseline trials in {folder}, and one more, half solved"
    if spread is None:
        return rate, UNKNOWN_SPREAD, f"{source}, which cannot tell the spread"
    return rate, round(spread, 1), source
