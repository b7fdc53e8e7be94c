"""`--gate`: conditions on the summary that decide the exit code."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from capvec.errors import UsageError
from capvec.records import Config
from capvec.stats.summary import ConfigSummary, Summary

_IMPROVES = re.compile(r"improves\(\s*([^)\s]+)\s*\)")
_NO_HARM = re.compile(r"no_harm\(\s*(\d+(?:\.\d*)?|\.\d+)\s*\)")
_AT_MOST = re.compile(r"(parse_fail|no_cmd|steps)\s*<=\s*baseline")
_FORMS = "improves(CONFIG), no_harm(D), parse_fail<=baseline, no_cmd<=baseline, steps<=baseline"
_ROUNDING = 1e-9
"""0.8 − 0.2 is a little above 0.6 in floating point; rates differ by more than this or not at all."""


@dataclass(frozen=True)
class GateResult:
    """One condition, whether it holds, and why in words."""

    condition: str
    met: bool
    reason: str


def split_gate(expression: str) -> tuple[str, ...]:
    """The conditions of an expression, joined by `and` or commas, each once; all of them must hold.

    Raises:
        UsageError: a condition is none of the known forms.
    """
    conditions = tuple(dict.fromkeys(part.strip() for part in re.split(r",|\band\b", expression)))
    for condition in conditions:
        if not any(form.fullmatch(condition) for form in (_IMPROVES, _NO_HARM, _AT_MOST)):
            raise UsageError(f"--gate {expression!r}: {condition!r} is not a condition; expected {_FORMS}")
    return conditions


def check_names(expression: str, configs: Sequence[Config]) -> None:
    """Make sure that every config that a gate names is one of the plan's, and not the baseline.

    Raises:
        UsageError: it is not; the message names those that there are.
    """
    compared = [config.name for config in configs if config.kind != "baseline"]
    for condition in split_gate(expression):
        if (match := _IMPROVES.fullmatch(condition)) and match[1] not in compared:
            raise UsageError(
                f"--gate {expression!r}: no config {match[1]} is compared with the baseline; expected one of "
                f"{', '.join(compared)}"
            )


def check_gate(expression: str, summary: Summary) -> tuple[GateResult, ...]:
    """Judge each condition on the numbers of the report.

    * `improves(C)`: the verdict on C is *improves* (`capvec.stats.verdict` has the rule).
    * `no_harm(D)`: no other config's pass rate is more than D below the baseline's.
    * `M<=baseline`: no other config's mean M per run is above the baseline's.

    Other configs are all but the baseline, controls included; those named have passed `check_names`. A config without
    a valid trial meets no condition.
    """
    return tuple(_check(condition, summary) for condition in split_gate(expression))


def _check(condition: str, summary: Summary) -> GateResult:
    if match := _IMPROVES.fullmatch(condition):
        return _improves(condition, match[1], summary)
    if match := _NO_HARM.fullmatch(condition):
        bound = float(match[1]) + _ROUNDING
        failures = [
            f"{config.config} passes {_rate(config)}, baseline {_rate(base)}"
            for config, base in _pairs(summary)
            if config.pass_rate is None or base.pass_rate is None or base.pass_rate - config.pass_rate > bound
        ]
    else:
        metric = condition.partition("<=")[0].strip()
        failures = [
            f"{config.config} has {_mean(config, metric)}, baseline {_mean(base, metric)}"
            for config, base in _pairs(summary)
            if not _at_most(_mean(config, metric), _mean(base, metric))
        ]
    return GateResult(condition, not failures, "; ".join(failures) or "holds for every config")


def _improves(condition: str, name: str, summary: Summary) -> GateResult:
    call = next(config for config, _ in _pairs(summary) if config.config == name).call
    if call is None:
        return GateResult(condition, False, f"{name} or the baseline has no valid trial")
    return GateResult(condition, call.name == "improves", call.words)


def _pairs(summary: Summary) -> list[tuple[ConfigSummary, ConfigSummary]]:
    """Every other config with the baseline: on its own blocks, where it stopped early."""
    return [(row, summary.base_of(row.config)) for row in summary.configs if row.config != summary.baseline]


def _mean(config: ConfigSummary, metric: str) -> float | None:
    """Per run."""
    return {
        "parse_fail": config.parse_fail_per_run,
        "no_cmd": config.no_cmd_per_run,
        "steps": config.mean_steps,
    }[metric]


def _rate(config: ConfigSummary) -> str:
    return "no valid trial" if config.pass_rate is None else f"{config.pass_rate:.2f}"


def _at_most(value: float | None, bound: float | None) -> bool:
    """False where there is nothing to compare."""
    return value is not None and bound is not None and value <= bound
