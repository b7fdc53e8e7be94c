"""What became of the run itself: its gates, its errors and the trials that are missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from capvec.records import LostTry, Outcome
from capvec.report.error_difference import in_words
from capvec.report.section import Block, Bullets, Code, Inline, Paragraph, Section, Strong, Text
from capvec.results.results import Results
from capvec.text import counted, one_line, printable

_ERRORS_SHOWN = 5


def gates_section(results: Results) -> Section | None:
    """How each gate was judged, or stands so far; None where there is no gate."""
    if not results.gates:
        return None
    so_far = " so far" if results.completeness.missing else ""
    items = tuple(
        (
            "met" if gate.met else Strong("not met"),
            f"{so_far}: ",
            Code(gate.condition),
            f" ({gate.reason})",
        )
        for gate in results.gates
    )
    blocks: tuple[Block, ...] = (Bullets(items),)
    if so_far:
        blocks = (Paragraph("Trials are missing, so no gate is judged yet. This is how the gates stand:"), *blocks)
    brief = tuple(
        Paragraph(f"gate {'met' if gate.met else 'NOT MET'}{so_far}: {gate.condition} ({gate.reason})")
        for gate in results.gates
    )
    return Section("gates", "Gates", blocks, brief)


def errors_section(outcomes: Sequence[Outcome], *, resumable: bool = True) -> Section | None:
    """Every trial that ended in an infrastructure error; None where none did."""
    failed = [outcome for outcome in outcomes if outcome.outcome == "error"]
    if not failed:
        return None
    items: tuple[Text, ...] = tuple((Code(outcome.trial), ": ", _reason(outcome)) for outcome in failed)
    by_class = Paragraph(f"By what failed: {in_words(Counter(outcome.fault for outcome in failed))}.")
    again = (Paragraph((Code("--resume"), " runs these trials again.")),) if resumable else ()
    brief = [Paragraph(f"error: {outcome.trial}: {_first_line(outcome)}") for outcome in failed[:_ERRORS_SHOWN]]
    if len(failed) > _ERRORS_SHOWN:
        brief.append(Paragraph(f"and {len(failed) - _ERRORS_SHOWN} more errors; RESULTS.md lists them all"))
    return Section("errors", "Infrastructure errors", (Bullets(items), by_class, *again), tuple(brief))


def retried_section(outcomes: Sequence[Outcome]) -> Section | None:
    """Every try that a fault of the instrument ended, with its reason; None where there is none."""
    lost = [(outcome, number, one) for outcome in outcomes for number, one in enumerate(outcome.lost, start=1)]
    if not lost:
        return None
    trials = counted(len({outcome.id for outcome, _, _ in lost}), "trial")
    about = Paragraph(
        f"{trials} began anew after a fault of the instrument, in a fresh container, from the same seed. Each counts "
        "once, by its last try; a trial that was judged is never tried again. What the lost tries did is under `lost/`."
    )
    items: tuple[Text, ...] = tuple(
        (Code(outcome.trial), f", try {number}", _waited(one), ": ", Code(one_line(one.error) or "no reason was given"))
        for outcome, number, one in lost
    )
    brief = Paragraph(f"{trials} began anew after a fault of the instrument; RESULTS.md says why")
    return Section("retried", "Trials that began anew", (about, Bullets(items)), (brief,))


def _waited(lost: LostTry) -> str:
    where = f" at {lost.host}" if lost.away == "Docker" and lost.host else ""
    return "" if lost.away is None else f" ({lost.away}{where} was out; waited {lost.waited_s:.0f} s)"


def _reason(outcome: Outcome) -> Inline:
    reason = one_line(outcome.error)
    return Code(reason) if reason else "no reason was given"


def _first_line(outcome: Outcome) -> str:
    """The summary of pytest cuts it short."""
    return next(iter(printable(outcome.error).strip().splitlines()), "") or "no reason was given"
