"""AUC by layer, against what chance reaches."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from capvec.report.html.canvas import Canvas, Chart, Scale, plain


def auc_by_layer(ranking: Sequence[Mapping[str, float | None]], steered: Collection[int], width: int) -> Chart | None:
    """In-sample AUC of every layer above the band that label permutations reach, and the AUC on tasks left out.

    An in-sample AUC is never drawn without its null: None where the ranking has no null.

    Args:
        ranking: rows of `ranking.csv`: `layer`, `auc`, `auc_null_p95`, and `cv_auc` with `cv_auc_low` and
            `cv_auc_high` where tasks could be left out.
        steered: layers to mark.
        width: in px.
    """
    rows = sorted((row for row in ranking if row.get("auc_null_p95") is not None), key=lambda row: row["layer"] or 0)
    if not rows:
        return None
    layers = [float(row["layer"] or 0) for row in rows]
    crossed = [(layer, row) for layer, row in zip(layers, rows, strict=True) if row.get("cv_auc") is not None]
    least = min([0.5, *(value for row in rows for key in ("auc", "cv_auc_low") if (value := row.get(key)) is not None)])
    top, bottom = 30.0, 254.0
    up = Scale(max(0.0, int(least * 10) / 10), 1.0, bottom, top)
    across = Scale(layers[0] - 0.7, layers[-1] + 0.7, 40.0, width - 12.0)
    canvas = Canvas()
    nulls = [(across(layer), up(row["auc_null_p95"] or 0.0)) for layer, row in zip(layers, rows, strict=True)]
    ends = ((across.start, nulls[0][1]), *nulls, (across.end, nulls[-1][1]))
    canvas.path([(across.start, bottom), *ends, (across.end, bottom)], "band", closed=True)
    for place in sorted(set(steered) & {int(layer) for layer in layers}):
        half = min(7.0, (across(1) - across(0)) / 2)
        canvas.rect(across(place) - half, top, 2 * half, bottom - top, "mark", f"layer {place} is steered")
    canvas.axis_left(up, across.start, across.end, 5)
    canvas.path(ends, "null")
    for tick in across.ticks(8 if width > 500 else 5):
        if tick.is_integer():
            canvas.text(across(tick), bottom + 16, plain(tick), "tick", "middle")
    canvas.text((across.start + across.end) / 2, bottom + 33, "layer (decoder block, from 0)", "axis", "middle")
    _crossed(canvas, crossed, across, up)
    for layer, row in zip(layers, rows, strict=True):
        tip = f"layer {layer:g}: AUC {row['auc']:.3f} in sample, null 95 % {row['auc_null_p95']:.3f}"
        canvas.dot(across(layer), up(row["auc"] or 0.0), "insample", tip, 3.5)
    _legend(canvas, bool(crossed), width)
    cross = (
        "Dots with bars: cross-fitted on tasks left out, with 95 % intervals; blue dashes: what 95 % of permuted "
        "labels reach there. "
    )
    marked = f"Marked: steered here (layer {', '.join(map(str, sorted(steered)))})." if steered else ""
    caption = (
        "Rings: AUC in sample, where a wide residual gives a high AUC to any labels; the shaded band holds 95 % of "
        f"what permuted labels reach in the same way. {cross if crossed else ''}{marked}"
    )
    values = "; ".join(
        f"layer {layer:g}: {row['auc']:.3f}, null {row['auc_null_p95']:.3f}"
        for layer, row in zip(layers, rows, strict=True)
    )
    title = "AUC by layer against its null"
    return Chart("auc-by-layer", title, caption.strip(), values, width, int(bottom) + 46, tuple(canvas.marks))


def _crossed(
    canvas: Canvas, rows: Sequence[tuple[float, Mapping[str, float | None]]], across: Scale, up: Scale
) -> None:
    nulls = [(across(layer), up(null)) for layer, row in rows if (null := row.get("cv_auc_null_p95")) is not None]
    if nulls:
        canvas.path(nulls, "null crossed")
    for layer, row in rows:
        value, low, high = (row.get(key) for key in ("cv_auc", "cv_auc_low", "cv_auc_high"))
        if value is None:
            continue
        if low is not None and high is not None:
            canvas.line(across(layer), up(low), across(layer), up(high), "interval steered")
        canvas.dot(across(layer), up(value), "steered", f"layer {layer:g}: AUC {value:.3f} on tasks left out", 3.5)


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
