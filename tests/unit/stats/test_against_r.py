"""capvec's statistics against R's, on the tables that tests/data/r/reference.R made."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest
from support import REPOSITORY
from support.outcomes import outcome

from capvec.stats.drift import DRAWS, drift
from capvec.stats.intervals import clopper_pearson, clustered, wilson
from capvec.stats.multiplicity import holm
from capvec.stats.pairing import mcnemar_exact, sign_flip
from capvec.stats.pooled import fisher_exact
from capvec.stats.stratified import Stratum, cmh

pytestmark = pytest.mark.unit
FOLDER = REPOSITORY / "tests" / "data" / "r"


def rows(name):
    frame = pd.read_csv(FOLDER / f"{name}.csv", comment="#")
    assert len(frame)
    return list(frame.itertuples(index=False))


def numbers(text):
    return [float(part) for part in str(text).split()]


def test_every_table_says_which_r_made_it():
    for path in FOLDER.glob("*.csv"):
        assert path.read_text().startswith("# R version "), path


def test_fisher():
    for row in rows("pooled"):
        table = (row.x, row.n, row.y, row.m)
        assert fisher_exact(*table).pvalue == pytest.approx(row.fisher, rel=1e-9), table


def test_wilson_and_clopper_pearson():
    for row in rows("intervals"):
        score, exact = wilson(row.x, row.n), clopper_pearson(row.x, row.n)
        assert (score.low, score.high) == pytest.approx((row.wilson_low, row.wilson_high), abs=1e-9)
        assert (exact.low, exact.high) == pytest.approx((row.clopper_low, row.clopper_high), abs=1e-9)


def test_mcnemar():
    for row in rows("mcnemar"):
        assert mcnemar_exact(row.only_config, row.only_baseline).pvalue == pytest.approx(row.mcnemar, rel=1e-9)


def test_cochran_mantel_haenszel_asymptotic_and_exact():
    strata = pd.DataFrame(rows("strata")).groupby("set")
    for row in rows("cmh"):
        tasks = strata.get_group(row.set)
        result = cmh([Stratum(*map(int, task)) for task in tasks[["x", "n", "y", "m"]].to_numpy()])
        chi2, asymptotic = (row.chi2, row.asymptotic) if abs(row.excess) >= 0.5 else (0.0, 1.0)
        assert result.statistic == pytest.approx(chi2, rel=1e-9, abs=1e-12)
        assert result.pvalue_asymptotic == pytest.approx(asymptotic, rel=1e-9)
        assert result.pvalue == pytest.approx(row.exact, rel=1e-9)
        assert result.odds_ratio == pytest.approx(row.odds_ratio, rel=1e-9)


def test_holm():
    for row in rows("holm"):
        assert holm(numbers(row.raw)) == pytest.approx(numbers(row.holm), rel=1e-12)


def test_sign_flip():
    for row in rows("sign_flip"):
        assert sign_flip(numbers(row.differences)).pvalue == pytest.approx(row.p, rel=1e-12)


def test_the_clustered_interval_is_t_on_the_differences_and_two_pseudo_tasks_with_room_for_the_unseen():
    for row in rows("clustered"):
        interval = clustered(numbers(row.differences), row.attempts)
        assert (interval.low, interval.high) == pytest.approx((max(-1, row.low), min(1, row.high)), rel=1e-9)


def test_trend_with_time_is_the_rank_sum_test_where_every_task_has_one_trial():
    for row in rows("trend"):
        late = numbers(row.solved)
        trials = [
            replace(
                outcome("baseline", f"t{k}", "solved" if k in late else "unsolved"), started=f"2026-01-01T00:{k:02}:00"
            )
            for k in range(1, row.n + 1)
        ]
        test = drift(trials).pass_trend
        # R's χ² of the trend is n·r², with r the correlation of outcome and rank; permutations have a standard error.
        assert row.n * test.statistic**2 == pytest.approx(row.trend, rel=1e-9)
        assert test.pvalue == pytest.approx(row.wilcoxon, abs=4 * (row.wilcoxon / DRAWS) ** 0.5)
