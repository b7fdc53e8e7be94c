"""Runs in a locale that cannot say the names of their folders."""

from __future__ import annotations

import pytest
from support.real_sweeps import REWARD, ledger, no_container_is_left, write_task
from support.started_runs import RUN, capvec_command, sweep_command

pytestmark = [pytest.mark.siege, pytest.mark.slow]

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii", "PYTHONCOERCECLOCALE": "0"}


@pytest.fixture
def there(tmp_path):
    """A folder that no ASCII locale can say, with tasks in such another."""
    folder = tmp_path / "größe-日本"
    folder.mkdir()
    write_task(folder / "täsks" / "leicht", REWARD.format(1))
    return folder


def test_a_sweep_in_a_folder_that_an_ascii_locale_cannot_say(start, model, there):
    arguments = ("--tasks", str(there / "täsks"), "-n", "0")
    for more in ((), ("--resume",), ("--run", "planned", "--plan")):
        swept = start(sweep_command(model, *arguments, *more), there, **ASCII)
        assert swept.end() == pytest.ExitCode.OK, swept.said
        assert swept.said.isascii()
    assert {one["outcome"] for one in ledger(there / "reports" / RUN).values()} == {"solved"}
    made = start(capvec_command("report", str(there / "reports" / RUN)), there, **ASCII)
    assert made.end() == 0, made.said
    assert made.said.isascii()
    assert no_container_is_left(RUN)


def test_workers_that_cannot_be_told_the_folder_are_refused_in_one_sentence(start, model, there):
    swept = start(sweep_command(model, "--tasks", str(there / "täsks"), "-n", "2"), there, **ASCII)
    assert swept.end(60) == pytest.ExitCode.USAGE_ERROR, swept.said
    assert swept.said.count("pytest-xdist cannot hand it to its processes, since it has characters that ascii, ") == 1
    assert "set PYTHONUTF8=1, or leave -n out" in swept.said
    assert not (there / "reports" / RUN / "provenance.json").exists()
    told = start(sweep_command(model, "--tasks", str(there / "täsks"), "-n", "2"), there, **ASCII | {"PYTHONUTF8": "1"})
    assert told.end() == pytest.ExitCode.OK, told.said
    assert no_container_is_left(RUN)
