"""The report of counts alone: Fisher's exact test, what it could have seen, and that no verdict follows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from capvec.report.html.page import page
from capvec.report.html.viewer import Embedded
from capvec.report.markdown import markdown
from capvec.report.section import Bullets, Code, Paragraph, Report, Section, Table, Text, left, right
from capvec.stats.counts import CountedConfig, size_digits
from capvec.storage import make_folder, write_text
from capvec.text import interval, number, p_in_words, p_value

_NOTHING_BETTER = (
    "Counts alone give no verdict, and nothing better than this test can be done without tasks and attempts: trials "
    "that share a task are not independent, and the test takes them as if they were. Give a table with a row for each "
    "trial."
)


def counts_report(rows: Sequence[CountedConfig], baseline: str, title: str) -> Report:
    """What can be said of counts.

    Args:
        rows: as `compare_counts` returns them.
        baseline: the config that the others are compared with.
        title: of the report.
    """
    compared = [row for row in rows if row.config != baseline]
    lines = tuple(Paragraph(sentence) for row in compared for sentence in _sentences(row, rows, baseline))
    nothing = Paragraph(_NOTHING_BETTER)
    table = _table(rows)
    caveats: tuple[Text, ...] = (
        "Steering not proved: there are no receipts.",
        "Whether errors of the instrument count as unsolved is not known.",
        "A difference between two counts may be one between the tasks that were run.",
    )
    return Report(
        title=title,
        status=f"No verdict: counts alone. {_status(compared)}",
        sections=(
            Section("verdict", "What the counts show", (*lines, nothing), brief=(*lines, nothing)),
            Section("results", "Results", (table, Paragraph(_note(baseline))), brief=(table,)),
            Section("caveats", "Caveats", (Bullets(caveats),)),
        ),
        about=f"{len(rows)} configs, {sum(row.n for row in rows)} trials",
        source="counts that were typed",
    )


def write_counts_report(report: Report, folder: Path) -> None:
    """Write `RESULTS.md` and `report.html` into a folder."""
    make_folder(folder)
    write_text(folder / "RESULTS.md", markdown(report))
    write_text(folder / "report.html", page(report, Embedded((), (), 0, 0, 0), (), ()))


def _status(compared: Sequence[CountedConfig]) -> str:
    least = min((row.holm for row in compared if row.holm is not None), default=1.0)
    return f"The smallest p of Fisher's exact test is {p_value(least)} after Holm."


def _sentences(row: CountedConfig, rows: Sequence[CountedConfig], baseline: str) -> Iterator[Text]:
    base = next(one for one in rows if one.config == baseline)
    assert row.pvalue is not None  # of a compared config
    yield (
        Code(row.config),
        f" solved {row.solved} of {row.n}, ",
        Code(baseline),
        f" {base.solved} of {base.n}: Fisher {p_in_words(row.pvalue)}, {p_value(row.holm)} after Holm. With so "
        f"many trials the test finds {_seen(row)}.",
    )


def _seen(row: CountedConfig) -> str:
    """What it could have seen, with power 80 %."""
    rise = "no rise of any size" if row.rise is None else f"a rise of {_size(row.rise)} or more"
    fall = "no fall of any size" if row.fall is None else f"a fall of {_size(-row.fall)} or more"
    return f"{rise} and {fall} with power 80 %"


def _size(change: float | None) -> str:
    return "–" if change is None else number(change, size_digits(change))


def _table(rows: Sequence[CountedConfig]) -> Table:
    cells = tuple(
        (
            row.config,
            f"{row.solved}/{row.n}",
            number(row.rate),
            interval(row.wilson),
            p_value(row.pvalue),
            p_value(row.holm),
            _size(row.rise),
            _size(row.fall).replace("-", "−"),
        )
        for row in rows
    )
    titles = ("solved", "rate", "95 % Wilson", "Fisher p", "after Holm", "least rise found", "least fall found")
    return Table((*left("config"), *right(*titles)), cells)


def _note(baseline: str) -> tuple[str | Code, ...]:
    return (
        "Fisher's exact test, two-sided, against ",
        Code(baseline),
        ", and after Holm over all others. The least rise and fall are those that the test finds with power 80 % from "
        "the baseline's observed rate, at the level of Holm's first step, if trials were independent.",
    )
