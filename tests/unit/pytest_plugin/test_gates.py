"""Gates as tests of their own, in junit, in pytest's summary and for `--last-failed`; trials whose ends are given."""

from __future__ import annotations

import json
import os
import xml.etree.ElementTree as ET

import pytest
from support import (
    scripted_session,  # noqa: F401 (SciPy cannot be imported anew by each session within this one)
    scripted_trials,
)

pytestmark = pytest.mark.unit
pytest_plugins = ("pytester",)

HARM = ("no_harm(0.1)", False, "x passes 0.20, baseline 0.50")
STEPS = ("steps<=baseline", True, "holds for every config")
ZERO = ("zero-L1: the baseline's tokens", True, "12 replies compared")


@pytest.fixture
def session(pytester, monkeypatch):
    """Runs trials by the names that say how they end, and gates that are judged as given."""
    pytester.makepyfile(test_scripted=scripted_trials.TEST_FILE)
    # These sessions have no workers, even where these tests have some.
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)

    def run(trials: str, gates, *arguments: str) -> pytest.RunResult:
        monkeypatch.setenv("TRIALS", trials)
        monkeypatch.setenv("GATES", json.dumps(gates))
        # Hypothesis would be imported anew each time, which takes a second and has no part in it; and that capvec is
        # imported already is so in a session within a session, and is counted in the last line as a warning.
        options = ("-p", "no:hypothesispytest", "-W", "ignore::pytest.PytestAssertRewriteWarning")
        options += ("--junitxml", "junit.xml", "-ra")
        return pytester.runpytest_inprocess(*options, *arguments, plugins=[scripted_trials], no_reraise_ctrlc=True)

    return run


@pytest.fixture
def junit(pytester):
    def read() -> tuple[ET.Element, dict[str, ET.Element]]:
        suite = ET.parse(pytester.path / "junit.xml").getroot().find("testsuite")
        return suite, {case.get("name"): case for case in suite.iter("testcase")}

    return read


def properties(case: ET.Element) -> dict[str, str]:
    return {entry.get("name"): entry.get("value") for entry in case.iter("property")}


def test_each_gate_is_a_test_of_its_own_beside_the_trials(session, junit):
    result = session("solved1 unsolved2", [HARM, STEPS, ZERO])
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(failed=1, passed=2)
    suite, cases = junit()
    assert {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "5", "failures": "1", "errors": "0", "skipped": "0",
    }  # fmt: skip
    assert list(cases) == [
        "test_trial[solved1-baseline-t1]",
        "test_trial[unsolved2-baseline-t1]",
        "gate[no_harm(0.1)]",
        "gate[steps<=baseline]",
        "gate[zero-L1: the baseline's tokens]",
    ]
    assert {case.get("classname") for case in cases.values()} == {"test_scripted"}
    assert properties(cases["test_trial[solved1-baseline-t1]"])["outcome"] == "solved"
    failed, passed = cases["gate[no_harm(0.1)]"], cases["gate[steps<=baseline]"]
    assert [child.tag for child in failed] == ["properties", "failure"]
    assert failed.find("failure").get("message") == HARM[2]
    assert properties(failed) == {"gate": HARM[0], "verdict": "not met", "reason": HARM[2]}
    assert [child.tag for child in passed] == ["properties"]
    assert properties(passed) == {"gate": STEPS[0], "verdict": "met", "reason": STEPS[2]}


def test_the_terminal_shows_gates_after_the_trials_and_why_one_failed(session):
    result = session("solved1 unsolved2", [HARM, STEPS])
    result.stdout.fnmatch_lines(
        [
            "test_scripted.py SuF. * [[]100%]",
            "*= FAILURES =*",
            "*_ gate[[]no_harm(0.1)[]] _*",
            "x passes 0.20, baseline 0.50",
            "FAILED test_scripted.py::gate[[]no_harm(0.1)[]] - x passes 0.20, baseline 0.50",
            "*1 failed, 1 passed, 1 solved, 1 unsolved in *",
        ]
    )
    assert "101%" not in result.stdout.str()
    result = session("solved1", [HARM, STEPS], "-v")
    result.stdout.fnmatch_lines(
        [
            "test_scripted.py::test_trial[[]solved1-baseline-t1[]] SOLVED *[[]100%]",
            "test_scripted.py::gate[[]no_harm(0.1)[]] FAILED *",
            "test_scripted.py::gate[[]steps<=baseline[]] PASSED *[[]100%]",
        ]
    )


def test_gates_that_are_met_leave_the_exit_code_at_0_and_no_gates_leave_no_trace(session, junit):
    assert session("solved1 unsolved2", [STEPS]).ret == pytest.ExitCode.OK
    assert session("solved1", []).ret == pytest.ExitCode.OK
    assert list(junit()[1]) == ["test_trial[solved1-baseline-t1]"]


def test_a_trial_in_error_is_counted_and_the_gates_are_judged_all_the_same(session, junit):
    result = session("solved1 error2", [STEPS])
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(errors=1, passed=1)
    assert properties(junit()[1]["gate[steps<=baseline]"])["verdict"] == "met"


@pytest.mark.parametrize(
    ("trials", "arguments", "code", "said"),
    [
        (
            "error1 solved2",
            ["-x"],
            pytest.ExitCode.TESTS_FAILED,
            "1 of 2 trials recorded; NOT RUN: solved2-baseline-t1",
        ),
        ("solved1 skip2", [], pytest.ExitCode.TESTS_FAILED, "1 of 2 trials recorded; NOT RUN: skip2-baseline-t1"),
        (
            "solved1 press2 solved3",
            [],
            pytest.ExitCode.INTERRUPTED,
            "Interrupted: 1 of 3 trials recorded; NOT RUN: press2-baseline-t1, solved3-baseline-t1",
        ),
    ],
)
def test_where_trials_are_missing_no_gate_is_judged(session, junit, trials, arguments, code, said):
    result = session(trials, [HARM, STEPS], *arguments)
    assert result.ret == code
    cases = junit()[1]
    for gate, so_far in ((HARM, "not met"), (STEPS, "met")):
        case = cases[f"gate[{gate[0]}]"]
        assert case.find("skipped").get("message") == f"not judged: {said}; so far {so_far}: {gate[2]}"
        assert properties(case)["verdict"] == "not judged"
    result.stdout.fnmatch_lines([f"SKIPPED * not judged: {said}; *"])


def test_a_gate_that_fails_does_not_stop_the_others_at_the_first_failure(session):
    session("solved1", [HARM, STEPS], "-x").assert_outcomes(failed=1, passed=1)


def test_after_a_failed_gate_last_failed_runs_the_trials_again_and_forgets_a_gate_that_is_met(session, pytester):
    session("solved1 unsolved2", [HARM])
    cache = pytester.path / ".pytest_cache" / "v" / "cache" / "lastfailed"
    assert json.loads(cache.read_text()) == {"test_scripted.py::gate[no_harm(0.1)]": True}
    session("solved1 unsolved2", [(HARM[0], True, "holds")], "--lf").assert_outcomes(passed=1)
    assert not cache.exists() or json.loads(cache.read_text()) == {}


def test_a_session_without_trials_has_no_gates(session, junit):
    assert session("solved1", [STEPS], "-k", "nothing").ret == pytest.ExitCode.USAGE_ERROR
    assert not junit()[1]


def test_tests_of_another_kind_in_the_same_session_are_neither_trials_nor_where_gates_belong(session, pytester, junit):
    other = "import pytest\n\n\n@pytest.mark.parametrize('n', [1])\ndef test_other(n):\n    assert n\n"
    pytester.makepyfile(test_before_all_others=other)
    assert session("solved1", [STEPS]).ret == pytest.ExitCode.OK
    classes = [(case.get("classname"), name) for name, case in junit()[1].items()]
    assert classes == [
        ("test_before_all_others", "test_other[1]"),
        ("test_scripted", "test_trial[solved1-baseline-t1]"),
        ("test_scripted", "gate[steps<=baseline]"),
    ]


def test_a_system_without_files_in_memory_has_the_same_junit_file(session, junit, monkeypatch):
    session("solved1 unsolved2", [HARM])
    suite, cases = junit()
    monkeypatch.delattr(os, "memfd_create", raising=False)
    session("solved1 unsolved2", [HARM])
    other, others = junit()
    assert set(others) == set(cases)
    assert [other.get(count) for count in ("tests", "failures")] == [
        suite.get(count) for count in ("tests", "failures")
    ]
