"""What `--plan` prints: what a study would take, and which effects it could detect."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from textwrap import wrap

from capvec.plan.plan import Plan
from capvec.records import Config
from capvec.results.battery import asked_configs
from capvec.results.interim import interim_analyses, schedule_in_words
from capvec.run.assumptions import Assumptions
from capvec.run.capacity import Forecast
from capvec.run.duration import seconds_in_words, time_in_words
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
from capvec.text import WIDTH, align, counted, number, rounded_up

_TESTS: dict[Test, str] = {"paired": "paired: sign flips", "pooled": "pooled: Fisher"}
_NAMES_SHOWN = 12


@dataclass(frozen=True)
class Detection:
    """Which effects one test can detect. An entry is None if no effect, or no number that was tried, is enough."""

    test: Test
    rise: float | None
    """The minimum detectable effect at 80 % power, a rise of the pass rate."""
    fall: float | None
    """The same for a fall; negative."""
    power: float
    """The probability of detecting the assumed effect."""
    attempts: int | None
    """Attempts per task that 80 % power for the assumed effect takes, with the plan's tasks."""
    tasks: int | None
    """Tasks that it takes, with the plan's attempts."""


def detections_of(plan: Plan, assumptions: Assumptions) -> dict[Test, Detection | None]:
    """`detection` for each test; takes some seconds. Empty for a plan that steers no config."""
    design = assumptions.design(plan)
    return {} if design is None else {test: detection(design, assumptions.effect, test) for test in _TESTS}


def detection(design: SweepDesign, effect: float, test: Test) -> Detection | None:
    """Which effects a test can detect; None if there are too many trials to compute its power."""
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
    capacity: Forecast | None = None,
    battery_s: float | None = None,
) -> Iterator[str]:
    """The plan for the terminal, within 100 columns."""
    short = assumptions.power_warning(plan)
    if short is not None:
        yield from (*_wrapped(short.words.replace("Underpowered", "UNDERPOWERED")), "")
    yield f"plan: {len(plan.trials)} trials = {plan.size}; only the probe was run"
    yield ""
    yield from align([("config", "kind", "layer", "alpha", "dose"), *_config_rows(plan.configs)])
    yield ""
    names = [task.name for task in plan.tasks]
    more = [f"and {len(names) - _NAMES_SHOWN} more"] if len(names) > _NAMES_SHOWN else []
    yield from _wrapped(f"tasks: {', '.join([*names[:_NAMES_SHOWN], *more])}")
    if plan.battery:
        count = len(plan.battery) * len(asked_configs(plan))
        about = "" if battery_s is None else f" in about {seconds_in_words(battery_s)}, as a few were timed now"
        yield from _wrapped(f"battery: {counted(count, 'answer')} after the trials{about}; not in the time below")
    yield f"sampling: {plan.settings.sampling}"
    yield from _wrapped(f"time: {time_in_words(probe, len(plan.trials), preparation_s)}")
    if capacity is not None:
        yield from _capacity_lines(capacity)
    yield from _power_lines(plan, assumptions, detections)


def _config_rows(configs: Sequence[Config]) -> Iterator[tuple[str, ...]]:
    """A row per config; matched controls of one kind and strength share a row."""
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


def _capacity_lines(found: Forecast) -> Iterator[str]:
    yield ""
    slowed = {"": "little", "engine": "the engine", "sandboxes": "sandboxes: processor cores and Docker"}
    rows = [
        (str(one.workers), f"{float(f'{one.per_hour:.2g}'):,.0f}", slowed[one.saturated]) for one in found.capacities
    ]
    yield from align([("workers (-n)", "trials an hour", "slowed most by"), *rows])
    steps = ", ".join(f"{seconds * 1000:.3g} ms with {rows}" for rows, seconds in sorted(found.engine.step_s.items()))
    yield from _wrapped(
        f"Simulated from the probe's trials on {counted(found.cores, 'core')} and the engine's speed just now: a step "
        f"takes {steps} at a time, and a second {found.engine.prompt_tokens_per_s:.3g} tokens of prompts."
    )
    yield ""


def _power_lines(plan: Plan, assumptions: Assumptions, detections: Mapping[Test, Detection | None]) -> Iterator[str]:
    design = assumptions.design(plan)
    if design is None:
        yield "power: the plan steers no config, so there is no comparison to compute the power of"
        return
    yield from _wrapped(
        f"level: 0.05, two-sided, for {counted(len(plan.steered), 'comparison')}: Holm's first step requires "
        f"p < {design.level:.2g}; the smallest p-value of the paired test with {counted(design.tasks, 'task')} is "
        f"{smallest_p(design.tasks):.2g}"
    )
    yield from _wrapped(
        f"assumed: base rate {design.base_rate:.2f}, logit SD between tasks {design.spread:g} ({assumptions.source}), "
        "and an effect that is the same on all tasks; if effects differ, power is lower"
    )
    yield from _wrapped(_absence(design.tasks, assumptions.effect))
    if plan.sequential:
        yield from _wrapped(
            f"{schedule_in_words(interim_analyses(plan, ()))}; the numbers below hold for a sweep without early stops"
        )
    yield ""
    effect = f"+{assumptions.effect:g}"
    heads = (
        "",
        "detectable rise, 80 % power",
        "detectable fall, 80 % power",
        f"power for {effect}",
        f"attempts that {effect} needs",
        f"tasks that {effect} needs",
    )
    columns = [_column(test, seen, design) for test, seen in detections.items()]
    yield from align(list(zip(heads, *columns, strict=True)))
    yield ""
    yield from _wrapped(
        f"The paired test decides the verdict. Attempts are per task, with {counted(design.tasks, 'task')}; tasks are "
        f"with {counted(design.attempts, 'attempt')} each, and differ as assumed."
    )


def _absence(tasks: int, effect: float) -> str:
    """Whether so many tasks allow the verdict *no effect*."""
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
    hopeless = test == "paired" and smallest_p(design.tasks) >= design.level
    return (
        _TESTS[test],
        "none" if seen.rise is None else f"{seen.rise:+.2f}",
        "none" if seen.fall is None else f"{seen.fall:+.2f}",
        f"{seen.power:.2f}",
        str(seen.attempts or ("no number" if hopeless else f"over {most(test, design.tasks)}")),
        str(seen.tasks or f"over {most(test, design.attempts)}"),
    )


def _wrapped(text: str) -> list[str]:
    return wrap(text, WIDTH, subsequent_indent="  ", break_on_hyphens=False)
