"""Programs of the package that run as processes of their own."""

from __future__ import annotations

import gc
import os
import subprocess
import sys

import pytest
from support import REPOSITORY

from capvec.programs import lasting_imports, no_search_for_garbage, python

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


@pytest.mark.parametrize("enabled", [True, False])
def test_what_was_imported_to_last_is_never_searched_for_garbage_and_what_comes_later_is(enabled):
    was = gc.isenabled()
    (gc.enable if enabled else gc.disable)()
    try:
        with lasting_imports():
            assert not gc.isenabled()
            kept = [object()]
        assert gc.isenabled() == enabled
        later = [object()]
        searched = {id(one) for one in gc.get_objects()}
        assert id(kept) not in searched
        assert id(later) in searched
    finally:
        gc.unfreeze()
        (gc.enable if was else gc.disable)()


def test_garbage_is_collected_again_after_an_import_that_fails():
    was = gc.isenabled()
    gc.enable()
    try:
        with pytest.raises(ImportError), lasting_imports():
            raise ImportError
        assert gc.isenabled()
    finally:
        gc.unfreeze()
        (gc.enable if was else gc.disable)()


def test_cycles_are_searched_for_again_after_a_report():
    with no_search_for_garbage():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_whoever_searches_for_no_cycles_does_not_afterwards():
    gc.disable()
    try:
        with no_search_for_garbage():
            assert not gc.isenabled()
        assert not gc.isenabled()
    finally:
        gc.enable()
