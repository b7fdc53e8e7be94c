"""What a plan would take and could see: pure, from the plan, the probe and the assumptions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from textwrap import wrap

from capvec.plan.plan import Plan
from capvec.records import Config
from capvec.results.interim import interim_analyses, schedule_in_words
from capvec.run.assumptions import Assumptions
from capvec.run.probe import Probe
from capvec.stats.intervals import unseen_share
from capvec.stats.pairing import smallest_p
from capvec.stats.power import (
    MOST_TRIALS,
    SweepDesign,
    Test,
    minimum_detectable_effect,
    most,
    needed_attempts,
    needed_tasks,
    power,
)
from capvec.text import WIDTH, align, counted, number, one_line, rounded_up

_TESTS: dict[Test, str] = {"paired": "paired: sign flips", "pooled": "pooled: Fisher"}
_NAMES_SHOWN = 12
_Z80 = 1.2816
"""Half of a normal distribution's middle 80 %."""


# ------------------------------------------------------------------------------------------------ time


@dataclass(frozen=True)
class Duration:
    """How long the trials will take together, in seconds."""

    low: float
    high: float | None
    """None where no trial of the probe came to its end: it takes longer than `low`."""

    @property
    def words(self) -> str:
        """`about 12 to 18 min`."""
        if self.high is None:
            return f"more than {_seconds(self.low)}"
        unit, name = _unit(self.high)
        low, high = (_rounded(value / unit) for value in (self.low, self.high))
        return f"about {high} {name}" if low == high else f"about {low} to {high} {name}"


def predict(probe: Probe, trials: int) -> Duration | None:
    """How long `trials` take at the probe's concurrency, with a range that holds with about 80 %; None if the probe
    measured nothing.

    The mean duration is all time spent in trials over the number that came to their end: the plain mean where all did,
    and otherwise the maximum-likelihood estimate from censored durations that are exponential (Lawless, Statistical
    Models and Methods for Lifetime Data, 2nd ed., §4.1). Its relative error is the coefficient of variation over √n,
    which counts as if one more trial had been seen with a coefficient of 1. At the end, when workers fall idle one
    after another, half a trial is added.
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
    """As precise as a probe can tell."""
    return f"{value:.1f}" if value < 3 else f"{value:.0f}"


def _seconds(value: float) -> str:
    unit, name = _unit(value)
    return f"{_rounded(value / unit)} {name}"


# ------------------------------------------------------------------------------------------------ power


@dataclass(frozen=True)
class Detection:
    """What one test sees. None where no effect, or no number that was tried, is enough."""

    test: Test
    rise: float | None
    """The least that is detected with power 80 %."""
    fall: float | None
    """Negative."""
    power: float
    """For the effect that was asked about."""
    attempts: int | None
    """That this effect needs, with the plan's tasks."""
    tasks: int | None
    """The same with the plan's attempts."""


def detections_of(plan: Plan, assumptions: Assumptions) -> dict[Test, Detection | None]:
    """By each test; takes some seconds. Empty for a plan that steers no config, None as `detection` says."""
    design = assumptions.design(plan)
    return {} if design is None else {test: detection(design, assumptions.effect, test) for test in _TESTS}


def detection(design: SweepDesign, effect: float, test: Test) -> Detection | None:
    """None where there are too many trials to work the test's power out."""
    if design.tasks * design.attempts > MOST_TRIALS[test]:
        return None
    return Detection(
        test,
        minimum_detectable_effect(design, test),
        minimum_detectable_effect(design, test, falls=True),
        power(design, effect, test),
        needed_attempts(design, effect, test),
        needed_tasks(design, effect, test),
    )


# ------------------------------------------------------------------------------------------------ in words


def forecast_lines(
    plan: Plan,
    assumptions: Assumptions,
    detections: Mapping[Test, Detection | None],
    probe: Probe,
    preparation_s: float,
) -> Iterator[str]:
    """The plan for the terminal, within 100 columns.

    Args:
        plan: of the study.
        assumptions: for the power.
        detections: what `detections_of` found.
        probe: of its trials.
        preparation_s: what engine, images and direction took.
    """
    short = assumptions.power_warning(plan)
    if short is not None:
        yield from (*_wrapped(short.words.replace("Underpowered", "UNDERPOWERED")), "")
    yield f"plan: {len(plan.trials)} trials = {plan.size}; nothing was run but the probe"
    yield ""
    yield from align([("config", "kind", "layer", "alpha", "dose"), *_config_rows(plan.configs)])
    yield ""
    names = [task.name for task in plan.tasks]
    more = [f"and {len(names) - _NAMES_SHOWN} more"] if len(names) > _NAMES_SHOWN else []
    yield from _wrapped(f"tasks: {', '.join([*names[:_NAMES_SHOWN], *more])}")
    yield from _wrapped(f"time: {time_in_words(probe, len(plan.trials), preparation_s)}")
    yield from _power_lines(plan, assumptions, detections)


def time_in_words(probe: Probe, trials: int, preparation_s: float) -> str:
    """The prediction, what it is from, and what went wrong."""
    duration = predict(probe, trials)
    whole, cut, failed = (probe.that(ended) for ended in ("whole", "cut", "error"))
    long = duration.words if duration is not None else "not known"
    longer = f" and {len(cut)} that took longer than the probe" if cut else ""
    words = (
        f"{long} at -n {probe.jobs} (from {len(whole)} trials in {probe.seconds:.0f} s{longer}), after about "
        f"{_seconds(preparation_s)} to get ready, as just now"
    )
    if failed:
        reason = one_line(failed[0].error)
        words += (
            f". {len(failed)} of the probe's trials ended in an error of the instrument: {failed[0].trial}: {reason}"
        )
    return words


def _config_rows(configs: Sequence[Config]) -> Iterator[tuple[str, ...]]:
    """Matched controls of one kind and strength share a row."""
    groups: dict[object, list[Config]] = {}
    for config in configs:
        group = (config.control, config.layer, config.alpha) if config.control is not None else config.name
        groups.setdefault(group, []).append(config)
    for first, *others in groups.values():
        kind = first.kind if first.control is None else first.control.kind
        alpha = "–" if first.alpha is None else f"{first.alpha:g}"
        measure = f" {first.alpha_unit}" if first.alpha is not None and first.alpha_unit != "stored" else ""
        yield (
            first.name,
            f"{kind} × {len(others) + 1}" if others else kind,
            "–" if first.layer is None else str(first.layer),
            alpha + measure,
            number(first.dose),
        )


def _power_lines(plan: Plan, assumptions: Assumptions, detections: Mapping[Test, Detection | None]) -> Iterator[str]:
    design = assumptions.design(plan)
    if design is None:
        yield "power: no config is of a family of steered ones, so there is nothing to work out"
        return
    yield from _wrapped(
        f"level: 0.05, two-sided, for {counted(len(plan.steered), 'comparison')}: Holm's first step requires "
        f"p < {design.level:.2g}; the smallest p-value of the paired test with {counted(design.tasks, 'task')} is "
        f"{smallest_p(design.tasks):.2g}"
    )
    yield from _wrapped(
        f"assumed: base rate {design.base_rate:.2f}, logit SD between tasks {design.spread:g} ({assumptions.source}), "
        "and an effect that is alike on all tasks: where it is not, power is less"
    )
    yield from _wrapped(_absence(design.tasks, assumptions.effect))
    if plan.sequential:
        yield from _wrapped(
            f"{schedule_in_words(interim_analyses(plan, ()))}; the figures are of a sweep that runs to its end"
        )
    yield ""
    effect = f"+{assumptions.effect:g}"
    heads = (
        "",
        "least rise at power 80 %",
        "least fall at power 80 %",
        f"power for {effect}",
        f"attempts that {effect} needs",
        f"tasks that {effect} needs",
    )
    columns = [_column(test, seen, design) for test, seen in detections.items()]
    yield from align(list(zip(heads, *columns, strict=True)))
    yield ""
    yield from _wrapped(
        f"The paired test decides the verdict. Attempts: of each of {counted(design.tasks, 'task')}. Tasks: with "
        f"{counted(design.attempts, 'attempt')} of each, and as different as assumed."
    )


def _absence(tasks: int, effect: float) -> str:
    """Whether *no effect* can be the verdict at all; how likely that is depends on more."""
    least = unseen_share(tasks)
    words = rounded_up(least)
    if least <= effect:
        return f"absence: effects can be excluded down to {words}, the share of tasks that none of {tasks} may show"
    needed = next(more for more in count(tasks) if unseen_share(more) <= effect)
    return (
        f"absence: with {counted(tasks, 'task')} no effect below {words} can be excluded, however many "
        f"the attempts; {effect:g} takes {needed} tasks"
    )


def _column(test: Test, seen: Detection | None, design: SweepDesign) -> tuple[str, ...]:
    if seen is None:
        return (_TESTS[test], *["too many trials"] * 5)
    blind = test == "paired" and smallest_p(design.tasks) >= design.level
    return (
        _TESTS[test],
        "none" if seen.rise is None else f"{seen.rise:+.2f}",
        "none" if seen.fall is None else f"{seen.fall:+.2f}",
        f"{seen.power:.2f}",
        str(seen.attempts or ("no number" if blind else f"over {most(test, design.tasks)}")),
        str(seen.tasks or f"over {most(test, design.attempts)}"),
    )


def _wrapped(text: str) -> list[str]:
    return wrap(text, WIDTH, subsequent_indent="  ", break_on_hyphens=False)
