"""How long a plan's trials will take, predicted from a probe."""

from __future__ import annotations

import math
from dataclasses import dataclass

from capvec.run.probe import Probe
from capvec.text import one_line

_Z80 = 1.2816
"""The 90 % quantile of the standard normal distribution, so that ±_Z80 covers 80 %."""


@dataclass(frozen=True)
class Duration:
    """A range for the duration of all trials, in seconds."""

    low: float
    high: float | None
    """None if no trial of the probe reached its end, so that only a lower bound is known."""

    @property
    def words(self) -> str:
        """`about 12 to 18 min`."""
        if self.high is None:
            return f"more than {seconds_in_words(self.low)}"
        unit, name = _unit(self.high)
        low, high = (_rounded(value / unit) for value in (self.low, self.high))
        return f"about {high} {name}" if low == high else f"about {low} to {high} {name}"


def predict(probe: Probe, trials: int) -> Duration | None:
    """Predict how long `trials` take at the probe's concurrency, with an interval.

    The interval would cover 80 % of totals if durations were independent and the probe's were of the same kind as the
    rest. Totals of recorded runs lay within it in 41 to 62 % of probes that were drawn from them (docs/cost.md), since
    tasks and configs differ in how long they take.

    The mean duration is the total time in trials over the number of trials that reached their end: the plain mean if
    all did, and otherwise the maximum-likelihood estimate from censored exponential durations (Lawless, Statistical
    Models and Methods for Lifetime Data, 2nd ed., §4.1). Its relative error is the coefficient of variation over √n,
    computed as if one more trial with a coefficient of 1 had been observed. Up to half a trial is added for the end,
    when workers become idle one after another.

    Returns:
        The range; None if the probe measured no duration.
    """
    whole, cut = ([trial.seconds for trial in probe.that(ended)] for ended in ("whole", "cut"))
    at_a_time = min(probe.jobs, trials)
    rounds = trials / at_a_time + (at_a_time - 1) / at_a_time / 2
    if not whole:
        return Duration(rounds * sum(cut) / len(cut), None) if cut else None
    n, average = len(whole), sum(whole) / len(whole)
    squares = sum((seconds / average - 1) ** 2 for seconds in whole)
    factor = math.exp(_Z80 * math.sqrt((squares + 1) / n / n))
    total = rounds * (sum(whole) + sum(cut)) / n
    return Duration(total / factor, total * factor)


def _unit(seconds: float) -> tuple[float, str]:
    return (1.0, "s") if seconds < 100 else (60.0, "min") if seconds < 5400 else (3600.0, "h")


def _rounded(value: float) -> str:
    """With the precision of a probe."""
    return f"{value:.1f}" if value < 3 else f"{value:.0f}"


def seconds_in_words(value: float) -> str:
    """`12 s`, `3 min` or `2 h`, as precise as a probe is."""
    unit, name = _unit(value)
    return f"{_rounded(value / unit)} {name}"


def time_in_words(probe: Probe, trials: int, preparation_s: float) -> str:
    """The prediction, the trials that it is based on, and the errors of the probe."""
    duration = predict(probe, trials)
    whole, cut, failed = (probe.that(ended) for ended in ("whole", "cut", "error"))
    predicted = duration.words if duration is not None else "not known"
    longer = f" and {len(cut)} that the probe cut off" if cut else ""
    words = (
        f"{predicted} at -n {probe.jobs} (from {len(whole)} trials in {probe.seconds:.0f} s{longer}), after about "
        f"{seconds_in_words(preparation_s)} of preparation, as measured now"
    )
    if failed:
        reason = one_line(failed[0].error)
        words += f". {len(failed)} of the probe's trials ended in an infrastructure error: {failed[0].trial}: {reason}"
    return words
