"""One row for each config: its pass rate, and how far that is from the baseline's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from capvec.report.charts.canvas import CHARACTER, Canvas, Chart, Scale, padded, shorten
from capvec.stats.config_summary import ConfigSummary
from capvec.text import estimate, signed


def pass_rates(rows: Sequence[ConfigSummary], kinds: Mapping[str, str], baseline: str, width: int) -> Chart:
    """Pass rate of every config, with its 95 % interval, beside the baseline's.

    Args:
        rows: of all configs. One without a valid trial is left out.
        kinds: config → `baseline`, `steered` or `control`.
        baseline: its name.
        width: in px.
    """
    shown = [(row, row.pass_rate, row.wilson) for row in rows if row.pass_rate is not None and row.wilson is not None]
    lines = _Lines([row.config for row, _, _ in shown], [f"{row.solved}/{row.n}" for row, _, _ in shown], width)
    canvas, scale = Canvas(), Scale(0.0, 1.0, lines.left, lines.right)
    canvas.axis_below(scale, lines.top, lines.bottom, "pass rate, 95 % Wilson interval")
    base = next((rate for row, rate, _ in shown if row.config == baseline), None)
    if base is not None:
        canvas.line(scale(base), lines.top, scale(base), lines.bottom, "reference")
    values = []
    for place, (row, rate, wilson) in enumerate(shown):
        y, kind = lines.place(place), kinds.get(row.config, "steered")
        span = f"{rate:.2f} [{wilson.low:.2f}, {wilson.high:.2f}]"
        lines.label(canvas, place)
        canvas.line(scale(wilson.low), y, scale(wilson.high), y, f"interval {kind}")
        canvas.dot(scale(rate), y, kind, f"{row.config}: {row.solved} of {row.n}, {span}")
        values.append(f"{row.config} {span}")
    caption = "Share of valid trials solved, with 95 % Wilson intervals; the dashed line is the baseline."
    title = "Pass rate by config"
    return Chart("pass-rate", title, caption, "; ".join(values), width, lines.height, tuple(canvas.marks))


def differences(rows: Sequence[ConfigSummary], width: int) -> Chart | None:
    """The change in pass rate of each config with its interval; None where no config was compared.

    Args:
        rows: of the configs whose verdicts are shown.
        width: in px.
    """
    shown = [
        (row.config, row.effect.difference, row.effect.interval, row.verdict)
        for row in rows
        if row.effect is not None and row.effect.interval is not None and row.verdict is not None
    ]
    if not shown:
        return None
    lines = _Lines([config for config, *_ in shown], [call.name for *_, call in shown], width)
    canvas, margin = Canvas(), max(call.equivalence_margin for *_, call in shown)
    ends = [end for _, _, interval, _ in shown for end in (interval.low, interval.high)]
    scale = padded([*ends, -margin, margin], lines.left, lines.right)
    canvas.rect(scale(-margin), lines.top, scale(margin) - scale(-margin), lines.bottom - lines.top, "band")
    what = "change of pass rate, 95 % interval clustered by task" if width > 400 else "change of pass rate"
    canvas.axis_below(scale, lines.top, lines.bottom, f"{what}; band ± {margin:g}")
    for place, (config, difference, interval, call) in enumerate(shown):
        y, kind = lines.place(place), _colour(call.name)
        lines.label(canvas, place)
        canvas.line(scale(interval.low), y, scale(interval.high), y, f"interval {kind}")
        canvas.dot(scale(difference), y, kind, f"{config}: {estimate(difference, interval)}")
    caption = (
        "Difference in pass rate from the baseline, averaged over tasks, with 95 % intervals clustered by task. An "
        f"interval inside the band of ± {margin:g} excludes effects that would matter."
    )
    values = "; ".join(f"{config} {signed(difference)}, {call.name}" for config, difference, _, call in shown)
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


def _colour(name: str) -> str:
    """The class of a verdict's colour."""
    return {"improves": "good", "harms": "bad"}.get(name, "open")
