"""The trials of a run folder as a DataFrame."""

from __future__ import annotations

import pandas as pd
import pytest
from support import REPOSITORY

from capvec.errors import UsageError
from capvec.results.ledger import Ledger
from capvec.results.run_folder import read_run_folder
from capvec.results.table import read_run, trial_table

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


def test_a_table_of_some_fields_has_them_as_the_whole_table_does():
    run = read_run_folder(REPOSITORY / "reports" / "example")
    whole, some = trial_table(run.plan, run.outcomes), trial_table(run.plan, run.outcomes, ["config", "steps"])
    assert {"config", "steps"} <= {*some} < {*whole}
    pd.testing.assert_frame_equal(some, whole[[*some]])
