"""`--gate`: conditions on a run's summary that decide the exit code."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from capvec.errors import UsageError
from capvec.records import Config
from capvec.stats.config_summary import ConfigSummary
from capvec.stats.effects import Effect
from capvec.stats.summary import Summary
from capvec.text import counted, estimate

_IMPROVES = re.compile(r"improves\(\s*([^)\s]+)\s*\)")
_NO_HARM = re.compile(r"no_harm\(\s*(\d+(?:\.\d*)?|\.\d+)\s*\)")
_AT_MOST = re.compile(r"(parse_fail|no_cmd|steps)\s*<=\s*baseline")
_FORMS = "improves(CONFIG), no_harm(D), parse_fail<=baseline, no_cmd<=baseline, steps<=baseline"
_NOTHING_SHARED = "{} and the baseline have no task of which both have a valid trial"
_ROUNDING = 1e-9
"""Tolerance for floating point: 0.8 − 0.2 > 0.6. Two different rates differ by more than this."""


@dataclass(frozen=True)
class GateResult:
    """One condition, whether it holds, and the reason in words."""

    condition: str
    met: bool
    reason: str


def split_gate(expression: str) -> tuple[str, ...]:
    """Split an expression into its conditions, which are joined by `and` or commas. All of them must hold.

    Raises:
        UsageError: a condition has none of the known forms, or always holds.
    """
    conditions = tuple(dict.fromkeys(part.strip() for part in re.split(r",|\band\b", expression)))
    for condition in conditions:
        if not any(form.fullmatch(condition) for form in (_IMPROVES, _NO_HARM, _AT_MOST)):
            raise UsageError(f"--gate {expression!r}: {condition!r} is not a condition; expected {_FORMS}")
        if (match := _NO_HARM.fullmatch(condition)) and float(match[1]) >= 1:
            raise UsageError(
                f"--gate {expression!r}: {condition!r} always holds; expected a difference in pass rate below 1, as in "
                "no_harm(0.1) for ten points"
            )
    return conditions


def check_names(expression: str, configs: Sequence[Config]) -> None:
    """Make sure that every config that a gate names is in the plan and is compared with the baseline.

    Raises:
        UsageError: a config is not; the message lists those that are.
    """
    compared = [config.name for config in configs if config.kind != "baseline"]
    for condition in split_gate(expression):
        if (match := _IMPROVES.fullmatch(condition)) and match[1] not in compared:
            raise UsageError(
                f"--gate {expression!r}: no config {match[1]} is compared with the baseline; expected one of "
                f"{', '.join(compared)}"
            )


def check_gate(expression: str | None, summary: Summary, tasks: int) -> tuple[GateResult, ...]:
    """Judge each condition on the numbers of the summary.

    * `improves(C)`: the verdict on C is *improves* (`capvec.stats.verdict` has the rule).
    * `no_harm(D)`: no other config's pass rate is more than D below the baseline's.
    * `M<=baseline`: no other config's mean M per run is above the baseline's.

    The last two compare point estimates and ignore their uncertainty. The estimates are the report's effects: means
    over the tasks of which both configs have valid trials, with equal weights. The conditions apply to every config
    but the baseline, controls included, and fail for a config that shares no task with the baseline. The reason says
    over how many tasks a condition was judged, since infrastructure errors can leave few, and gives the interval of
    the lowest config.

    Args:
        expression: conditions that passed `split_gate` and `check_names`; None for no gate.
        summary: of the run.
        tasks: number of tasks in the plan.
    """
    return tuple(_check(condition, summary, tasks) for condition in split_gate(expression)) if expression else ()


def _check(condition: str, summary: Summary, tasks: int) -> GateResult:
    if match := _IMPROVES.fullmatch(condition):
        return _improves(condition, match[1], summary)
    if match := _NO_HARM.fullmatch(condition):
        metric, sign, bound = "pass_rate", -1, float(match[1])
    else:
        metric, sign, bound = condition.partition("<=")[0].strip(), 1, 0.0
    effects = {row.config: _effect(row, metric) for row in _others(summary)}
    failures = [
        _against(config, effect, tasks)
        for config, effect in effects.items()
        if effect is None or sign * effect.difference > bound + _ROUNDING
    ]
    known = [effect for effect in effects.values() if effect is not None]
    held = f"holds for every config{_over([effect.tasks for effect in known], tasks)}{_lowest(known)}"
    return GateResult(condition, not failures, "; ".join(failures) or held)


def _lowest(effects: Sequence[Effect]) -> str:
    """The estimate and interval of the config whose pass rate fell most; empty if none fell."""
    worst = min(effects, key=lambda effect: effect.difference, default=None)
    if worst is None or worst.interval is None or worst.difference >= 0:
        return ""
    return f"; {worst.config} has {estimate(worst.difference, worst.interval)}"


def _improves(condition: str, name: str, summary: Summary) -> GateResult:
    row = next(row for row in _others(summary) if row.config == name)
    if row.verdict is None:
        return GateResult(condition, False, _NOTHING_SHARED.format(name))
    return GateResult(condition, row.verdict.name == "improves", row.verdict.words)


def _others(summary: Summary) -> list[ConfigSummary]:
    return [row for row in summary.configs if row.config != summary.baseline]


def _effect(row: ConfigSummary, metric: str) -> Effect | None:
    return next((effect for effect in (row.effect, *row.secondary) if effect and effect.metric == metric), None)


def _against(config: str, effect: Effect | None, tasks: int) -> str:
    """The config's mean beside the baseline's."""
    if effect is None:
        return _NOTHING_SHARED.format(config)
    has, unit = ("passes", "") if effect.metric == "pass_rate" else ("has", f" {effect.metric} per run")
    return f"{config} {has} {effect.value:.2f}{unit}, baseline {effect.baseline:.2f}{_over([effect.tasks], tasks)}"


def _over(judged: Sequence[int], tasks: int) -> str:
    """`, over 2 of 20 tasks` or `, over 2 to 20 of 20 tasks`; empty if no config was judged."""
    if not judged:
        return ""
    span = " to ".join(dict.fromkeys(map(str, (min(judged), max(judged)))))
    return f", over {span} of {counted(tasks, 'task')}"
