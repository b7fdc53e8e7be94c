"""Each steered config beside its controls: α = 0, the negated direction, an instruction, and matched controls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from capvec.records import Config
from capvec.report.charts.matched_controls import METRICS, matched_controls
from capvec.report.figures import figures
from capvec.report.section import Block, Code, Column, Paragraph, Row, Section, Table, Text, left, right
from capvec.results.results import Results
from capvec.stats.matched_controls import MATCHED_KINDS, MatchedComparison, matched_controls_of
from capvec.stats.summary import Summary
from capvec.text import counted, number, p_value, signed

_TITLES = {
    "zero": "α = 0",
    "negated": "−α",
    "prompt": "instruction, no vector",
    "constrained": "constrained replies, no vector",
}
_KINDS = (*_TITLES, *MATCHED_KINDS)


def controls_section(results: Results) -> Section | None:
    """The effects of the controls, and how the vector's ranks among them; None where there are no controls."""
    configs, comparisons = results.plan.configs, results.controls
    if not any(config.control for config in configs):
        return None
    blocks: list[Block] = [
        *figures(lambda width: matched_controls(comparisons, width)),
        Paragraph(
            "Difference in pass rate from the baseline, for each steered config and for its controls, over the tasks "
            "on which that config or control and the baseline have valid trials:"
        ),
        _effects(configs, results.summary),
    ]
    if comparisons:
        blocks += [
            Paragraph("The effect of the vector against those of its matched controls:"),
            _ranks(comparisons),
            Paragraph(_EXPLANATION),
            *map(Paragraph, _limits(comparisons)),
        ]
    return Section("controls", "Controls", tuple(blocks), tuple(_brief(comparisons)))


# ------------------------------------------------------------------------------------------------ effects


def _effects(configs: Sequence[Config], summary: Summary) -> Table:
    moved = {row.config: row.effect.difference if row.effect else None for row in summary.configs}
    kinds = [kind for kind in _KINDS if any(config.control and config.control.kind == kind for config in configs)]
    titles = (_TITLES.get(kind, f"{kind} controls") for kind in kinds)
    rows = tuple(
        (config.name, signed(moved[config.name]), *(_span(config, kind, configs, moved) for kind in kinds))
        for config in configs
        if config.kind == "steered"
    )
    return Table((*left("config"), *right("steered", *titles)), rows)


def _span(config: Config, kind: str, configs: Sequence[Config], moved: dict[str, float | None]) -> str:
    """The difference of the control, or the least and the most of several."""
    found = [value for name in matched_controls_of(config.name, kind, configs) if (value := moved[name]) is not None]
    ends = [signed(end) for end in ((min(found), max(found)) if found else ())]
    return " to ".join(dict.fromkeys(ends)) or "–"


# ------------------------------------------------------------------------------------------------ ranks

_EXPLANATION: Text = (
    "Matched controls have the length of the vector and steer at its layer with its α: ",
    Code("random"),
    " controls in a random direction, ",
    Code("orthogonal"),
    " controls at right angles to it, and ",
    Code("shuffled"),
    " controls with a vector that was built in the same way from the same traces under permuted labels. Effects are "
    "differences from the baseline, as means over tasks, from the (task, attempt) pairs of which all of them have "
    "valid trials. A p is (1 + controls at least as high, as low, or as far from zero) / (1 + controls): the chance "
    "that the vector would rank where it does or further out if it were one more control. The first p is for the claim "
    "that the vector helps more than a push of that length, the last for the claim that it moves the agent further.",
)


def _ranks(comparisons: Sequence[MatchedComparison]) -> Table:
    counts = right("effect", "controls, min to max", "as high", "p", "as low", "p", "as far", "p")
    return Table((*left("config", "controls", "metric"), *counts), tuple(map(_rank_row, comparisons)))


def _rank_row(one: MatchedComparison) -> Row:
    effects, rank = one.controls.values(), one.rank
    return (
        one.config,
        f"{len(effects)} {one.kind}",
        METRICS[one.metric],
        signed(one.effect),
        f"{signed(min(effects))} to {signed(max(effects))}",
        *(str(rank.as_high), number(rank.p_higher, 3)),
        *(str(rank.as_low), number(rank.p_lower, 3)),
        *(str(rank.as_far), number(rank.p_two_sided, 3)),
    )


def _limits(comparisons: Sequence[MatchedComparison]) -> Iterator[str]:
    for count in sorted({len(one.controls) for one in comparisons}):
        yield f"With {counted(count, 'control')} no p can be below 1/{1 + count} = {1 / (1 + count):.3g}."
    if left_out := max(one.left_out for one in comparisons):
        yield (
            "A comparison leaves out pairs for which a config has no valid trial, at most "
            f"{counted(left_out, 'pair')}. Where pairs are left out, an effect here can differ from the one above."
        )


def _brief(comparisons: Sequence[MatchedComparison]) -> Iterator[Block]:
    """How the effect on the pass rate ranks among those of the matched controls: a line for each steered config."""
    solved = [one for one in comparisons if one.metric == "pass_rate"]
    if not solved:
        return
    kinds = [kind for kind in MATCHED_KINDS if any(one.kind == kind for one in solved)]
    columns: list[Column] = [*left("against matched controls"), *right("effect")]
    for kind in kinds:
        columns += right(kind, "p")
    rows = []
    for name in dict.fromkeys(one.config for one in solved):
        by_kind = {one.kind: one for one in solved if one.config == name}
        cells = [cell for kind in kinds for cell in _rank_cells(by_kind.get(kind))]
        rows.append((name, signed(next(iter(by_kind.values())).effect), *cells))
    yield Table(tuple(columns), tuple(rows))
    fewest = max(solved, key=lambda one: one.smallest_p)
    count = counted(len(fewest.controls), "control")
    yield Paragraph(
        "Controls that solve as much or more, of all; p is one-sided, (1 + such controls) / (1 + controls). "
        f"With {count} it cannot be below {fewest.smallest_p:.3g}."
    )


def _rank_cells(one: MatchedComparison | None) -> tuple[str, str]:
    if one is None:
        return "–", "–"
    return f"{one.rank.as_high}/{len(one.controls)}", p_value(one.rank.p_higher)
