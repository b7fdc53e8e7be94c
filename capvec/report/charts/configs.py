"""One function for each chart of trials. Each takes the numbers of `summary.json` and a width, and computes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from capvec.records import Config
from capvec.report.html.canvas import CHARACTER, Canvas, Chart, Scale, padded, plain, shorten, spread
from capvec.text import signed

Rows = Sequence[Mapping[str, Any]]
"""`configs` of `summary.json`."""
METRICS = {
    "pass_rate": "pass rate",
    "parse_fail": "parse_fail per run",
    "no_cmd": "no_cmd per run",
    "steps": "steps",
}
_OF_SUMMARY = {
    "pass_rate": "pass_rate",
    "parse_fail": "parse_fail_per_run",
    "no_cmd": "no_cmd_per_run",
    "steps": "mean_steps",
}
SERIES = 6
"""Colours there are for lines; further lines go round again, told apart by their labels."""


# ------------------------------------------------------------------------------------------------ one row a config


def pass_rates(rows: Rows, kinds: Mapping[str, str], baseline: str, width: int) -> Chart:
    """Pass rate of every config, with its 95 % interval, beside the baseline's.

    Args:
        rows: with `pass_rate`, `wilson`, `solved` and `n`.
        kinds: config → `baseline`, `steered` or `control`.
        baseline: its name.
        width: in px.
    """
    shown = [row for row in rows if row["pass_rate"] is not None]
    lines = _Lines([row["config"] for row in shown], [f"{row['solved']}/{row['n']}" for row in shown], width)
    canvas, scale = Canvas(), Scale(0.0, 1.0, lines.left, lines.right)
    canvas.axis_below(scale, lines.top, lines.bottom, "pass rate, 95 % Wilson interval")
    base = next((row["pass_rate"] for row in shown if row["config"] == baseline), None)
    if base is not None:
        canvas.line(scale(base), lines.top, scale(base), lines.bottom, "reference")
    for place, row in enumerate(shown):
        y, kind, reach = lines.place(place), kinds.get(row["config"], "steered"), row["wilson"]
        lines.label(canvas, place)
        canvas.line(scale(reach["low"]), y, scale(reach["high"]), y, f"interval {kind}")
        tip = f"{row['config']}: {row['solved']} of {row['n']}, {_span(row['pass_rate'], reach['low'], reach['high'])}"
        canvas.dot(scale(row["pass_rate"]), y, kind, tip)
    described = "; ".join(
        f"{row['config']} {_span(row['pass_rate'], row['wilson']['low'], row['wilson']['high'])}" for row in shown
    )
    caption = "Share of valid trials solved, with 95 % Wilson intervals; the dashed line is the baseline."
    return Chart("pass-rate", "Pass rate by config", caption, described, width, lines.height, tuple(canvas.marks))


def differences(rows: Rows, width: int) -> Chart | None:
    """What each compared config changes in pass rate, with its interval; None where none is on record.

    Args:
        rows: with `effect` (`difference`, and `interval`, clustered by task) and `call` (`name`, `margin`).
        width: in px.
    """
    shown = [row for row in rows if (row.get("effect") or {}).get("interval") and row.get("call")]
    if not shown:
        return None
    lines = _Lines([row["config"] for row in shown], [row["call"]["name"] for row in shown], width)
    canvas, margin = Canvas(), max(row["call"]["margin"] for row in shown)
    ends = [end for row in shown for end in (row["effect"]["interval"]["low"], row["effect"]["interval"]["high"])]
    scale = padded([*ends, -margin, margin], lines.left, lines.right)
    canvas.rect(scale(-margin), lines.top, scale(margin) - scale(-margin), lines.bottom - lines.top, "band")
    title = f"change of pass rate, 95 % interval clustered by task; band ± {margin:g}"
    canvas.axis_below(
        scale, lines.top, lines.bottom, title if width > 400 else f"change of pass rate; band ± {margin:g}"
    )
    for place, row in enumerate(shown):
        y, effect, kind = lines.place(place), row["effect"], _called(row["call"]["name"])
        lines.label(canvas, place)
        reach = effect["interval"]
        canvas.line(scale(reach["low"]), y, scale(reach["high"]), y, f"interval {kind}")
        tip = f"{row['config']}: {signed(effect['difference'])} [{signed(reach['low'])}, {signed(reach['high'])}]"
        canvas.dot(scale(effect["difference"]), y, kind, tip)
    caption = (
        "Difference in pass rate to the baseline, averaged over tasks, with 95 % intervals clustered by task. An "
        f"interval inside the band of ± {margin:g} excludes effects that would matter."
    )
    values = "; ".join(f"{row['config']} {signed(row['effect']['difference'])}, {row['call']['name']}" for row in shown)
    return Chart("difference", "Change against baseline", caption, values, width, lines.height, tuple(canvas.marks))


class _Lines:
    """Rows with a label and a remark: beside the marks where there is room, above them where there is none."""

    def __init__(self, labels: Sequence[str], remarks: Sequence[str], width: int) -> None:
        longest = max((len(label) for label in labels), default=0) * CHARACTER
        after = max((len(remark) for remark in remarks), default=0) * CHARACTER
        self.labels, self.remarks, self.width = labels, remarks, width
        self.beside = longest + after < width * 0.5
        self.left = longest + 16.0 if self.beside else 10.0
        self.right = width - after - 14.0 if self.beside else width - 10.0
        self.step = 26.0 if self.beside else 40.0
        self.top = 6.0
        self.bottom = self.top + self.step * len(labels)
        self.height = int(self.bottom + 42)

    def place(self, row: int) -> float:
        return self.top + self.step * row + (self.step / 2 if self.beside else 28.0)

    def label(self, canvas: Canvas, row: int) -> None:
        y = self.place(row)
        if self.beside:
            canvas.text(self.left - 10, y + 4, self.labels[row], "label", "end")
            canvas.text(self.right + 12, y + 4, self.remarks[row], "remark")
        else:
            room = self.width - 24 - len(self.remarks[row]) * CHARACTER
            canvas.text(2.0, y - 12, shorten(self.labels[row], room), "label")
            canvas.text(self.width - 2.0, y - 12, self.remarks[row], "remark", "end")


def _called(name: str) -> str:
    """The class of a call's colour."""
    return {"improves": "good", "harms": "bad"}.get(name, "open")


def _span(value: float, low: float, high: float) -> str:
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"


# ------------------------------------------------------------------------------------------------ over α


def dose_response(rows: Rows, configs: Sequence[Config], baseline: str, width: int) -> Chart | None:
    """Pass rate, parse_fail, no_cmd and steps over α, one line for each direction, place and manner of steering.

    The control `negated` of a direction continues its line to negative α. None where no line has two strengths.

    Args:
        rows: of `summary.json`.
        configs: the plan's.
        baseline: whose values are the dashed lines.
        width: in px.
    """
    found = {row["config"]: row for row in rows}
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
        f"{name}, pass rate at α " + ", ".join(f"{alpha:g}: {found[of]['pass_rate']:.2f}" for alpha, of in points)
        for name, points in series.items()
    )
    return Chart("dose-response", "Dose and response", caption, spoken, width, lines * high + 4, tuple(canvas.marks))


def _series(configs: Sequence[Config], found: Mapping[str, Any]) -> dict[str, list[tuple[float, str]]]:
    """Label → (α, config) in order of α."""
    steered = {config.name: config for config in configs if config.kind == "steered" and config.alpha is not None}
    series: dict[str, list[tuple[float, str]]] = {}
    directions = _directions(list(steered.values()))
    for config in configs:
        if config.alpha is None or (found.get(config.name) or {}).get("pass_rate") is None:
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
    series: Mapping[str, Sequence[tuple[float, Mapping[str, Any]]]],
    base: Mapping[str, Any] | None,
    alphas: Sequence[float],
    unit: str,
) -> None:
    (x0, y0), (width, height), key = corner, size, _OF_SUMMARY[metric]
    named = max(len(name) for name in series) * CHARACTER if len(series) > 1 else 8.0
    across = padded([0.0, *alphas], x0 + 36.0, x0 + width - 14.0 - min(named, width * 0.3))
    values = [row[key] for points in series.values() for _, row in points]
    against = base[key] if base is not None and base[key] is not None else None
    top, bottom = y0 + 26.0, y0 + height - 42.0
    if metric == "pass_rate":
        up = Scale(0.0, 1.0, bottom, top)
    else:
        up = padded([*values, *([against] if against is not None else []), 0.0, 0.1], bottom, top, zero=True)
    canvas.text(x0 + 4.0, y0 + 14.0, title, "panel")
    canvas.axis_left(up, across.start, across.end)
    for tick in across.ticks(6):
        canvas.text(across(tick), bottom + 16, plain(tick), "tick", "middle")
    canvas.text((across.start + across.end) / 2, bottom + 32, f"α, {unit} unit", "axis", "middle")
    if against is not None:
        canvas.line(across.start, up(against), across.end, up(against), "reference")
    ends = spread([up(points[-1][1][key]) for points in series.values()], 13.0, top, bottom)
    for number, ((name, points), end) in enumerate(zip(series.items(), ends, strict=True)):
        kind = f"series s{number % SERIES}"
        aside = (number - (len(series) - 1) / 2) * 3.0  # so that marks at one α do not hide each other
        spots = [(across(alpha) + aside, up(row[key]), row) for alpha, row in points]
        for x, _, row in spots if metric == "pass_rate" else ():
            canvas.line(x, up(row["wilson"]["low"]), x, up(row["wilson"]["high"]), f"whisker s{number % SERIES}")
        canvas.path([(x, y) for x, y, _ in spots], kind)
        for x, y, row in spots:
            canvas.dot(x, y, f"s{number % SERIES}", f"{row['config']}: {title} {row[key]:.2f}", 4.0)
        if len(series) > 1:
            canvas.text(across.end + 8.0, end + 4, shorten(name, width * 0.3), f"end s{number % SERIES}")


# ------------------------------------------------------------------------------------------------ twins


def twins(comparisons: Rows, width: int) -> Chart | None:
    """Where each steered config's effect stands among those of its twins, metric by metric; None where none has twins.

    Args:
        comparisons: `twins` of `summary.json`.
        width: in px.
    """
    if not comparisons:
        return None
    names = list(dict.fromkeys((one["config"], one["kind"]) for one in comparisons))
    columns = 2 if width > 500 else 1
    each, step, canvas = width // columns, 40.0, Canvas()
    high = int(26 + step * len(names) + 40)
    for number, (metric, title) in enumerate(METRICS.items()):
        x0, y0 = float(number % columns * each), float(number // columns * high)
        rows = {(one["config"], one["kind"]): one for one in comparisons if one["metric"] == metric}
        values = [value for one in rows.values() for value in (one["effect"], *one["twins"].values())]
        across = padded([0.0, *values] if any(values) else [-1.0, 1.0], x0 + 14, x0 + each - 18)
        top, bottom = y0 + 24, y0 + high - 40
        canvas.text(x0 + 4, y0 + 14, f"change of {title}", "panel")
        for tick in across.ticks(4):
            canvas.line(across(tick), top, across(tick), bottom, "zero" if tick == 0 else "grid")
            canvas.text(across(tick), bottom + 16, plain(tick), "tick", "middle")
        for place, name in enumerate(names):
            if name in rows:
                _strip(canvas, rows[name], across, top + step * place, (x0, each))
    caption = (
        "Change against the baseline: the diamond is the direction, each dot one of its twins, which are as long and "
        "steer at the same layer with the same α. p: as far from zero, either way."
    )
    spoken = "; ".join(_standing(one) for one in comparisons if one["metric"] == "pass_rate")
    height = -(-len(METRICS) // columns) * high
    return Chart("twins", "The direction among its twins", caption, spoken, width, height, tuple(canvas.marks))


def _strip(canvas: Canvas, one: Mapping[str, Any], across: Scale, top: float, room: tuple[float, float]) -> None:
    x0, width = room
    y, count, place = top + 28, len(one["twins"]), one["rank"]
    remark = f"p = {place['p_two_sided']:.2g}"
    label = f"{one['config']}, {count} {one['kind']}"
    canvas.text(x0 + 6, top + 13, shorten(label, width - 30 - len(remark) * CHARACTER), "label small")
    canvas.text(x0 + width - 16, top + 13, remark, "remark small", "end")
    canvas.line(across.start, y, across.end, y, "grid")
    for name, value in one["twins"].items():
        canvas.dot(across(value), y, "twin", f"{name}: {signed(value)}", 4.0)
    canvas.diamond(across(one["effect"]), y, "steered", f"{one['config']}: {signed(one['effect'])}")


def _standing(one: Mapping[str, Any]) -> str:
    place = one["rank"]
    return (
        f"{one['config']} changes the pass rate by {signed(one['effect'])}, and {place['as_high']} of "
        f"{len(one['twins'])} {one['kind']} twins by as much or more (p = {place['p_higher']:.2g}; as far either way "
        f"p = {place['p_two_sided']:.2g})"
    )
