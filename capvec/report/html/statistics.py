"""What stands behind the calls: tables of what `summary.json` holds of each config against the baseline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from capvec.report.html.markup import Markup, element, table
from capvec.report.table import number, p_value

Row = Mapping[str, Any]


def behind_the_calls(rows: Sequence[Row], drift: Row | None) -> Markup:
    """Folded tables; empty for a summary without these statistics.

    Args:
        rows: `configs` of `summary.json`.
        drift: `drift` of it.
    """
    told = [row for row in rows if row.get("effect")]
    parts = [*_mediation(told), *_secondary(told), *_sensitivity(told), *(_drift(drift) if drift else ())]
    return element("details", element("summary", "What stands behind it"), parts) if parts else Markup()


def _mediation(rows: Sequence[Row]) -> Iterator[Markup]:
    found = [(row["config"], row["mediation"]) for row in rows if row.get("mediation")]
    if not found:
        return
    keys = ("difference", "through_parse_fail", "through_no_cmd", "remainder")
    head = ("config", "difference", "= through parse_fail", "+ through no_cmd", "+ where every reply acted")
    yield element("h3", "Did solving change, or only the form?")
    lines = [(name, *(signed(terms[key]) for key in keys)) for name, terms in found]
    yield table(head, lines, label="The change in pass rate by what became of the replies")
    yield _note("The change in pass rate, split by what became of the replies. It describes; none of it is tested.")


def _secondary(rows: Sequence[Row]) -> Iterator[Markup]:
    found = [effect for row in rows for effect in row.get("secondary") or ()]
    if not found:
        return
    yield element("h3", "parse_fail, no_cmd and steps per run")
    yield table(
        ("config", "metric", "baseline", "config's", "difference", "p", "p after Holm"),
        [
            (
                effect["config"],
                effect["metric"],
                number(effect["baseline"]),
                number(effect["value"]),
                signed(effect["difference"]),
                p_value(effect["pvalue"]),
                p_value(effect.get("holm")),
            )
            for effect in found
        ],
        numeric=(False, False, True, True, True, True, True),
        label="Other outcomes than solving",
    )
    yield _note("Means over tasks; p by the sign-flip test over tasks. Controls are in no family, so have no Holm p.")


def _sensitivity(rows: Sequence[Row]) -> Iterator[Markup]:
    found = [(row["config"], one) for row in rows for one in row.get("sensitivity") or ()]
    if not found:
        return
    yield element("h3", "Does it hang on how trials are counted?")
    yield table(
        ("config", "reading", "difference", "p"),
        [
            (name, one["reading"], signed(one["effect"]["difference"]), p_value(one["effect"]["pvalue"]))
            for name, one in found
        ],
        numeric=(False, False, True, True),
        label="The change in pass rate under other readings",
    )


def _drift(drift: Row) -> Iterator[Markup]:
    names = {
        "pass_trend": "pass rate with time",
        "steps_trend": "steps with time",
        "pass_by_worker": "pass rate between workers",
    }
    tests = [(names[key], drift[key]) for key in names if drift.get(key)]
    if not tests:
        return
    yield element("h3", "Did the baseline drift?")
    lines = [(name, number(test["statistic"]), p_value(test["pvalue"])) for name, test in tests]
    yield table(("of the baseline", "statistic", "p"), lines, label="Drift of the baseline")
    within = "within their task" if drift.get("within_tasks") else "between tasks too, one attempt each"
    yield _note(f"Permutation tests on {drift['trials']} baseline trials, exchanged {within}.")


def signed(value: float | None) -> str:
    """`+0.25`, `−0.10`, `+0.00`, or `–`."""
    return "–" if value is None else f"{round(value, 2) + 0.0:+.2f}".replace("-", "−")


def _note(text: str) -> Markup:
    return element("p", text, class_="note")
