"""What RESULTS.md says of a direction."""

from __future__ import annotations

import numpy as np
import pytest
from capvec.report.results_md import ranking_lines

from capvec.directions.validate import validate

pytestmark = pytest.mark.unit


def ranked(**changes):
    rng = np.random.default_rng(0)
    pos, neg = (rng.standard_normal((n, 8, 40)).astype(np.float32) for n in (4, 5))
    return validate(pos, neg, permutations=30, **changes)


def cells(lines):
    """The table's rows, each by its column's title."""
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in lines if line.startswith("|")]
    return [dict(zip(rows[0], row, strict=True)) for row in rows[2:]]


def test_an_in_sample_auc_stands_beside_its_null_and_what_it_is_worth_on_other_tasks():
    ranking = ranked()
    last = ranking.rows[-1].layer
    lines = list(ranking_lines(ranking, {last}))
    # The best layer's verdict, and that of the steered one, in words.
    assert lines[:2] == [f"- {ranking.verdict()}.", f"- {ranking.verdict(last)}."]
    rows = cells(lines)
    assert [row["layer"] for row in rows] == [*(str(row.layer) for row in ranking.rows[:5]), f"**{last}**"]
    for shown, row in zip(rows, [*ranking.rows[:5], ranking.rows[-1]], strict=True):
        assert shown["AUC in sample (null 95 %)"] == f"{row.auc:.3f} ({row.auc_null_p95:.3f})"
        assert shown["AUC, tasks left out"] == f"{row.cv_auc:.3f}"
        assert shown["95 % interval"] == f"{row.cv_auc_low:.2f}–{row.cv_auc_high:.2f}"
        assert shown["corrected"] == f"{row.p_corrected:.3f}"
    text = "\n".join(lines)
    assert "30 permutations of the labels over all traces" in text
    assert "Cosine" not in text


def test_what_cannot_be_had_is_a_dash_and_the_reason_is_given():
    lines = list(ranking_lines(ranked(tasks=["a"] * 9), set()))
    assert {row["AUC, tasks left out"] for row in cells(lines)} == {"–"}
    assert {row["95 % interval"] for row in cells(lines)} == {"–"}
    assert "not cross-fitted: all traces are of one task" in "\n".join(lines)


def test_the_cosine_with_a_reference_is_told():
    ranking = ranked(reference=np.ones((8, 40), np.float32))
    assert f"{ranking.best.reference_cosine:.3f} at layer {ranking.best.layer}" in "\n".join(
        ranking_lines(ranking, set())
    )
