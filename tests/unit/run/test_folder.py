"""The folder of a run: which one a name stands for."""

from __future__ import annotations

from pathlib import Path

import pytest

from capvec.errors import UsageError
from capvec.plan.options import parse_options
from capvec.run.folder import run_folder

pytestmark = pytest.mark.unit


def test_the_name_of_the_link_to_the_last_run_stands_for_that_run_and_names_no_other(tmp_path: Path) -> None:
    last = parse_options({"run": "latest", "resume": True})
    with pytest.raises(UsageError, match=r"--run latest: .*/latest is the link to the run that began last"):
        run_folder(last, tmp_path)
    folder = tmp_path / "reports" / "mine"
    folder.mkdir(parents=True)
    (folder / "trials.jsonl").write_text("{}\n")
    (folder.parent / "latest").symlink_to("mine")
    assert run_folder(last, tmp_path) == folder
    with pytest.raises(UsageError, match="mine holds a run already: add --resume"):
        run_folder(parse_options({"run": "latest"}), tmp_path)
