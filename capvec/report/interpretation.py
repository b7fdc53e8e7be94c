"""What the numbers mean, in sentences. Each sentence is written only where the numbers call for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from capvec.records import Config
from capvec.report.section import Bullets, Code, Section, Text, join, listed
from capvec.report.verdict import compared
from capvec.results.direction import DirectionSummary
from capvec.results.results import Results
from capvec.stats.config_summary import ConfigSummary
from capvec.stats.effects import Effect, paired_effect
from capvec.stats.matched_controls import MatchedComparison
from capvec.stats.mediation import Mediation
from capvec.stats.pairing import smallest_p
from capvec.stats.sensitivity import Sensitivity
from capvec.stats.summary import Summary
from capvec.stats.verdict import LEVEL, Name
from capvec.text import p_in_words, signed

Undecided = Literal["few tasks", "few trials", "unfinished", "futile"]
SEPARATES = 0.9
"""In-sample AUC from which a reader might take the direction for a capability."""
_OF_A_VERDICT: Mapping[Name, tuple[str, str]] = {
    "improves": (
        " raises the pass rate. The test generalises to tasks like these.",
        " raise the pass rate. The test generalises to tasks like these.",
    ),
    "harms": (
        " lowers the pass rate. The test generalises to tasks like these.",
        " lower the pass rate. The test generalises to tasks like these.",
    ),
    "changes format only": (
        " changes the format of the replies, and does not change the pass rate by as much as would matter.",
        " change the format of the replies, and do not change the pass rate by as much as would matter.",
    ),
    "no effect detected": (
        " does not change the pass rate by as much as would matter.",
        " do not change the pass rate by as much as would matter.",
    ),
}
_WHY_UNDECIDED: Mapping[Undecided, tuple[str, str]] = {
    "few tasks": (
        "it has too few tasks to detect help or harm, however many attempts are made.",
        "they have too few tasks to detect help or harm, however many attempts are made.",
    ),
    "few trials": (
        "it has too few trials to tell whether it helps, harms or does nothing.",
        "they have too few trials to tell whether they help, harm or do nothing.",
    ),
    "unfinished": (
        "the sweep ended before its last interim analysis, and nothing can be rejected until then.",
        "the sweep ended before their last interim analysis, and nothing can be rejected until then.",
    ),
    "futile": (
        "it was stopped for futility, when the remaining trials were unlikely to decide.",
        "they were stopped for futility, when the remaining trials were unlikely to decide.",
    ),
}


def interpretation_section(results: Results) -> Section | None:
    """One item for each sentence; None where nothing was compared."""
    summary, direction, configs = results.summary, results.direction, results.plan.configs
    judged = [row for row in compared(summary) if row.verdict is not None]
    if not judged:
        return None
    sentences: tuple[Text, ...] = (
        *_of_verdicts(judged, summary, len(results.plan.tasks)),
        *_of_separation(judged, summary, direction, configs),
        *_of_format(judged),
        *_of_matched_controls(judged, results.controls),
        *_of_constrained(judged, results),
        *_of_the_battery(results),
        *_of_readings(judged, summary),
        *_of_drift(summary),
    )
    return Section("interpretation", "Interpretation", (Bullets(sentences),))


# ------------------------------------------------------------------------------------------------ verdicts


def _of_verdicts(judged: Sequence[ConfigSummary], summary: Summary, tasks: int) -> Iterator[Text]:
    for name, words in _OF_A_VERDICT.items():
        if configs := [row.config for row in judged if _verdict(row) == name]:
            yield join(listed(configs), words[len(configs) > 1])
    undecided = {
        row.config: _why_undecided(row, judged, summary, tasks) for row in judged if _verdict(row) == "underpowered"
    }
    for why, reasons in _WHY_UNDECIDED.items():
        if configs := [config for config, reason in undecided.items() if reason == why]:
            effect, verb = ("effects", "are") if len(configs) > 1 else ("effect", "is")
            yield join(f"The {effect} of ", listed(configs), f" {verb} undecided: {reasons[len(configs) > 1]}")


def _verdict(row: ConfigSummary) -> Name | None:
    return None if row.verdict is None else row.verdict.name


def _why_undecided(row: ConfigSummary, judged: Sequence[ConfigSummary], summary: Summary, tasks: int) -> Undecided:
    # Each config that Holm's rule has rejected for leaves the others one step less to clear.
    left = len(summary.comparisons) - sum(_verdict(other) in ("improves", "harms") for other in judged)
    if smallest_p(tasks) >= LEVEL / left:
        return "few tasks"
    test = None if summary.sequential is None else summary.sequential.test(row.config)
    if test is None:
        return "few trials"
    reasons: dict[str, Undecided] = {"go on": "unfinished", "futility": "futile"}
    return reasons.get(test.decision, "few trials")


# ------------------------------------------------------------------------------------------------ the direction


def _of_separation(
    judged: Sequence[ConfigSummary], summary: Summary, direction: DirectionSummary, configs: Sequence[Config]
) -> Iterator[Text]:
    """The claim that capvec exists to test: a direction that separates traces need not help."""
    layers = sorted({steer.layer for config in configs for steer in config.steers})
    if direction.ranking is not None and layers:
        ranking = direction.ranking
        best = max(layers, key=lambda layer: ranking.row(layer).auc)
        auc, found = ranking.row(best).auc, ranking.found(best)
        separates = f"The direction separates the traces (in-sample AUC {auc:.3f} at layer {best}, beyond chance)"
        if not found:
            yield (
                f"Permuted labels also reach the in-sample AUC of {auc:.3f} at layer {best}. The traces are no "
                "evidence that there is such a direction."
            )
        elif auc < SEPARATES or _is_a_cause(judged, summary, configs):
            pass
        elif all(_verdict(row) == "underpowered" for row in judged):
            yield f"{separates}. This sweep cannot tell whether it also makes the agent solve more or less."
        else:
            yield (
                f"{separates}, but no config that steers with it was found to solve more. What tells successes from "
                "failures need not cause them."
            )
    if direction.audit is not None and (flags := direction.audit.flags):
        verb, these = ("separates", "this confound") if len(flags) == 1 else ("separate", "these confounds")
        yield join(listed(flags), f" alone also {verb} the traces. The direction may encode {these} instead.")


def _is_a_cause(judged: Sequence[ConfigSummary], summary: Summary, configs: Sequence[Config]) -> bool:
    """Whether anything suggests that the direction is a cause: it helps, or steering against it harms."""
    against = {config.name for config in configs if _steers_against(config)}
    harmed = any(row.config in against and _verdict(row) == "harms" for row in summary.configs)
    return harmed or any(_verdict(row) == "improves" for row in judged)


def _steers_against(config: Config) -> bool:
    """Whether a steered config, or its negated control, removes the direction or adds it with a negative sign."""
    of_the_direction = config.kind == "steered" or (config.control is not None and config.control.kind == "negated")
    return of_the_direction and any(steer.op == "ablate" or steer.alpha < 0 for steer in config.steers)


# ------------------------------------------------------------------------------------------------ format, controls


def _of_format(judged: Sequence[ConfigSummary]) -> Iterator[Text]:
    """What changed, and how much of the effect ran through it. The verdict says whether solving changed."""
    for row in judged:
        change = row.format_change.description if row.format_change is not None else None
        if change is not None:
            yield (Code(row.config), f" changed the format of the replies ({change}){_split(row.mediation)}.")


def _split(mediation: Mediation | None) -> str:
    if mediation is None:
        return ""
    split = mediation.words if mediation.without_clean is not None else f"the change in pass rate is {mediation.words}"
    return f"; {split}"


def _of_matched_controls(judged: Sequence[ConfigSummary], comparisons: Sequence[MatchedComparison]) -> Iterator[Text]:
    """In the tail of the verdict. Where no effect was found, a push has none to explain."""
    names = {row.config: row.verdict.name for row in judged if row.verdict is not None}
    for one in comparisons:
        name = names.get(one.config)
        if one.metric != "pass_rate" or name not in ("improves", "harms"):
            continue
        pvalue = one.rank.p_higher if name == "improves" else one.rank.p_lower
        yield join(
            _ranked(one, improves=name == "improves"), f" (one-sided p = {pvalue:.2g}). {_explained(one, pvalue)}"
        )


def _ranked(one: MatchedComparison, *, improves: bool) -> Text:
    """How many of the controls moved the pass rate at least as far as the config did, in its way."""
    count, config = len(one.controls), Code(one.config)
    beyond = one.rank.as_high if improves else one.rank.as_low
    if beyond == 0:
        whom = f"The one {one.kind} control" if count == 1 else f"All {count} {one.kind} controls"
        return (f"{whom} solved {'less' if improves else 'more'} than ", config)
    whom = f"The one {one.kind} control" if count == 1 else f"{beyond} of {count} {one.kind} controls"
    return (f"{whom} solved as {'much' if improves else 'little'} as ", config, f" or {'more' if improves else 'less'}")


def _explained(one: MatchedComparison, pvalue: float) -> str:
    if pvalue < LEVEL:
        return "A push of that length does not explain the effect."
    if one.smallest_p >= LEVEL:
        few = "One control is too few" if len(one.controls) == 1 else f"{len(one.controls)} controls are too few"
        return f"{few} to tell the effect from that of a push in any direction."
    return "The effect is not distinguishable from that of a push of the same length in any direction."


def _of_constrained(judged: Sequence[ConfigSummary], results: Results) -> Iterator[Text]:
    """How much of a gain there is without a vector, where the format of the replies is right by force."""
    kinds = {config.name: config.control.kind for config in results.plan.configs if config.control is not None}
    for row in results.summary.configs:
        if kinds.get(row.config) != "constrained" or row.effect is None:
            continue
        gained = [one.effect for one in judged if _verdict(one) == "improves" and one.effect is not None]
        if not gained:
            change, p = signed(row.effect.difference), p_in_words(row.effect.pvalue)
            yield (f"Replies constrained to the protocol, without a vector, changed the pass rate by {change} ({p}).",)
        for effect in gained:
            yield _against_form(
                effect, row.effect, paired_effect(results.outcomes, effect.config, "pass_rate", row.config)
            )


def _of_the_battery(results: Results) -> Iterator[Text]:
    """What a config costs beside the tasks, where it is significant."""
    for cost in results.battery.costs if results.battery is not None else ():
        if cost.is_significant and cost.effect is not None:
            change, p = signed(cost.effect.difference), p_in_words(corrected(cost.effect))
            yield (
                Code(cost.config),
                f" costs ability off task: its accuracy on the battery changed by {change} ({p}).",
            )


def _against_form(vector: Effect, form: Effect, apart: Effect | None) -> Text:
    """What the gain of a vector is worth beside that of the grammar alone; `apart`: the difference of the two."""
    p = f", {p_in_words(apart.pvalue)}" if apart is not None else ""
    if form.difference >= vector.difference:
        gained, meaning = "as much as", "The gain of the vector may be one of form alone."
    elif apart is not None and apart.difference > 0 and apart.pvalue < LEVEL:
        gained, meaning = "less than", "The form of the replies does not explain the gain of the vector."
    else:
        gained, meaning = "not clearly less than", "The form of the replies may explain the gain of the vector."
    changes = f" ({signed(form.difference)} against {signed(vector.difference)}{p}). {meaning}"
    return join(
        f"Replies constrained to the protocol, without a vector, gained {gained} ", Code(vector.config), changes
    )


# ------------------------------------------------------------------------------------------------ readings, drift


def _of_readings(judged: Sequence[ConfigSummary], summary: Summary) -> Iterator[Text]:
    """Whether an effect depends on how trials are counted; only where some trials can be counted in two ways.

    Each reading is corrected as the verdict is.
    """
    for row in judged:
        if row.effect is None or _verdict(row) not in ("improves", "harms"):
            continue
        way, config = row.effect.difference, Code(row.config)
        lost = [one for one in row.sensitivity if corrected(one.effect) >= LEVEL or one.effect.difference * way <= 0]
        if lost:
            yield ("The verdict on ", config, f" depends on how trials are counted: {_lost(lost)}.")
        elif summary.sequential is None and (doubtful := _doubtful(row, summary)):
            # With interim analyses nothing is said: the readings do not allow for them and cannot confirm a verdict.
            yield ("The verdict on ", config, f" is robust to how {doubtful} are counted.")


def _doubtful(row: ConfigSummary, summary: Summary) -> str:
    repaired = any(one.repaired_per_run for one in (row, summary.base_of(row.config)))
    return " and ".join(["its errors"] * bool(row.errors) + ["repaired replies"] * repaired)


def corrected(effect: Effect) -> float:
    """The p-value that counts: after Holm, where there was a correction."""
    return effect.pvalue if effect.holm is None else effect.holm


def _lost(lost: Sequence[Sensitivity]) -> str:
    return "; ".join(
        f'under "{one.reading}" the difference is {signed(one.effect.difference)}, '
        f"{p_in_words(corrected(one.effect))} after Holm"
        for one in lost
    )


def _of_drift(summary: Summary) -> Iterator[Text]:
    drift = summary.drift
    tests = {
        "The pass rate of the baseline drifted with time": drift.pass_trend,
        "The number of steps of the baseline drifted with time": drift.steps_trend,
        "The pass rate of the baseline differed between workers": drift.pass_by_worker,
    }
    for what, test in tests.items():
        if test is not None and test.pvalue < LEVEL:
            hedge = "" if drift.within_tasks else " With one attempt per task, this may reflect the order of the tasks."
            yield f"{what} (p = {test.pvalue:.2g}).{hedge} {_affected(summary)}"


def _affected(summary: Summary) -> str:
    """The configs that a drift affects alike: those that ran side by side."""
    interim = summary.sequential
    if summary.drift.runs > 1:
        return "In merged runs, it affects only configs that ran side by side in the same runs alike."
    if interim is not None and any(test.stopped for test in interim.tests):
        return "Configs ran side by side until they stopped, so it affects those that ran equally long alike."
    return "Configs ran side by side, so it affects all of them alike."
