"""The metrics over the strength α."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from capvec.records import Config
from capvec.report.charts.canvas import CHARACTER, Canvas, Chart, Scale, padded, shorten, spread
from capvec.stats.config_summary import ConfigSummary

METRICS = {
    "pass_rate": "pass rate",
    "parse_fail_per_run": "parse_fail per run",
    "no_cmd_per_run": "no_cmd per run",
    "mean_steps": "steps",
}
"""Fields of `ConfigSummary`, with the titles of their panels."""
SERIES = 6
"""Colours for lines. Further lines use them again and differ by their labels."""


def dose_response(rows: Sequence[ConfigSummary], configs: Sequence[Config], baseline: str, width: int) -> Chart | None:
    """Pass rate, parse_fail, no_cmd and steps over α, one line for each direction, place and manner of steering.

    The control `negated` of a direction continues its line to negative α. None where no line has two strengths.

    Args:
        rows: of all configs.
        configs: the plan's.
        baseline: whose values are the dashed lines.
        width: in px.
    """
    found = {row.config: row for row in rows}
    series = _series(configs, found)
    if not any(len(points) > 1 for points in series.values()):
        return None
    columns = 2 if width > 500 else 1
    each, high, canvas = width // columns, 190, Canvas()
    alphas = [alpha for points in series.values() for alpha, _ in points]
    unit = next(config.alpha_unit for config in configs if config.alpha is not None)
    for number, (metric, title) in enumerate(METRICS.items()):
        corner = (number % columns * each, number // columns * high)
        values = {name: [(alpha, found[of]) for alpha, of in points] for name, points in series.items()}
        _panel(canvas, corner, (each, high), metric, title, values, found.get(baseline), alphas, unit)
    lines = -(-len(METRICS) // columns)
    caption = (
        "Over the strength α: the pass rate with 95 % Wilson intervals; parse_fail, no_cmd and steps per run. Dashed: "
        "the baseline."
    )
    spoken = "; ".join(
        f"{name}, pass rate at α " + ", ".join(f"{alpha:g}: {found[of].pass_rate:.2f}" for alpha, of in points)
        for name, points in series.items()
    )
    return Chart("dose-response", "Dose and response", caption, spoken, width, lines * high + 4, tuple(canvas.marks))


def _series(configs: Sequence[Config], found: Mapping[str, ConfigSummary]) -> dict[str, list[tuple[float, str]]]:
    """Label → (α, config) in order of α."""
    steered = {config.name: config for config in configs if config.kind == "steered" and config.alpha is not None}
    series: dict[str, list[tuple[float, str]]] = {}
    directions = _directions(list(steered.values()))
    for config in configs:
        row = found.get(config.name)
        if config.alpha is None or row is None or row.pass_rate is None:
            continue
        if config.control is None:
            of = config if config.name in steered else None
        else:
            of = steered.get(config.control.configs[0]) if config.control.kind == "negated" else None
        if of is not None:
            series.setdefault(_line_of(of, directions), []).append((config.alpha, config.name))
    return {name: sorted(points) for name, points in series.items()}


def _directions(steered: Sequence[Config]) -> dict[str, str]:
    """Direction's hash → what to call it: the beginning of its configs' names, where that tells directions apart."""
    named = {config.steers[0].direction: config.name.partition("-L")[0] for config in reversed(steered)}
    return named if len(set(named.values())) == len(named) else {one: one[:6] for one in named}


def _line_of(config: Config, directions: Mapping[str, str]) -> str:
    first = config.steers[0]
    place = f"layer {config.layer}" if len(directions) == 1 else f"{directions[first.direction]} L{config.layer}"
    manner = [*([first.op] if first.op != "add" else []), *([first.positions] if first.positions != "all" else [])]
    return " ".join([place, *manner, *(["norm kept"] if first.keep_norm else [])])


def _panel(
    canvas: Canvas,
    corner: tuple[int, int],
    size: tuple[int, int],
    metric: str,
    title: str,
    series: Mapping[str, Sequence[tuple[float, ConfigSummary]]],
    base: ConfigSummary | None,
    alphas: Sequence[float],
    unit: str,
) -> None:
    (x0, y0), (width, height) = corner, size
    named = max(len(name) for name in series) * CHARACTER if len(series) > 1 else 8.0
    across = padded([0.0, *alphas], x0 + 36.0, x0 + width - 14.0 - min(named, width * 0.3))
    values = [getattr(row, metric) for points in series.values() for _, row in points]
    against = getattr(base, metric, None)
    top, bottom = y0 + 26.0, y0 + height - 42.0
    if metric == "pass_rate":
        up = Scale(0.0, 1.0, bottom, top)
    else:
        up = padded([*values, *([against] if against is not None else []), 0.0, 0.1], bottom, top, zero=True)
    canvas.text(x0 + 4.0, y0 + 14.0, title, "panel")
    canvas.axis_left(up, across.start, across.end)
    canvas.axis_below(across, None, bottom, f"α, {unit} unit", 6)
    if against is not None:
        canvas.line(across.start, up(against), across.end, up(against), "reference")
    ends = spread([up(getattr(points[-1][1], metric)) for points in series.values()], 13.0, top, bottom)
    for number, ((name, points), end) in enumerate(zip(series.items(), ends, strict=True)):
        kind = f"series s{number % SERIES}"
        aside = (number - (len(series) - 1) / 2) * 3.0  # so that marks at one α do not hide each other
        spots = [(across(alpha) + aside, up(getattr(row, metric)), row) for alpha, row in points]
        for x, _, row in spots:
            if metric == "pass_rate" and row.wilson is not None:
                canvas.line(x, up(row.wilson.low), x, up(row.wilson.high), f"whisker s{number % SERIES}")
        canvas.path([(x, y) for x, y, _ in spots], kind)
        for x, y, row in spots:
            canvas.dot(x, y, f"s{number % SERIES}", f"{row.config}: {title} {getattr(row, metric):.2f}", 4.0)
        if len(series) > 1:
            canvas.text(across.end + 8.0, end + 4, shorten(name, width * 0.3), f"end s{number % SERIES}")
