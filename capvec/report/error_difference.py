"""Whether errors of the instrument fall on some configs more than on others: what a reader has to know first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from capvec.records import Outcome
from capvec.report.section import Link, Paragraph, Section, Table, left, right
from capvec.results.results import Results
from capvec.stats.error_difference import ErrorDifference, error_differences
from capvec.stats.verdict import LEVEL
from capvec.text import p_value

ID, TITLE = "error-difference", "Errors differ between configs"


def error_difference_section(results: Results) -> Section | None:
    """The errors of every config by their class; None where all have the same share of errors as the baseline."""
    found = error_differences(results.summary)
    if not any(one.differs for one in found):
        return None
    words = _words(results, found)
    first = found[0]
    base: tuple[str, int, int, float | None] = (results.summary.baseline, first.base_errors, first.base_trials, None)
    rows = (base, *((one.config, one.errors, one.trials, one.p) for one in found if one.differs))
    classes = error_classes(results.outcomes)
    table = Table(
        (*left("config"), *right("trials", "errors"), *left("of which"), *right("Fisher")),
        tuple(
            (name, str(trials), str(errors), classes.get(name, "–") if errors else "–", p_value(p))
            for name, errors, trials, p in rows
        ),
    )
    advice = Paragraph(
        (
            "An error leaves the pass rate, so the trials that are left of a config may be its easier or its harder "
            "ones. ",
            Link("robustness", "Robustness"),
            " counts the errors for and against each config. Run them again before you rely on a difference. The "
            "p-values are of Fisher's exact test on errors and valid trials against the baseline, and are not "
            "corrected.",
        )
    )
    return Section(ID, TITLE, (Paragraph(words), table, advice), brief=(Paragraph(words),))


def error_difference_status(results: Results) -> str:
    """The sentence that begins a report; empty where every config has the same share of errors."""
    found = error_differences(results.summary)
    return _words(results, found) if any(one.differs for one in found) else ""


def _words(results: Results, found: Sequence[ErrorDifference]) -> str:
    differing = [one for one in found if one.differs]
    shares = ", ".join(f"{one.config} {one.errors} of {one.trials}" for one in differing)
    base = differing[0]
    beyond = [one.config for one in differing if one.p < LEVEL]
    judged = (
        f"That is more than chance would explain for {', '.join(beyond)}: read no difference of them as an effect."
        if beyond
        else "Chance alone may have divided them so."
    )
    baseline = f"{results.summary.baseline} {base.base_errors} of {base.base_trials}"
    return f"Errors differ between configs: {baseline}, {shares}. {judged}"


def error_classes(outcomes: Sequence[Outcome]) -> dict[str, str]:
    """Config → the classes of its errors in words, the most frequent first: `3 engine, 1 docker`."""
    counts: dict[str, Counter[str]] = {}
    for outcome in outcomes:
        if outcome.outcome == "error":
            counts.setdefault(outcome.config, Counter())[outcome.fault] += 1
    return {config: in_words(counter) for config, counter in counts.items()}


def in_words(counter: Counter[str]) -> str:
    """Classes of errors with their numbers."""
    return ", ".join(f"{number} {name}" for name, number in counter.most_common())
