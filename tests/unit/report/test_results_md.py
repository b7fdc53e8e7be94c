"""What the report says about the receipts."""

from dataclasses import replace

import pytest
from capvec.report.results_md import _attempts, _receipts
from capvec.report.table import uncompared_lines
from support.outcomes import arms
from support.recorded_run import write_recorded

from capvec.records import Config, Measured, TrialSpec
from capvec.run.trial import error_outcome
from capvec.stats.summary import summarise

pytestmark = pytest.mark.unit


def outcomes(config, *measured):
    base = error_outcome("run", TrialSpec("t", config, 1, 7), Config(config, "steered"), "")
    return [replace(base, measured=each) for each in measured]


def test_each_steer_has_a_line_with_the_quantity_that_its_operation_is_judged_by():
    lines = list(
        _receipts(
            [
                *outcomes("baseline", ()),
                *outcomes(
                    "steered-L2+3-a4",
                    (Measured(2, "add", 8.0, 7.9), Measured(3, "add", 4.0, 4.0)),
                    (Measured(2, "add", 8.0, 8.1), Measured(3, "add", 4.0, 4.0)),
                ),
                *outcomes("ablate-L2", (Measured(2, "ablate", 0.0, 1e-5),)),
                *outcomes("set-L2-a4", (Measured(2, "set", 8.0, 8.0),)),
                *outcomes("steered-L2-a4-keepnorm", (Measured(2, "add", None, 7.0),)),
                *outcomes("steered-L2-a4-generated", (Measured(2, "add", 8.0, None),)),
            ]
        )
    )
    assert lines[1].startswith("| config | layer | trials | quantity | expected | measured")
    assert lines[3:-1] == [
        "| steered-L2+3-a4 | 2 | 2 | shift | 8.0000 | 7.9000 to 8.1000 |",
        "| steered-L2+3-a4 | 3 | 2 | shift | 4.0000 | 4.0000 to 4.0000 |",
        "| ablate-L2 | 2 | 1 | level | 0.0000 | 0.0000 to 0.0000 |",
        "| set-L2-a4 | 2 | 1 | level | 8.0000 | 8.0000 to 8.0000 |",
        "| steered-L2-a4-keepnorm | 2 | 1 | shift | – | 7.0000 to 7.0000 |",
        "| steered-L2-a4-generated | 2 | 1 | shift | 8.0000 | – |",
    ]
    assert list(_receipts(outcomes("baseline", ()))) == []


def test_a_config_without_a_valid_trial_is_named_in_the_status():
    trials = [
        replace(one, outcome="error") if one.config == "b" else one for one in arms(baseline=(0, 3), a=(1, 3), b=(1, 3))
    ]
    summary = summarise(trials, ["baseline", "a", "b", "c"])
    said = list(uncompared_lines(summary))
    ends = "it stays in the family, and nothing is known of it."
    assert said == [f"b has no valid trial (3 ended in an error): {ends}", f"c has no valid trial: {ends}"]


@pytest.mark.parametrize(("kept", "said"), [(3, "3 attempts"), (1, "1 to 3 attempts"), (0, "0 to 3 attempts")])
def test_attempts_that_differ_between_tasks_and_configs_are_said_to(tmp_path, kept, said):
    plan = write_recorded(tmp_path / "r")
    task, config = plan.tasks[0].name, plan.configs[-1].name
    trials = [
        TrialSpec(each.name, other.name, attempt, 7)
        for each in plan.tasks
        for other in plan.configs
        for attempt in range(1, (kept if (each.name, other.name) == (task, config) else 3) + 1)
    ]
    assert _attempts(replace(plan, trials=tuple(trials))) == said


def test_the_caveat_on_several_configs_holds_of_every_table(tmp_path):
    write_recorded(tmp_path / "r")
    text = (tmp_path / "r" / "RESULTS.md").read_text()
    assert text.count("| after Holm |") + text.count("| p after Holm |") >= 2  # tables with a corrected column
    assert "the p-values in the tables are not corrected" not in text
    assert (
        "The p-values of the calls, and those after Holm in the tables, are corrected for how many the family has; all "
        "others are not." in text
    )
