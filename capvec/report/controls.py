"""Controls beside the direction that they control for: its twins, its reverse, and a plain instruction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from capvec.records import Config
from capvec.report.table import markdown_table
from capvec.stats.matched_controls import TWIN_KINDS, MatchedComparison, twins_of
from capvec.stats.summary import Summary
from capvec.text import align, number, p_value, signed

_METRICS = {"pass_rate": "solved", "parse_fail": "parse_fail per run", "no_cmd": "no_cmd per run", "steps": "steps"}


def twin_lines(comparisons: Sequence[MatchedComparison]) -> tuple[str, ...]:
    """For the terminal: how the effect on the pass rate stands among its twins', one line for each steered config."""
    solved = [comparison for comparison in comparisons if comparison.metric == "pass_rate"]
    if not solved:
        return ()
    kinds = [kind for kind in TWIN_KINDS if any(comparison.kind == kind for comparison in solved)]
    rows = [("against its twins", "effect", *(cell for kind in kinds for cell in (kind, "p")))]
    for name in dict.fromkeys(comparison.config for comparison in solved):
        ours = {comparison.kind: comparison for comparison in solved if comparison.config == name}
        effect = signed(next(iter(ours.values())).effect)
        rows.append((name, effect, *(cell for kind in kinds for cell in _cells(ours.get(kind)))))
    return ("", *align(rows), *_in_words(solved))


def _cells(comparison: MatchedComparison | None) -> tuple[str, str]:
    if comparison is None:
        return "–", "–"
    return f"{comparison.rank.as_high}/{len(comparison.twins)}", p_value(comparison.rank.p_higher)


def _in_words(comparisons: Sequence[MatchedComparison]) -> tuple[str, str]:
    least = max(comparisons, key=lambda comparison: comparison.smallest_p)
    twins = len(least.twins)
    return (
        "Twins that solve as much or more, of all; p is one-sided, (1 + such twins) / (1 + twins).",
        f"With {twins} twin{'s' if twins > 1 else ''} it cannot be below {least.smallest_p:.3g}, whatever the vector "
        "does.",
    )


def controls_section(
    configs: Sequence[Config], summary: Summary, comparisons: Sequence[MatchedComparison]
) -> Iterator[str]:
    """For `RESULTS.md`: each steered config beside its controls; nothing where there are none."""
    if not any(config.control for config in configs):
        return
    yield "\n## Controls\n"
    yield (
        "Difference in pass rate to the baseline, of each steered config and of what controls for it, over the tasks "
        "that it and the baseline have valid trials of:\n"
    )
    yield from markdown_table(list(_effects(configs, summary)))
    if comparisons:
        yield "\nThe vector's effect against the distribution of its twins:\n"
        yield from markdown_table(list(_twins(comparisons)))
        yield ""
        yield from _explained(comparisons)


def _effects(configs: Sequence[Config], summary: Summary) -> Iterator[tuple[str, ...]]:
    moved = {row.config: row.effect.difference if row.effect else None for row in summary.configs}
    kinds = [
        kind for kind in ("zero", "negated", "prompt", *TWIN_KINDS) if any(_is(config, kind) for config in configs)
    ]
    titles = {"zero": "α = 0", "negated": "−α", "prompt": "instruction, no vector"}
    yield ("config", "its own", *(titles.get(kind, f"{kind} twins") for kind in kinds))
    for config in configs:
        if config.kind == "steered":
            own = (signed(moved[config.name]), *(_span(config, kind, configs, moved) for kind in kinds))
            yield (config.name, *own)


def _is(config: Config, kind: str) -> bool:
    return config.control is not None and config.control.kind == kind


def _span(config: Config, kind: str, configs: Sequence[Config], moved: dict[str, float | None]) -> str:
    """The difference of the control, or the least and the most of several."""
    found = [value for name in twins_of(config.name, kind, configs) if (value := moved[name]) is not None]
    ends = [signed(end) for end in ((min(found), max(found)) if found else ())]
    return " to ".join(dict.fromkeys(ends)) or "–"


def _twins(comparisons: Sequence[MatchedComparison]) -> Iterator[tuple[str, ...]]:
    yield ("config", "twins", "", "effect", "twins', least to most", "as high", "p", "as low", "p", "as far", "p")
    for comparison in comparisons:
        effects, place, count = comparison.twins.values(), comparison.rank, len(comparison.twins)
        yield (
            comparison.config,
            f"{count} {comparison.kind}",
            _METRICS[comparison.metric],
            signed(comparison.effect),
            f"{signed(min(effects))} to {signed(max(effects))}",
            *(str(place.as_high), number(place.p_higher, 3)),
            *(str(place.as_low), number(place.p_lower, 3)),
            *(str(place.as_far), number(place.p_two_sided, 3)),
        )


def _explained(comparisons: Sequence[MatchedComparison]) -> Iterator[str]:
    yield (
        "Twins are as long as the vector and steer at its layer with its α: `random` in no direction in particular, "
        "`orthogonal` at right angles to it, `shuffled` built in the same way from the same traces under permuted "
        "labels. Effects are differences to the baseline, means over tasks, from the (task, attempt) pairs that all of "
        "them have valid trials of. A p is (1 + twins at least as high, as low, or as far from zero) / (1 + twins): "
        "the chance that the vector, if it were one more twin, would stand where it does or further out. The first is "
        "for the claim that it helps more than a push of that length, the last for the claim that it moves the agent "
        "further."
    )
    for count in sorted({len(comparison.twins) for comparison in comparisons}):
        yield f"With {count} twin{'s' if count > 1 else ''} no p can be below 1/{1 + count} = {1 / (1 + count):.3g}."
    if left := max(comparison.left_out for comparison in comparisons):
        yield (
            f"Up to {left} pairs were left out, because some config has no valid trial of them; where some were, an "
            "effect here need not be the one above."
        )
