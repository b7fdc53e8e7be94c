"""`CALIBRATION.md` and `calibration.json`, after a run and made again."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from support.recorded_calibration import ARMS, SETTINGS, a_selection, ideal, task, write_calibration_run

from capvec.directions.direction import Direction, random_control
from capvec.plan.plan import Plan, interleave
from capvec.results.zero_control import Comparison
from capvec.studies.calibration.configs import arms_of, configs_of
from capvec.studies.calibration.judge import SELECTED, CalibrationJudgement
from capvec.studies.calibration.report import write_calibration
from capvec.studies.calibration.verdicts import (
    SplitOutcomes,
    judge,
)
from capvec.studies.regenerate import report

pytestmark = pytest.mark.unit


def test_the_report_holds_the_numbers_of_the_verdicts(tmp_path):
    tasks = tuple(task(f"t{k:02}", f"fam{k % 4}") for k in range(20))
    skill = Direction(np.ones((3, 2), np.float32), np.full(3, 10.0))
    configs = configs_of(a_selection(), skill, skill, [random_control(skill, 0)])
    named = dict(zip(ARMS.names, arms_of(a_selection(), 1).names, strict=True))
    outcomes = SplitOutcomes([replace(o, config=named[o.config]) for o in ideal().test], [])
    arms = arms_of(a_selection(), 1)
    plan = Plan("r", tmp_path, tasks, configs, interleave(tasks, configs, 1, 0), SETTINGS, "calibration")
    zero = [Comparison("t00", 1, 3, None, False)]
    verdicts = judge(outcomes, arms, zero)
    write_calibration(
        plan,
        CalibrationJudgement(
            selection=a_selection(), arms=arms, measured=outcomes, verdicts=verdicts, zero=tuple(zero)
        ),
    )
    data = json.loads((tmp_path / "calibration.json").read_text())
    assert data["met"] is True
    assert [verdict["met"] for verdict in data["verdicts"]] == [True] * 5
    assert data["verdicts"][0]["effects"][0]["difference"] == 0.5
    text = (tmp_path / "CALIBRATION.md").read_text()
    assert "**Status:** every verdict is met." in text
    assert "20 tasks are of trained families" in text
    # Five tasks of each of four families; the baseline solves t00 to t09: of fam0 t00, t04 and t08.
    assert "| fam0 | test split | 3/5 | 5/5 | 0/5 | 3/5 |" in text


@pytest.fixture
def recorded(tmp_path):
    write_calibration_run(tmp_path / "r")
    return tmp_path / "r"


CALIBRATED = ("CALIBRATION.md", "calibration.json", "summary.json", "RESULTS.md")


def test_a_calibrations_reports_are_made_again_the_same_from_what_it_left_behind(recorded):
    before = {name: (recorded / name).read_text() for name in CALIBRATED}
    assert "9 tasks are of trained families" in before["CALIBRATION.md"]
    for name in ("CALIBRATION.md", "RESULTS.md"):
        (recorded / name).unlink()
    said = report([recorded], None).lines
    assert {name: (recorded / name).read_text() for name in CALIBRATED} == before
    assert "families never trained on" in said
    assert f"calibration: {recorded / 'CALIBRATION.md'}" in said
    assert any(line.startswith("gate met: (d) α = 0") for line in said)


def test_a_calibration_of_an_earlier_capvec_has_its_selection_in_its_report_alone(recorded):
    before, path = (recorded / "CALIBRATION.md").read_text(), recorded / "provenance.json"
    record = json.loads(path.read_text())
    record["options"]["choice"] = record["options"].pop(SELECTED)  # the key of an earlier capvec
    path.write_text(json.dumps(record))
    report([recorded], None)
    assert (recorded / "CALIBRATION.md").read_text() == before
    del record["options"]["choice"]
    path.write_text(json.dumps(record))
    report([recorded], None)
    assert (recorded / "CALIBRATION.md").read_text() == before
    (recorded / "calibration.json").unlink()
    gates = json.loads((recorded / "summary.json").read_text())["gates"]
    (recorded / "CALIBRATION.md").write_text("as it was")
    said = report([recorded], None).lines
    assert any(line.startswith("CALIBRATION.md was not made again: neither provenance.json nor") for line in said)
    assert (recorded / "CALIBRATION.md").read_text() == "as it was"
    assert json.loads((recorded / "summary.json").read_text())["gates"] == gates


def test_trials_that_have_changed_are_not_judged_by_the_comparison_of_the_old_ones(recorded):
    lines = (recorded / "trials.jsonl").read_text().splitlines(keepends=True)
    first = json.loads(lines[0])
    other = "unsolved" if first["outcome"] == "solved" else "solved"
    (recorded / "trials.jsonl").write_text("".join([json.dumps(first | {"outcome": other}) + "\n", *lines[1:]]))
    said = report([recorded], None).lines
    assert any(".json is missing, so α = 0" in line for line in said)
    assert json.loads((recorded / "summary.json").read_text())["gates"] == []
