import json
from dataclasses import replace

import pytest
from support import REPOSITORY
from support.results import results_of
from support.sections import sentences

from capvec.errors import StorageFault, UsageError
from capvec.plan.plan import Plan, Settings, interleave
from capvec.records import Config, LostTry, Measured, TrialId, TrialSpec
from capvec.report.completion import gates_section, retried_section
from capvec.report.document import sweep_report
from capvec.report.terminal import closing_lines
from capvec.results.gates import GateResult
from capvec.results.ledger import Ledger, reconcile
from capvec.run.trial import error_outcome
from capvec.stats.summary import summarise
from capvec.task_records import Task

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


@pytest.mark.parametrize("how", ["removed", "emptied", "replaced", "longer"])
@pytest.mark.parametrize("resumed", [False, True])
def test_a_ledger_that_somebody_changes_under_a_run_is_not_begun_anew(tmp_path, how, resumed):
    path = tmp_path / "trials.jsonl"
    ledger = Ledger(path)
    ledger.append(an_outcome("a"))
    if resumed:
        ledger = Ledger(path)
        ledger.mend()
        ledger.read()
    changes = {"removed": path.unlink, "emptied": lambda: path.write_bytes(b"")}
    changes |= {"replaced": lambda: path.write_text("{}\n"), "longer": lambda: Ledger(path).append(an_outcome("c"))}
    changes[how]()
    before = path.read_bytes() if path.exists() else None
    with pytest.raises(
        StorageFault, match=r"trials\.jsonl (cannot be written \(No such file|was changed while this run)"
    ):
        ledger.append(an_outcome("b"))
    assert (path.read_bytes() if path.exists() else None) == before


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


@pytest.mark.parametrize(
    "line",
    [b"\xff\xfe", b"[" * 100_000, b"9" * 5000, b"{}", b'{"trial": "\\ud800"}'],
    ids=["bytes", "nested", "huge", "empty", "half"],
)
def test_a_line_that_is_no_outcome_is_one_sentence_and_as_the_last_it_is_torn(tmp_path, line):
    ledger = Ledger(tmp_path / "trials.jsonl")
    ledger.append(an_outcome("a"))
    with ledger.path.open("ab") as file:
        file.write(line)
    assert [o.task for o in ledger.read()] == ["a"]
    with ledger.path.open("ab") as file:
        file.write(b"\n")
    with pytest.raises(UsageError, match=r"trials\.jsonl, line 2: .*; put the file back") as refused:
        ledger.read()
    assert len(str(refused.value)) < 700
    assert "\n" not in str(refused.value)


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
    other = TrialId("b", "baseline", 1)
    result = reconcile([outcome.id, other], [outcome], ran={outcome.id})
    assert (result.expected, result.recorded, result.missing) == (2, 1, (other,))
    assert str(result).endswith("NOT RUN: b-baseline-t1")


def test_an_error_of_an_earlier_session_counts_once_its_trial_ran_again_and_a_valid_outcome_counts_anyway():
    error, valid = an_outcome("a"), replace(an_outcome("b"), outcome="unsolved")
    trials = [error.id, valid.id]
    assert reconcile(trials, [error, valid], ran=()).missing == (error.id,)
    assert reconcile(trials, [error, valid], ran={error.id}).missing == ()


def test_a_session_that_was_interrupted_says_so_first_in_the_terminal_and_in_the_status(tmp_path):
    valid = replace(an_outcome("a"), outcome="unsolved")
    result = reconcile([valid.id], [valid], ran=(), interrupted=True)
    assert str(result).startswith("Interrupted")
    task, settings = Task("a", tmp_path, "do it", "0"), Settings("m", "bash-block", "brief", 1, 1, 0.7)
    plan = Plan("r", tmp_path, (task,), (BASELINE,), interleave([task], [BASELINE], 1, 0), settings)
    summary = summarise([valid], ["baseline"])
    assert closing_lines(results_of(plan, [valid], completeness=result), ("table",))[1] == str(result)
    report = sweep_report(results_of(plan, [valid], completeness=result, summary=summary))
    assert report.status.startswith(f"{result}. ")


def test_a_session_that_stopped_for_an_outage_says_why_and_which_tries_were_lost(tmp_path):
    lost = LostTry("SandboxUnavailable: refused", "Docker", 7.6)
    valid = replace(an_outcome("a"), outcome="unsolved", lost=(lost, LostTry("no such image")))
    result = reconcile([valid.id, TrialId("b", "baseline", 1)], [valid], ran=(), stopped="Docker did not come back")
    assert str(result).startswith("Stopped: Docker did not come back. 1 of 2 trials recorded; NOT RUN: b-")
    plan = Plan("r", tmp_path, (), (), (), Settings("m", "bash-block", "brief", 1, 1, 0.7))
    results = results_of(plan, [valid], completeness=result, summary=summarise([valid], ["baseline"]))
    lines = closing_lines(results, ())
    assert lines[0].startswith("1 trial began anew")
    assert lines[1] == str(result)
    assert sentences(retried_section([valid]))[1:] == [
        "a-baseline-t1, try 1 (Docker was out; waited 8 s): SandboxUnavailable: refused",
        "a-baseline-t1, try 2: no such image",
    ]


def test_gates_of_a_session_with_missing_trials_are_said_to_stand_so_far(tmp_path):
    plan = Plan("r", tmp_path, (), (), (), Settings("m", "bash-block", "brief", 1, 1, 0.7))
    gates = (GateResult("no_harm(0.1)", True, "holds"), GateResult("improves(x)", False, "underpowered"))
    valid = replace(an_outcome("a"), outcome="unsolved")
    for collected, so_far in (([valid.id], ""), ([valid.id, TrialId("b", "baseline", 1)], " so far")):
        recorded = reconcile(collected, [valid], ran={valid.id})
        results = results_of(
            plan, [valid], gates=gates, completeness=recorded, summary=summarise([valid], ["baseline"])
        )
        said = [line for line in closing_lines(results, ()) if line.startswith("gate")]
        assert said == [
            f"gate met{so_far}: no_harm(0.1) (holds)",
            f"gate NOT MET{so_far}: improves(x) (underpowered)",
        ]
        written = sentences(gates_section(results))
        assert ("no gate is judged" in written[0]) == bool(so_far)
        assert written[-2:] == [f"met{so_far}: no_harm(0.1) (holds)", f"not met{so_far}: improves(x) (underpowered)"]


def test_the_terminal_names_the_first_trials_that_failed_with_the_first_line_of_the_reason(tmp_path):
    plan = Plan("r", tmp_path, (), (), (), Settings("m", "bash-block", "brief", 1, 1, 0.7))
    errors = [an_outcome(f"t{number}", "VerifierFault: no reward\nand much more") for number in range(7)]
    summary = summarise(errors, ["baseline"])
    lines = closing_lines(results_of(plan, errors, completeness=reconcile((), errors, ()), summary=summary), ())
    assert lines[0] == "error: t0-baseline-t1: VerifierFault: no reward"
    assert lines[5].startswith("and 2 more errors")
    assert f"{tmp_path}/RESULTS.md" in lines[6]


def test_the_ledgers_of_the_committed_reports_load():
    reports = REPOSITORY / "reports"
    outcomes = {path.parent.name: Ledger(path).read() for path in sorted(reports.glob("*/trials.jsonl"))}
    assert {"pocket", "choice", "calibration", "seed", "example"} <= set(outcomes)
    assert all(outcomes.values())


@pytest.mark.parametrize(
    ("expected", "mean", "measured"), [(64.25, 64.5, (Measured(24, "add", 64.25, 64.5),)), (None, None, ())]
)
def test_a_line_from_before_steers_had_operations_still_loads(tmp_path, expected, mean, measured):
    line = replace(an_outcome("a"), layer=24).to_json() | {"shift_expected": expected, "shift_measured": mean}
    del line["measured"]
    (tmp_path / "trials.jsonl").write_text(json.dumps(line))
    assert Ledger(tmp_path / "trials.jsonl").read()[0].measured == measured


@pytest.mark.parametrize("layer", [22, "20+22", None])
def test_an_outcome_keeps_where_it_was_steered_and_what_was_measured(tmp_path, layer):
    measured = (Measured(20, "ablate", 0.0, 1e-7), Measured(22, "add", None, None))
    outcome = replace(an_outcome("a"), layer=layer, measured=measured)
    ledger = Ledger(tmp_path / "trials.jsonl")
    ledger.append(outcome)
    assert ledger.read() == (outcome,)
