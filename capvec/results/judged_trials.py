"""Trials of other harnesses as outcomes, and which of their configs are compared with which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from capvec.errors import UsageError
from capvec.harnesses import Source
from capvec.harnesses.source import Trial, with_attempts
from capvec.plan.configs import control_of
from capvec.records import Config, Outcome
from capvec.results.origin import Asked
from capvec.text import enumerated

_NEVER = ("layer", "alpha", "end_reason", "prompt_tokens", "completion_tokens", "model_s", "sandbox_s", "wall_s")
"""Fields of an outcome that no importer reads."""
_COUNTED = ("steps", "parse_fail", "no_cmd", "repaired", "seed")
"""Those that some results have."""


@dataclass(frozen=True)
class Trials:
    """The outcomes, and the fields of them that are not on record."""

    outcomes: tuple[Outcome, ...]
    unrecorded: tuple[str, ...]


def combined(sources: Sequence[tuple[str | None, Source]]) -> list[tuple[tuple[Trial, ...], Source]]:
    """The trials of every source under the names of their configs, with attempts that count on over the sources.

    Raises:
        UsageError: a config has no name, or one trial is there twice.
    """
    called = [source if name is None else source.called(name) for name, source in sources]
    for source in called:
        if "" in source.configs:
            raise UsageError(
                f"{source.name}: its trials do not say of which config they are; name it, as in "
                f"baseline={source.name}, or name the column, as in --columns config=NAME"
            )
    together = with_attempts((trial for source in called for trial in source.trials), _names(called))
    found, start = [], 0
    for source in called:
        found.append((together[start : start + len(source.trials)], source))
        start += len(source.trials)
    return found


def _names(sources: Sequence[Source]) -> str:
    return ", ".join(source.name for source in sources)


def outcomes_of(found: Sequence[tuple[Sequence[Trial], Source]]) -> Trials:
    """The trials of `combined` as outcomes."""
    trials = [(trial, source) for own, source in found for trial in own]
    valid = [trial for trial, _ in trials if trial.outcome != "error"] or [trial for trial, _ in trials]
    unrecorded = tuple(name for name in _COUNTED if any(getattr(trial, name) is None for trial in valid))
    return Trials(tuple(_outcome(trial, source.name) for trial, source in trials), (*unrecorded, *_NEVER))


def _outcome(trial: Trial, run: str) -> Outcome:
    return Outcome(
        run=run,
        task=trial.task,
        config=trial.config,
        layer=None,
        alpha=None,
        attempt=trial.attempt or 1,
        seed=trial.seed or 0,
        outcome=trial.outcome,
        reward=trial.reward,
        steps=trial.steps or 0,
        parse_fail=trial.parse_fail or 0,
        repaired=trial.repaired or 0,
        no_cmd=trial.no_cmd or 0,
        end_reason="error" if trial.outcome == "error" else "done",
        error=trial.error,
    )


# ------------------------------------------------------------------------------------------------ configs


def configs_of(outcomes: Sequence[Outcome], asked: Asked) -> tuple[tuple[Config, ...], tuple[str, ...]]:
    """The baseline, then the others in their order; and those that were taken for controls by their names.

    Raises:
        UsageError: there is no baseline, or no outcome of a control.
    """
    names = list(dict.fromkeys(outcome.config for outcome in outcomes))
    baseline = baseline_among(names, asked.baseline)
    others = [name for name in names if name != baseline]
    guessed = {name for name in others if control_of(name, others) is not None} if asked.controls is None else set()
    controls = guessed if asked.controls is None else set(asked.controls)
    if missing := controls - set(others):
        raise UsageError(f"no outcome of {', '.join(sorted(missing))}; the outcomes are of {enumerated(names)}")
    compared = [name for name in others if name not in controls]
    return (
        Config(baseline, "baseline"),
        *(
            Config(name, "control", control=control_of(name, compared)) if name in controls else Config(name, "steered")
            for name in others
        ),
    ), tuple(name for name in others if name in guessed)


def baseline_among(names: Sequence[str], asked: str | None) -> str:
    """The name of the config that the others are compared with: the one that was asked for, or `baseline`.

    Raises:
        UsageError: there is no such config.
    """
    if not names:
        raise UsageError(f"no outcome of {asked or Config.BASELINE}; no outcomes were given")
    if asked is not None:
        if asked not in names:
            raise UsageError(f"no outcome of {asked}; the outcomes are of {enumerated(names)}")
        return asked
    if Config.BASELINE in names:
        return Config.BASELINE
    raise UsageError(
        f"no outcome of {Config.BASELINE}; the outcomes are of {enumerated(names)}: say with which of them the others "
        "are compared, as in --baseline NAME"
    )
