"""What the numbers mean, in sentences: each is written only where the numbers call for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from capvec.records import Config
from capvec.results.direction import DirectionSummary
from capvec.stats.effects import Effect
from capvec.stats.matched_controls import MatchedComparison
from capvec.stats.mediation import Mediation
from capvec.stats.pairing import smallest_p
from capvec.stats.sensitivity import Sensitivity
from capvec.stats.summary import ConfigSummary, Summary
from capvec.stats.verdict import LEVEL, Name
from capvec.text import p_in_words, signed

Cause = Literal["blind", "small", "unfinished", "futile"]
TOLD_APART = 0.9
"""In-sample AUC from which a reader might take the direction for a capability."""
_OF_A_CALL: Mapping[Name, tuple[str, str]] = {
    "improves": (
        "solves more, and the test that says so generalises to tasks like these",
        "solve more, and the test that says so generalises to tasks like these",
    ),
    "harms": (
        "solves less, and the test that says so generalises to tasks like these",
        "solve less, and the test that says so generalises to tasks like these",
    ),
    "changes form only": (
        "changes how the model replies, and does not change what gets solved by as much as would matter",
        "change how the model replies, and do not change what gets solved by as much as would matter",
    ),
    "no effect detected": (
        "does not change what gets solved by as much as would matter",
        "do not change what gets solved by as much as would matter",
    ),
}
_LEFT_OPEN: Mapping[Cause, tuple[str, str]] = {
    "blind": (
        "is left open: its tasks are too few to find that it helps or harms, whatever the attempts",
        "are left open: their tasks are too few to find that they help or harm, whatever the attempts",
    ),
    "small": (
        "is left open: its trials on record are too few to tell whether it helps, harms, or does nothing",
        "are left open: their trials on record are too few to tell whether they help, harm, or do nothing",
    ),
    "unfinished": (
        "is left open: the sweep ended before its last look, and nothing can be rejected until then",
        "are left open: the sweep ended before their last look, and nothing can be rejected until then",
    ),
    "futile": (
        "is left open: it was stopped for futility, when it was unlikely that the rest would tell",
        "are left open: they were stopped for futility, when it was unlikely that the rest would tell",
    ),
}
"""Why an underpowered config is."""


def meaning_section(
    summary: Summary,
    twins: Sequence[MatchedComparison],
    direction: DirectionSummary,
    configs: Sequence[Config],
    tasks: int,
) -> Iterator[str]:
    """Markdown lines; none where nothing was compared.

    Args:
        summary: of the run.
        twins: how steered configs stand among their twins.
        direction: that was steered with.
        configs: of the run, with their steers.
        tasks: that were planned.
    """
    judged = [row for row in summary.configs if row.config in summary.family and row.call is not None]
    if judged:
        yield "## What it means\n"
        sentences = (
            *_of_calls(judged, summary, tasks),
            *_of_separation(judged, summary, direction, configs),
            *_of_form(judged),
            *_of_twins(judged, twins),
            *_of_readings(judged, summary),
            *_of_drift(summary),
        )
        yield from (f"- {sentence}" for sentence in sentences)
        yield ""


def _of_calls(judged: Sequence[ConfigSummary], summary: Summary, tasks: int) -> Iterator[str]:
    for name, said in _OF_A_CALL.items():
        yield from _said_of([row.config for row in judged if _called(row) == name], said)
    open_ = {row.config: _cause(row, judged, summary, tasks) for row in judged if _called(row) == "underpowered"}
    for cause, said in _LEFT_OPEN.items():
        yield from _said_of([config for config, its in open_.items() if its == cause], said)


def _said_of(configs: Sequence[str], said: tuple[str, str]) -> Iterator[str]:
    if configs:
        yield f"{_listed(configs)} {said[len(configs) > 1]}."


def _called(row: ConfigSummary) -> Name | None:
    return None if row.call is None else row.call.name


def _cause(row: ConfigSummary, judged: Sequence[ConfigSummary], summary: Summary, tasks: int) -> Cause:
    # Each config that Holm's rule has rejected for leaves the others one step less to clear.
    left = len(summary.family) - sum(_called(other) in ("improves", "harms") for other in judged)
    if smallest_p(tasks) >= LEVEL / left:
        return "blind"
    test = None if summary.sequential is None else summary.sequential.test(row.config)
    if test is None:
        return "small"
    causes: dict[str, Cause] = {"go on": "unfinished", "futility": "futile"}
    return causes.get(test.decision, "small")


def _of_separation(
    judged: Sequence[ConfigSummary], summary: Summary, direction: DirectionSummary, configs: Sequence[Config]
) -> Iterator[str]:
    """The claim that capvec exists for: a direction that tells traces apart is no direction that helps."""
    layers = sorted({steer.layer for config in configs for steer in config.steers})
    if direction.ranking is not None and layers:
        ranking = direction.ranking
        best = max(layers, key=lambda layer: ranking.row(layer).auc)
        auc, found = ranking.row(best).auc, ranking.found(best)
        told_apart = f"The direction tells the traces apart (AUC {auc:.3f} in sample at layer {best}, beyond chance)"
        if not found:
            yield (
                f"The AUC of {auc:.3f} in sample at layer {best} is one that permuted labels reach too: the traces are "
                "no evidence that there is such a direction."
            )
        elif auc < TOLD_APART or _causes(judged, summary, configs):
            pass
        elif all(_called(row) == "underpowered" for row in judged):
            yield f"{told_apart}; whether it also makes the agent solve more or less, this sweep cannot tell."
        else:
            yield (
                f"{told_apart}, and no config that steers with it was found to solve more. What tells successes from "
                "failures need not be what makes them."
            )
    if direction.audit is not None and direction.audit.flags:
        flags = _listed(direction.audit.flags)
        yield f"The traces are told apart by {flags} alone as well, so the direction may be a direction of that."


def _causes(judged: Sequence[ConfigSummary], summary: Summary, configs: Sequence[Config]) -> bool:
    """Whether anything speaks for the direction as a cause: steering with it helps, or steering against it harms."""
    against = {config.name for config in configs if _pushes_back(config)}
    harmed = any(row.config in against and _called(row) == "harms" for row in summary.configs)
    return harmed or any(_called(row) == "improves" for row in judged)


def _pushes_back(config: Config) -> bool:
    """A steered config, or the reverse of one, that takes the direction away or adds it with the other sign."""
    of_the_direction = config.kind == "steered" or (config.control is not None and config.control.kind == "negated")
    return of_the_direction and any(steer.op == "ablate" or steer.alpha < 0 for steer in config.steers)


def _of_form(judged: Sequence[ConfigSummary]) -> Iterator[str]:
    """What moved, and what ran through it; whether solving moved is for the call to say."""
    for row in judged:
        if row.form is not None and row.form.form is not None:
            yield f"`{row.config}` changed the form of the replies ({row.form.form}){_split(row.mediation)}."


def _split(mediation: Mediation | None) -> str:
    if mediation is None:
        return ""
    split = mediation.words if mediation.without_clean is not None else f"the change in pass rate is {mediation.words}"
    return f"; {split}"


def _of_twins(judged: Sequence[ConfigSummary], twins: Sequence[MatchedComparison]) -> Iterator[str]:
    """In the tail that the call is in; where no effect was called there is none for a push to explain."""
    calls = {row.config: row.call.name for row in judged if row.call is not None}
    for one in twins:
        name = calls.get(one.config)
        if one.metric != "pass_rate" or name not in ("improves", "harms"):
            continue
        rank, count = one.rank, len(one.twins)
        beyond, pvalue, way = (
            (rank.as_high, rank.p_higher, "much or more")
            if name == "improves"
            else (rank.as_low, rank.p_lower, "little or less")
        )
        counted = f"{beyond or 'None'} of {count} {one.kind} twin{'s' if count > 1 else ''} of `{one.config}`"
        solved = f"{counted} solved as {way} (one-sided p = {pvalue:.2g})"
        if pvalue < LEVEL:
            yield f"{solved}: a push of that length is not enough to explain it."
        elif one.smallest_p >= LEVEL:
            yield f"{solved}: too few twins to tell its effect from that of a push in any direction."
        else:
            yield f"{solved}: not distinguishable from a push of that length in any direction."


def _of_readings(judged: Sequence[ConfigSummary], summary: Summary) -> Iterator[str]:
    """Only what was called an effect can hang on how trials are counted, and only where there are trials that can be
    counted in two ways. Each reading is corrected as the call is.
    """
    for row in judged:
        if row.effect is None or _called(row) not in ("improves", "harms"):
            continue
        way = row.effect.difference
        lost = [one for one in row.sensitivity if _corrected(one.effect) >= LEVEL or one.effect.difference * way <= 0]
        if lost:
            yield f"`{row.config}` hangs on how trials are counted: {_lost(lost)}."
        elif summary.sequential is None and (doubtful := _doubtful(row, summary)):
            # With looks nothing is said: the readings do not allow for them, so they cannot clear the call.
            yield f"`{row.config}` does not hang on how {doubtful} are counted."


def _doubtful(row: ConfigSummary, summary: Summary) -> str:
    repaired = any(one.repaired_per_run for one in (row, summary.base_of(row.config)))
    return " and ".join(["its errors"] * bool(row.errors) + ["repaired replies"] * repaired)


def _corrected(effect: Effect) -> float:
    return effect.pvalue if effect.holm is None else effect.holm


def _lost(lost: Sequence[Sensitivity]) -> str:
    return "; ".join(
        f'under "{one.reading}" it is {signed(one.effect.difference)}, {p_in_words(_corrected(one.effect))} after Holm'
        for one in lost
    )


def _of_drift(summary: Summary) -> Iterator[str]:
    drift = summary.drift
    tests = {
        "passed more or less often as time went on": drift.pass_trend,
        "took more or fewer steps as time went on": drift.steps_trend,
        "passed more often on some workers than on others": drift.pass_by_worker,
    }
    for what, test in tests.items():
        if test is not None and test.pvalue < LEVEL:
            hedge = "" if drift.within_tasks else "; with one attempt a task that may be the order of the tasks"
            yield f"The baseline {what} (p = {test.pvalue:.2g}{hedge}). {_bearing(summary)}"


def _bearing(summary: Summary) -> str:
    """On whom a drift bears: on all alike, where all ran through it side by side."""
    looks = summary.sequential
    if summary.drift.runs > 1:
        return "These are merged runs: it bears alike only on configs that ran side by side in the same ones."
    if looks is not None and any(test.stopped for test in looks.tests):
        return "Configs ran side by side until they stopped, so it bears alike on those that ran as long."
    return "Configs ran side by side, so it bears on all of them alike."


def _listed(names: Sequence[str]) -> str:
    marked = [f"`{name}`" for name in names]
    return marked[0] if len(marked) == 1 else f"{', '.join(marked[:-1])} and {marked[-1]}"
