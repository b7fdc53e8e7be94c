"""Programs of the package that run as processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from support import REPOSITORY

from capvec.programs import python

pytestmark = pytest.mark.unit

STARTED = ("capvec.engines.transformers", "capvec.sandbox.classic_builder", "capvec.models.convert")
NAMES = ("json", "random", "queue", "uvicorn", "docker", "torch", "capvec")


@pytest.mark.parametrize("module", STARTED)
def test_no_file_of_the_working_directory_runs_in_the_place_of_a_library(tmp_path, module):
    for name in NAMES:
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('the {name}.py of the working directory ran')\n")

    def said(*command: str) -> str:
        done = subprocess.run(
            command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, check=False,
        )  # fmt: skip
        return done.stdout

    assert "of the working directory ran" not in said(*python(module, "--help"))
    assert "of the working directory ran" in said(sys.executable, "-m", module, "--help")
