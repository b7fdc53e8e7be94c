"""AUC by layer, against what chance reaches."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from capvec.directions.ranking import LayerRank, Ranking
from capvec.report.charts.canvas import Canvas, Chart, Scale, plain


def auc_by_layer(ranking: Ranking, steered: Collection[int], width: int) -> Chart:
    """In-sample AUC of every layer above the band that label permutations reach, and the AUC on tasks left out.

    Args:
        ranking: of the direction.
        steered: layers to mark.
        width: in px.
    """
    rows = sorted(ranking.rows, key=lambda row: row.layer)
    crossed = [row for row in rows if row.cv_auc is not None]
    least = min(0.5, *(row.auc for row in rows), *(row.cv_auc_low for row in rows if row.cv_auc_low is not None))
    top, bottom = 30.0, 254.0
    up = Scale(max(0.0, int(least * 10) / 10), 1.0, bottom, top)
    across = Scale(rows[0].layer - 0.7, rows[-1].layer + 0.7, 40.0, width - 12.0)
    canvas = Canvas()
    nulls = [(across(row.layer), up(row.auc_null_p95)) for row in rows]
    ends = ((across.start, nulls[0][1]), *nulls, (across.end, nulls[-1][1]))
    canvas.path([(across.start, bottom), *ends, (across.end, bottom)], "band", closed=True)
    for place in sorted(set(steered) & {row.layer for row in rows}):
        half = min(7.0, (across(1) - across(0)) / 2)
        canvas.rect(across(place) - half, top, 2 * half, bottom - top, "mark", f"layer {place} is steered")
    canvas.axis_left(up, across.start, across.end, 5)
    canvas.path(ends, "null")
    for tick in across.ticks(8 if width > 500 else 5):
        if tick.is_integer():
            canvas.text(across(tick), bottom + 16, plain(tick), "tick", "middle")
    canvas.text((across.start + across.end) / 2, bottom + 33, "layer (decoder block, from 0)", "axis", "middle")
    _crossed(canvas, crossed, across, up)
    for row in rows:
        tip = f"layer {row.layer}: AUC {row.auc:.3f} in sample, null 95 % {row.auc_null_p95:.3f}"
        canvas.dot(across(row.layer), up(row.auc), "insample", tip, 3.5)
    _legend(canvas, bool(crossed), width)
    caption = [
        "Rings: AUC in sample, where a wide residual gives a high AUC to any labels. The shaded band holds 95 % of "
        "what permuted labels reach in the same way."
    ]
    if crossed:
        caption += [
            "Dots with bars: AUC on tasks left out (cross-fitted), with 95 % intervals. Blue dashes: what 95 % of "
            "permuted labels reach there."
        ]
    if steered:
        caption += [f"Marked: steered here (layer {', '.join(map(str, sorted(steered)))})."]
    values = "; ".join(f"layer {row.layer}: {row.auc:.3f}, null {row.auc_null_p95:.3f}" for row in rows)
    title = "AUC by layer against its null"
    return Chart("auc-by-layer", title, " ".join(caption), values, width, int(bottom) + 46, tuple(canvas.marks))


def _crossed(canvas: Canvas, rows: Sequence[LayerRank], across: Scale, up: Scale) -> None:
    nulls = [(across(row.layer), up(row.cv_auc_null_p95)) for row in rows if row.cv_auc_null_p95 is not None]
    if nulls:
        canvas.path(nulls, "null crossed")
    for row in rows:
        if row.cv_auc is None:
            continue
        x = across(row.layer)
        if row.cv_auc_low is not None and row.cv_auc_high is not None:
            canvas.line(x, up(row.cv_auc_low), x, up(row.cv_auc_high), "interval steered")
        canvas.dot(x, up(row.cv_auc), "steered", f"layer {row.layer}: AUC {row.cv_auc:.3f} on tasks left out", 3.5)


def _legend(canvas: Canvas, crossed: bool, width: int) -> None:
    x = 44.0
    entries = [("insample", "in sample"), *([("steered", "tasks left out")] if crossed else [])]
    for kind, text in entries:
        canvas.dot(x, 12, kind, r=3.5)
        canvas.text(x + 9, 16, text, "label small")
        x += 9 + len(text) * 6.0 + 16
    canvas.rect(x - 4, 6, 16, 12, "band")
    canvas.line(x - 4, 6, x + 12, 6, "null")
    canvas.text(x + 18, 16, "95 % of permuted labels" if width > 500 else "null, 95 %", "label small")
