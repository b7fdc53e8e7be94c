"""The effect of each steered config among those of its matched controls."""

from __future__ import annotations

from collections.abc import Sequence

from capvec.report.charts.canvas import CHARACTER, Canvas, Chart, Scale, padded, shorten
from capvec.stats.effects import Metric
from capvec.stats.matched_controls import MatchedComparison
from capvec.text import signed

METRICS: dict[Metric, str] = {
    "pass_rate": "pass rate",
    "parse_fail": "parse_fail per run",
    "no_cmd": "no_cmd per run",
    "steps": "steps",
}


def matched_controls(comparisons: Sequence[MatchedComparison], width: int) -> Chart | None:
    """Where each effect ranks among those of its matched controls, by metric; None where there are no such controls.

    Args:
        comparisons: of all steered configs.
        width: in px.
    """
    if not comparisons:
        return None
    names = list(dict.fromkeys((one.config, one.kind) for one in comparisons))
    columns = 2 if width > 500 else 1
    each, step, canvas = width // columns, 40.0, Canvas()
    high = int(26 + step * len(names) + 40)
    shown = {metric: title for metric, title in METRICS.items() if any(one.metric == metric for one in comparisons)}
    for number, (metric, title) in enumerate(shown.items()):
        x0, y0 = float(number % columns * each), float(number // columns * high)
        rows = {(one.config, one.kind): one for one in comparisons if one.metric == metric}
        values = [value for one in rows.values() for value in (one.effect, *one.controls.values())]
        across = padded([0.0, *values] if any(values) else [-1.0, 1.0], x0 + 14, x0 + each - 18)
        top, bottom = y0 + 24, y0 + high - 40
        canvas.text(x0 + 4, y0 + 14, f"change of {title}", "panel")
        canvas.axis_below(across, top, bottom, count=4)
        for place, name in enumerate(names):
            if name in rows:
                _strip(canvas, rows[name], across, top + step * place, (x0, each))
    caption = (
        "Change against the baseline. The diamond is the direction. Each dot is a matched control: a vector of the "
        "same length, at the same layer and with the same α. p is two-sided."
    )
    spoken = "; ".join(_in_words(one) for one in comparisons if one.metric == "pass_rate")
    height = -(-len(shown) // columns) * high
    title = "The direction among its matched controls"
    return Chart("matched-controls", title, caption, spoken, width, height, tuple(canvas.marks))


def _strip(canvas: Canvas, one: MatchedComparison, across: Scale, top: float, room: tuple[float, float]) -> None:
    x0, width = room
    y = top + 28
    remark = f"p = {one.rank.p_two_sided:.2g}"
    label = f"{one.config}, {len(one.controls)} {one.kind}"
    canvas.text(x0 + 6, top + 13, shorten(label, width - 30 - len(remark) * CHARACTER), "label small")
    canvas.text(x0 + width - 16, top + 13, remark, "remark small", "end")
    canvas.line(across.start, y, across.end, y, "grid")
    for name, value in one.controls.items():
        canvas.dot(across(value), y, "matched", f"{name}: {signed(value)}", 4.0)
    canvas.diamond(across(one.effect), y, "steered", f"{one.config}: {signed(one.effect)}")


def _in_words(one: MatchedComparison) -> str:
    return (
        f"{one.config} changes the pass rate by {signed(one.effect)}; {one.rank.as_high} of {len(one.controls)} "
        f"{one.kind} controls reach as high (p = {one.rank.p_higher:.2g}; two-sided p = {one.rank.p_two_sided:.2g})"
    )
