"""The direction that was steered with, and what its ranking of layers says of it."""

from __future__ import annotations

import math

from capvec.directions.ranking import LayerRank, Ranking
from capvec.plan.plan import Plan
from capvec.records import Interval
from capvec.report.charts.layers import auc_by_layer
from capvec.report.figures import figures
from capvec.report.section import Block, Bullets, Code, Inline, Markdown, Paragraph, Row, Section, Strong, Table, right
from capvec.results.results import Results
from capvec.text import interval, number, p_value

_BEST = 5
"""Layers of the ranking that are shown, beside those that were steered."""


def direction_section(results: Results) -> Section:
    """What the direction is; with a ranking, how it compares with chance."""
    direction, steered = results.direction, steered_layers(results.plan)
    described: tuple[Inline, ...] = (Markdown(direction.description), " Hash ", Code(direction.hash), ".")
    blocks: tuple[Block, ...] = (Paragraph(described),)
    if (ranking := direction.ranking) is not None:
        chart = figures(lambda width: auc_by_layer(ranking, steered, width))
        blocks = (*chart, *blocks, *ranking_blocks(ranking, steered))
    return Section("direction", "The direction", blocks)


def steered_layers(plan: Plan) -> frozenset[int]:
    """Every layer at which a config steers."""
    return frozenset(steer.layer for config in plan.configs for steer in config.steers)


def ranking_blocks(ranking: Ranking, steered: frozenset[int]) -> tuple[Block, ...]:
    """The best layers and those that were steered. An in-sample AUC stands beside its null."""
    layers = [ranking.best.layer, *sorted(steered - {ranking.best.layer})]
    rows = [row for place, row in enumerate(ranking.rows) if place < _BEST or row.layer in steered]
    columns = right(
        "layer",
        "AUC in sample (null 95 %)",
        "AUC, tasks left out",
        "95 % interval",
        "its p",
        "p of the margin",
        "corrected",
        "stability",
        "margin / ambient norm",
        "its null: mean (95 %)",
        "of noise",
    )
    n_pos, n_neg = ranking.best.n_pos, ranking.best.n_neg
    note = (
        f"Null: {ranking.null}. The whole procedure is repeated for each permutation, and p is corrected over layers "
        f"by the maximum statistic. Tasks: {ranking.folds}. Stability: the least cosine with a refit that leaves out "
        "one task. The margin over the ambient norm is the dose of α = 1. Beside it stand the mean and the 95 % point "
        f"of its null, and what noise gives: {n_pos} and {n_neg} traces with this spread, from classes that do not "
        f"differ. Without a mean in common they would give {math.sqrt(1 / n_pos + 1 / n_neg):.2f}. A ratio that "
        "exceeds neither says nothing of the direction. Bold: steered here."
    )
    blocks: list[Block] = [
        Bullets(tuple(f"{ranking.verdict(layer)}." for layer in layers)),
        Table(columns, tuple(_row(row, row.layer in steered) for row in rows)),
        Paragraph(note),
    ]
    if any(row.reference_cosine is not None for row in rows):
        cosines = ", ".join(f"{number(row.reference_cosine, 3)} at layer {row.layer}" for row in rows)
        blocks.append(Paragraph(f"Cosine with the reference direction: {cosines}."))
    return tuple(blocks)


def _row(row: LayerRank, steered: bool) -> Row:
    return (
        Strong(str(row.layer)) if steered else str(row.layer),
        f"{number(row.auc, 3)} ({number(row.auc_null_p95, 3)})",
        number(row.cv_auc, 3),
        interval(None if row.cv_auc_low is None else Interval(row.cv_auc_low, row.cv_auc_high or 0.0)),
        p_value(row.cv_p_value),
        p_value(row.p_value),
        p_value(row.p_corrected),
        number(row.stability_min, 3),
        f"{number(row.margin)} / {number(row.ambient_norm)} = {number(row.margin_ratio, 3)}",
        f"{number(row.margin_ratio_null_mean, 3)} ({number(row.margin_ratio_null_p95, 3)})",
        number(row.margin_ratio_noise, 3),
    )
