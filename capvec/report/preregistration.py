"""Whether a run is what was preregistered: what a reader has to know before the verdict."""

from __future__ import annotations

from capvec.report.section import Block, Bullets, Code, Paragraph, Section, Table, left
from capvec.results.departures import Comparison
from capvec.results.results import Results
from capvec.text import counted, printable


def preregistration_status(results: Results) -> tuple[str, ...]:
    """The sentence at the beginning of a report that names every departure; none without a preregistration."""
    return () if results.comparison is None else (_status(results.comparison, results),)


def _status(comparison: Comparison, results: Results) -> str:
    registered, departures = comparison.preregistration.in_words, comparison.departures
    whose = "sweep" if results.origin is None else "results"
    if departures:
        points = "; ".join(one.in_words() for one in departures)
        return f"Departs from its preregistration ({registered}) in {counted(len(departures), 'point')}: {points}."
    rest = " as far as they can be compared" if comparison.not_compared else ""
    return f"Preregistered ({registered}), and the {whose} kept to it{rest}."


def preregistration_section(results: Results) -> Section | None:
    """The claim, every departure whole, and what cannot be compared; None without a preregistration."""
    comparison = results.comparison
    if comparison is None:
        return None
    registered, status = comparison.preregistration, Paragraph(_status(comparison, results))
    blocks: list[Block] = [
        Paragraph(f"The hypothesis: {printable(registered.hypothesis)}"),
        Paragraph(
            (
                f"Written {registered.in_words.partition('written ')[2]} by capvec {registered.capvec}; hash ",
                Code(registered.hash),
                ". Whoever changes the file can compute another hash: compare it with the one that was made known "
                "before the first trial.",
            )
        ),
    ]
    if comparison.departures:
        rows = tuple((one.kind, printable(one.in_words())) for one in comparison.departures)
        blocks.append(Table(left("what", "departure"), rows))
    else:
        blocks.append(Paragraph("Nothing departs from it."))
    if comparison.not_compared:
        blocks += [Paragraph("These results do not show, and so nothing says here:"), Bullets(comparison.not_compared)]
    return Section("preregistration", "Preregistration", tuple(blocks), brief=(status,))
