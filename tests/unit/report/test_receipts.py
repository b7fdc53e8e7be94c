"""What the report says of the receipts."""

from dataclasses import replace

import pytest
from support.sections import cells, tables, titles

from capvec.records import Config, Measured, TrialSpec
from capvec.report.receipts import receipts_section
from capvec.run.trial import error_outcome

pytestmark = pytest.mark.unit


def outcomes(config, *measured):
    base = error_outcome("run", TrialSpec("t", config, 1, 7), Config(config, "steered"), "")
    return [replace(base, measured=each) for each in measured]


def test_each_steer_has_a_line_with_the_quantity_that_its_operation_is_judged_by():
    section = receipts_section(
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
    assert titles(tables(section)[0])[:5] == ["config", "layer", "trials", "quantity", "expected"]
    assert cells(section) == [
        ["steered-L2+3-a4", "2", "2", "shift", "8.0000", "7.9000 to 8.1000"],
        ["steered-L2+3-a4", "3", "2", "shift", "4.0000", "4.0000 to 4.0000"],
        ["ablate-L2", "2", "1", "level", "0.0000", "0.0000 to 0.0000"],
        ["set-L2-a4", "2", "1", "level", "8.0000", "8.0000 to 8.0000"],
        ["steered-L2-a4-keepnorm", "2", "1", "shift", "–", "7.0000 to 7.0000"],
        ["steered-L2-a4-generated", "2", "1", "shift", "8.0000", "–"],
    ]
    assert receipts_section(outcomes("baseline", ())) is None
