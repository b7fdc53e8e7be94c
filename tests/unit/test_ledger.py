import json
from dataclasses import replace
from pathlib import Path

import pytest

from capvec.errors import UsageError
from capvec.records import Config, Measured, TrialSpec
from capvec.sweep.ledger import Ledger, reconcile
from capvec.sweep.trial import error_outcome

pytestmark = pytest.mark.unit

BASELINE = Config("baseline", "baseline")


def an_outcome(task: str, reason: str = "x"):
    return error_outcome("run", TrialSpec(task, "baseline", 1, 7), BASELINE, reason)


def test_what_is_appended_is_read_back_in_order(tmp_path):
    ledger = Ledger(tmp_path / "trials.jsonl")
    outcomes = (an_outcome("a"), an_outcome("b"))
    for outcome in outcomes:
        ledger.append(outcome)
    assert ledger.read() == outcomes


def test_a_trial_that_ran_again_is_counted_once_by_its_latest_outcome(tmp_path):
    ledger = Ledger(tmp_path / "trials.jsonl")
    for outcome in (an_outcome("a", "first"), an_outcome("b"), an_outcome("a", "second")):
        ledger.append(outcome)
    assert [(o.task, o.error) for o in ledger.read()] == [("a", "second"), ("b", "x")]


def test_a_line_that_a_crash_cut_off_is_dropped_and_mended(tmp_path):
    ledger = Ledger(tmp_path / "trials.jsonl")
    ledger.append(an_outcome("a"))
    with ledger.path.open("a") as file:
        file.write('{"run": "r", "tri')
    assert [o.task for o in ledger.read()] == ["a"]
    ledger.mend()
    ledger.append(an_outcome("b"))
    assert [o.task for o in ledger.read()] == ["a", "b"]


def test_a_damaged_line_in_the_middle_is_an_error_that_names_it(tmp_path):
    ledger = Ledger(tmp_path / "trials.jsonl")
    ledger.append(an_outcome("a"))
    with ledger.path.open("a") as file:
        file.write(json.dumps({"run": "r"}) + "\n")
    with pytest.raises(UsageError, match=r"trials\.jsonl, line 2"):
        ledger.read()


def test_no_file_means_no_outcomes(tmp_path):
    assert Ledger(tmp_path / "trials.jsonl").read() == ()


def test_reconciliation_names_what_left_no_record():
    outcome = an_outcome("a")
    result = reconcile([outcome.trial, "b-baseline-t1"], [outcome])
    assert (result.expected, result.recorded, result.missing) == (2, 1, ("b-baseline-t1",))
    assert "NOT RUN: b-baseline-t1" in str(result)


def test_the_ledgers_of_reports_from_before_steers_had_operations_still_load():
    reports = Path(__file__).parents[2] / "reports"
    outcomes = {path.parent.name: Ledger(path).read() for path in sorted(reports.glob("*/trials.jsonl"))}
    assert {"seed", "calibration"} <= set(outcomes)
    assert all(outcomes.values())
    line = next(o for o in outcomes["seed"] if o.trial == "make-folders-1-steered-L29-a0.5-t1")
    # As its line says: "shift_expected": 261.8840637207031, "shift_measured": 261.88404354806676.
    assert line.measured == (Measured(29, "add", 261.8840637207031, 261.88404354806676),)
    assert all(o.measured == () for o in outcomes["seed"] if o.config == "baseline")


@pytest.mark.parametrize("layer", [22, "20+22", None])
def test_an_outcome_keeps_where_it_was_steered_and_what_was_measured(tmp_path, layer):
    measured = (Measured(20, "ablate", 0.0, 1e-7), Measured(22, "add", None, None))
    outcome = replace(an_outcome("a"), layer=layer, measured=measured)
    ledger = Ledger(tmp_path / "trials.jsonl")
    ledger.append(outcome)
    assert ledger.read() == (outcome,)
