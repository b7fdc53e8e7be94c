"""From the committed `trials.jsonl` of the calibration to the main numbers by pandas and SciPy alone.

Nothing of `capvec.stats` takes part in the expected values: this is what a referee would write.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from support import REPOSITORY

from capvec.results.ledger import Ledger
from capvec.stats.summary import summarise

pytestmark = pytest.mark.unit

TRIALS = REPOSITORY / "reports" / "calibration" / "trials.jsonl"
COMPARISONS = ["planted-L24-a0.75", "format-L26-a1"]
CONFIGS = [*COMPARISONS, "planted-reversed-L24-a0.75"]


@pytest.fixture(scope="module")
def frame():
    data = pd.read_json(TRIALS, lines=True).drop_duplicates("trial", keep="last")  # of a trial that was run again
    return data[data.config.isin(["baseline", *CONFIGS]) & (data.outcome != "error")].assign(
        solved=lambda rows: (rows.outcome == "solved").astype(int)
    )


@pytest.fixture(scope="module")
def summary():
    names = ["baseline", *CONFIGS]
    return summarise(
        [outcome for outcome in Ledger(TRIALS).read() if outcome.config in names], names, comparisons=COMPARISONS
    )


@pytest.fixture(params=CONFIGS)
def pair(request, frame, summary):
    """The config's trials, the baseline's, and the row of the summary."""
    row = next(row for row in summary.configs if row.config == request.param)
    return frame[frame.config == request.param], frame[frame.config == "baseline"], row


def differences(config, base, column):
    return (config.groupby("task")[column].mean() - base.groupby("task")[column].mean()).to_numpy()


def sign_flip(values):
    """A million drawn sign patterns are enough to check an exact p-value to three digits."""
    signs = np.random.default_rng(0).integers(0, 2, (100_000, len(values)), dtype=np.int8) * 2.0 - 1
    return (np.abs(signs @ values) >= abs(values.sum()) - 1e-9).mean()


def test_rates_counts_and_their_intervals(pair):
    config, _, row = pair
    n, solved = len(config), int(config.solved.sum())
    test = stats.binomtest(solved, n)
    assert (row.n, row.solved, row.errors) == (n, solved, 0)
    assert row.pass_rate == pytest.approx(config.solved.mean())
    for found, method in ((row.wilson, "wilson"), (row.clopper_pearson, "exact")):
        expected = test.proportion_ci(method=method)
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert row.mean_steps == pytest.approx(config.steps.mean())
    assert row.parse_fail_per_run == pytest.approx(config.parse_fail.mean())
    assert row.no_cmd_per_reply == pytest.approx(config.no_cmd.sum() / config.steps.sum())
    assert dict(row.end_reasons) == config.end_reason.value_counts().to_dict()


def test_fisher_and_mcnemar(pair):
    config, base, row = pair
    table = [[solved := config.solved.sum(), base.solved.sum()], [len(config) - solved, len(base) - base.solved.sum()]]
    assert row.fisher.pvalue == pytest.approx(stats.fisher_exact(table).pvalue)
    keys = ["task", "attempt"]
    paired = config.set_index(keys).solved - base.set_index(keys).solved
    up, down = int((paired == 1).sum()), int((paired == -1).sum())
    assert (row.mcnemar.only_config, row.mcnemar.only_baseline, row.mcnemar.pairs) == (up, down, 136)
    assert row.mcnemar.pvalue == pytest.approx(stats.binomtest(up, up + down).pvalue)


def test_sign_flip_over_tasks_and_the_difference_with_its_interval(pair):
    config, base, row = pair
    values = differences(config, base, "solved")
    assert row.effect.difference == pytest.approx(values.mean())
    expected = sign_flip(values)
    assert row.effect.pvalue == pytest.approx(expected, abs=4 * (expected / 100_000) ** 0.5 + 1e-4)
    # Two pseudo-tasks of mean square 1/(2·2 attempts), or of 1/2 as far as tasks stood still.
    pseudo = np.sqrt(np.where(np.asarray(values) == 0, 1 / 2, 1 / 4).mean())
    padded = [*values, pseudo, -pseudo]
    margin = stats.t.ppf(0.975, len(values) - 1) * stats.sem(padded)
    assert row.effect.interval.low == pytest.approx(np.mean(padded) - margin)
    assert row.effect.interval.high == pytest.approx(np.mean(padded) + margin)
    assert row.mediation.difference == pytest.approx(values.mean())


def test_counts_and_steps_by_task(pair):
    config, base, row = pair
    for effect in row.secondary:
        values = differences(config, base, effect.metric)
        expected = sign_flip(values)
        assert effect.difference == pytest.approx(values.mean())
        assert effect.pvalue == pytest.approx(expected, abs=4 * (expected / 100_000) ** 0.5 + 1e-4)


def test_cochran_mantel_haenszel(pair):
    config, base, row = pair
    a, n = (config.groupby("task").solved.agg(how) for how in ("sum", "size"))
    c, m = (base.groupby("task").solved.agg(how) for how in ("sum", "size"))
    solved, total = a + c, n + m
    excess = abs((a - n * solved / total).sum())
    chi2 = (
        (excess - 0.5) ** 2 / (n * m * solved * (total - solved) / (total**2 * (total - 1))).sum()
        if excess > 0.5
        else 0
    )
    assert row.cmh.statistic == pytest.approx(chi2)
    assert row.cmh.pvalue_asymptotic == pytest.approx(stats.chi2.sf(chi2, 1))


def test_holm_over_the_two_steered_configs(summary):
    rows = {row.config: row.effect for row in summary.configs if row.effect}
    low, high = sorted(rows[name].pvalue for name in COMPARISONS)
    assert sorted(rows[name].holm for name in COMPARISONS) == pytest.approx(
        [min(1, 2 * low), max(min(1, 2 * low), high)]
    )
    assert rows["planted-reversed-L24-a0.75"].holm is None
    assert summary.comparisons == tuple(COMPARISONS)
