"""What RESULTS.md says of a direction."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from support.labelled import labelled
from support.sections import sentences, tables, titles, words

from capvec.directions.ranking import Ranking
from capvec.directions.validate import validate
from capvec.report.direction import ranking_blocks
from capvec.report.section import Strong

pytestmark = pytest.mark.unit


def ranked(**changes):
    rng = np.random.default_rng(0)
    pos, neg = (rng.standard_normal((n, 8, 40)).astype(np.float32) for n in (4, 5))
    return validate(*labelled(pos, neg), permutations=30, **changes)


def rows(blocks):
    """The rows of the one table, each by the titles of its columns."""
    (table,) = tables(blocks)
    return [dict(zip(titles(table), row, strict=True)) for row in table.rows]


def test_an_in_sample_auc_stands_beside_its_null_and_what_it_is_worth_on_other_tasks():
    ranking = ranked()
    last = ranking.rows[-1].layer
    blocks = ranking_blocks(ranking, frozenset({last}))
    # The verdict on the best layer, and that on the steered one, in words.
    assert sentences(blocks)[:2] == [f"{ranking.verdict()}.", f"{ranking.verdict(last)}."]
    found = rows(blocks)
    assert [row["layer"] for row in found] == [*(str(row.layer) for row in ranking.rows[:5]), Strong(str(last))]
    for shown, row in zip(found, [*ranking.rows[:5], ranking.rows[-1]], strict=True):
        assert shown["AUC in sample (null 95 %)"] == f"{row.auc:.3f} ({row.auc_null_p95:.3f})"
        assert shown["margin / ambient norm"].endswith(f" = {row.margin_ratio:.3f}")
        null = f"{row.margin_ratio_null_mean:.3f} ({row.margin_ratio_null_p95:.3f})"
        assert (shown["its null: mean (95 %)"], shown["of noise"]) == (null, f"{row.margin_ratio_noise:.3f}")
        assert shown["AUC, tasks left out"] == f"{row.cv_auc:.3f}"
        assert shown["95 % interval"] == f"{row.cv_auc_low:.2f}–{row.cv_auc_high:.2f}"
        assert shown["corrected"] == f"{row.p_corrected:.3f}"
    assert "30 permutations" in words(blocks)
    assert "would give 0.67" in words(blocks)  # √(1/4 + 1/5)
    assert "Cosine" not in words(blocks)


def test_what_cannot_be_had_is_a_dash_and_the_reason_is_given():
    blocks = ranking_blocks(ranked(tasks=["a"] * 9), frozenset())
    assert {row["AUC, tasks left out"] for row in rows(blocks)} == {"–"}
    assert {row["95 % interval"] for row in rows(blocks)} == {"–"}
    assert "not cross-fitted" in words(blocks)


def test_the_cosine_with_a_reference_is_shown():
    ranking = ranked(reference=np.ones((8, 40), np.float32))
    said = words(ranking_blocks(ranking, frozenset()))
    assert f"{ranking.best.reference_cosine:.3f} at layer {ranking.best.layer}" in said


def test_a_ranking_from_before_the_margins_null_is_read_and_says_that_it_has_none(tmp_path):
    path = tmp_path / "ranking.csv"
    ranked().write_csv(path)
    lines = list(csv.DictReader(path.read_text().splitlines()))
    left = [{name: value for name, value in line.items() if "margin_ratio_" not in name} for line in lines]
    path.write_text("\n".join([",".join(left[0]), *(",".join(line.values()) for line in left)]))
    older = Ranking.read_csv(path, **ranked().words())
    assert "of the ambient norm (its null is not on record); AUC" in older.verdict()
    assert {row["of noise"] for row in rows(ranking_blocks(older, frozenset()))} == {"–"}
    ranked().write_csv(path)
    assert Ranking.read_csv(path, **ranked().words()) == ranked()
