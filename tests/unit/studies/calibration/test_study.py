"""The options of a calibration, and the tasks that it needs."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.recorded_calibration import a_selection

from capvec.errors import UsageError
from capvec.studies.calibration.study import CalibrationStudy, parse_calibration_options

pytestmark = pytest.mark.unit


def test_a_calibration_has_its_own_defaults(tmp_path):
    a_selection(tasks="sprint").save(tmp_path / "selection.json")
    raw = {"model": "pocket", "seed": "0", "temperature": "0.7", "protocol": "bash-block", "alpha": None}
    options = parse_calibration_options(raw | {"selection": str(tmp_path / "selection.json")})
    assert (options.attempts, options.tasks) == (2, "sprint")
    assert [(control.kind, control.count) for control in options.controls] == [("random", 3)]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"alpha": "4"}, "--alpha is for -m sweep"),
        ({"alpha_unit": "norm"}, "--alpha-unit is for -m sweep"),
        ({"direction": "d.pt"}, "--direction is for -m sweep"),
        ({"controls": "zero"}, "--controls 'zero'"),
        ({"controls": ""}, "--controls ''"),
    ],
)
def test_what_is_a_sweeps_alone_is_refused(given, said):
    raw = {"model": "pocket", "seed": "0", "temperature": "0.7", "protocol": "bash-block", "tasks": "full"}
    with pytest.raises(UsageError, match=said):
        parse_calibration_options(raw | given)


def test_tasks_of_dev_families_or_of_no_split_leave_nothing_to_test_on(tmp_path):
    write = Path(tmp_path / "selection.json")
    a_selection(tasks="multi", contrast_tasks=()).save(write)
    raw = {"model": "pocket", "seed": "0", "temperature": "0.7", "protocol": "bash-block", "selection": str(write)}
    folder = tmp_path / "tasks" / "t"
    (folder / "environment").mkdir(parents=True)
    (folder / "tests").mkdir()
    (folder / "instruction.md").write_text("Do.\n")
    (folder / "environment" / "Dockerfile").write_text("FROM debian:bookworm-slim\n")
    (folder / "tests" / "test.sh").write_text("true\n")
    (folder / "task.toml").write_text(
        '[metadata]\nfamily = "a"\nsplit = "trained"\n[environment]\nnetwork_mode = "no-network"\n'
    )
    with pytest.raises(UsageError, match="layer and strength were not selected on"):
        CalibrationStudy(parse_calibration_options(raw | {"tasks": str(tmp_path / "tasks")}))
