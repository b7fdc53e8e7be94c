"""`capvec judge` and `capvec report` as commands, on the committed run, and what a sweep does with their folder."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys

import pytest
from support import REPOSITORY

pytestmark = pytest.mark.integration
pytest_plugins = ("pytester",)

TABLE = REPOSITORY / "reports" / "example" / "master_summary.csv"


def capvec(*given, cwd):
    command = [sys.executable, "-m", "capvec.commands.main", *map(str, given)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)


def written(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_judged_folder_says_what_it_read_and_its_report_is_made_again_by_another_process(tmp_path):
    table = tmp_path / "trials.csv"
    table.write_bytes(TABLE.read_bytes())
    done = capvec("judge", "trials.csv", "--gate", "no_harm(0.05)", "--out", "reports/ours", cwd=tmp_path)
    assert done.returncode == 1, done.stderr  # the example harms
    folder = tmp_path / "reports" / "ours"
    (source,) = json.loads((folder / "provenance.json").read_text())["sources"]
    digest = hashlib.sha256(TABLE.read_bytes()).hexdigest()
    assert source["files"] == [{"path": "trials.csv", "size": TABLE.stat().st_size, "sha256": digest}]

    before = written(folder)
    table.unlink()
    for name in ("RESULTS.md", "report.html", "summary.json", "master_summary.csv"):
        (folder / name).unlink()
    again = capvec("report", "reports/ours", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert again.stdout == done.stdout
    assert written(folder) == before


@pytest.mark.parametrize("more", [("--resume",), ()])
def test_a_sweep_neither_resumes_such_a_folder_nor_writes_over_it(pytester, more):
    done = capvec("judge", "baseline=2/6", "steered=1/6", "--out", "reports/ours", cwd=pytester.path)
    assert done.returncode == 0, done.stderr
    before = written(pytester.path / "reports" / "ours")
    result = pytester.runpytest_subprocess(
        *("--pyargs", "capvec", "-p", "no:cacheprovider", "-m", "sweep", "--run", "ours", "--no-check", *more)
    )
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (line,) = filter(None, result.stderr.lines)
    assert "ours" in line
    assert written(pytester.path / "reports" / "ours") == before
