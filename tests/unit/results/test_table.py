"""The trials of a run folder as a DataFrame."""

from __future__ import annotations

import pytest
from support import REPOSITORY

from capvec.errors import UsageError
from capvec.results.ledger import Ledger
from capvec.results.table import read_run

pytestmark = pytest.mark.unit


def test_a_run_is_read_as_one_row_per_trial_in_the_plans_order():
    folder = REPOSITORY / "reports" / "example"
    trials = read_run(folder)
    outcomes = {outcome.trial: outcome for outcome in Ledger(folder / "trials.jsonl").read()}
    assert set(trials["trial"]) == set(outcomes)
    assert len(trials) == len(outcomes)
    for row in trials.itertuples():
        outcome = outcomes[row.trial]
        assert (row.outcome, row.steps, row.seed) == (outcome.outcome, outcome.steps, outcome.seed)
    assert {"family", "split"} <= set(trials.columns)


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"provenance\.json"):
        read_run(tmp_path)
