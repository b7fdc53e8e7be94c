"""The reports that came with capvec are those that it makes of their records today, byte for byte."""

from __future__ import annotations

import shutil

import pytest
from support import REPOSITORY

from capvec.commands.main import main

pytestmark = pytest.mark.integration
MADE = ("RESULTS.md", "summary.json", "master_summary.csv", "CALIBRATION.md", "calibration.json")
"""Of a run; the page of `example` holds trajectories, whose files were not kept."""


@pytest.mark.parametrize("run", ["seed", "choice", "calibration", "example"])
def test_a_committed_run_is_reported_again_byte_for_byte(run, tmp_path):
    kept, again = REPOSITORY / "reports" / run, tmp_path / run
    shutil.copytree(kept, again)
    made = [name for name in MADE if (kept / name).exists()]
    assert len(made) >= 3
    for name in ("RESULTS.md", "master_summary.csv"):  # the others are read too: they have gates that only studies know
        (again / name).unlink()
    assert main(["report", str(again)]) == 0
    different = [name for name in made if (again / name).read_bytes() != (kept / name).read_bytes()]
    assert not different, f"make them again with `capvec report {kept}`, and read what changed"
