"""Files that are written whole or not at all, on disks that are full and disks that cannot be written."""

import errno
import os
import shutil

import pytest
from support.disks import fill, make_read_only, small_disk
from support.recorded_run import report_texts, write_recorded, write_trial

from capvec.commands.main import main
from capvec.errors import StorageFault, UsageError
from capvec.results.ledger import Ledger
from capvec.storage import copy_file, make_folder, refusal, write_text

pytestmark = pytest.mark.unit


@pytest.fixture
def disk(tmp_path):
    with small_disk(tmp_path / "disk", "3m") as disk:
        yield disk


def test_a_file_that_does_not_fit_leaves_the_old_one_and_nothing_else(disk):
    path = disk / "file"
    write_text(path, "old")
    fill(disk, leave=8192)
    with pytest.raises(StorageFault) as refused:
        write_text(path, "new" * 10_000)
    assert str(refused.value) == (
        f"{path} cannot be written (No space left on device): make room on that disk and try again"
    )
    assert path.read_text() == "old"
    assert sorted(one.name for one in disk.iterdir()) == ["ballast", "file"]


def test_a_line_of_the_ledger_that_does_not_fit_leaves_those_before_it(disk):
    plan = write_recorded(disk / "r", finished=False)
    ledger = Ledger(disk / "r" / "trials.jsonl")
    before, outcomes = ledger.path.read_bytes(), ledger.read()
    ballast = fill(disk)

    def use_up():
        for _ in range(20):  # what is left of the last page of the file
            ledger.append(outcomes[0])

    with pytest.raises(StorageFault, match=r"trials\.jsonl cannot be written \(No space left on device\)"):
        use_up()
    written = ledger.path.read_bytes()
    assert written.startswith(before)
    assert written.endswith(b"\n")
    assert ledger.read() == outcomes
    ballast.unlink()
    ledger.append(write_trial(plan, plan.trials[0], 1))
    assert len(ledger.read()) == len(outcomes)


@pytest.mark.parametrize("how", ["full", "read-only"])
def test_a_report_that_cannot_be_written_is_one_line_and_the_old_one_stays(disk, capsys, how):
    folder = write_recorded(disk / "r").folder
    assert main(["report", str(folder)]) == 0
    before = report_texts(folder)
    fill(disk) if how == "full" else make_read_only(disk)
    capsys.readouterr()
    assert main(["report", str(folder)]) == 2
    said = capsys.readouterr().err
    reason = "No space left on device" if how == "full" else "Read-only file system"
    assert f"cannot be written ({reason}): " in said
    assert said.count("\n") == 1
    assert report_texts(folder) == before


@pytest.mark.parametrize("how", ["full", "read-only"])
def test_commands_that_fill_a_folder_say_in_one_line_that_they_cannot(disk, tmp_path, capsys, how):
    folder = write_recorded(tmp_path / "r").folder
    fill(disk) if how == "full" else make_read_only(disk)
    for given in (["report", str(folder), "--out", str(disk / "out")], ["compute", "--out", str(disk / "out")]):
        assert main(given) == 2
        said = capsys.readouterr().err
        assert "cannot be written" in said
        assert said.count("\n") == 1
    shutil.rmtree(disk / "out", ignore_errors=True)


def test_half_of_a_surrogate_pair_is_written_as_an_escape(tmp_path):
    write_text(tmp_path / "file", "a\ud800b")
    assert (tmp_path / "file").read_text() == "a\\ud800b"


def test_a_folder_below_a_file_is_refused_in_a_sentence(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageFault, match="a part of that path is a file; choose another place"):
        make_folder(tmp_path / "file" / "folder")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO, 200])
def test_every_refusal_says_what_to_do(number):
    assert refusal("f", OSError(number, "reason")).startswith("f cannot be written (reason): ")


def test_a_copy_tells_which_of_the_two_files_is_at_fault(tmp_path):
    source, pipe = tmp_path / "source", tmp_path / "pipe"
    source.write_bytes(b"x" * 100)
    os.mkfifo(pipe)
    copy_file(source, tmp_path / "target", 100)
    assert (tmp_path / "target").read_bytes() == source.read_bytes()
    for unreadable in (pipe, tmp_path, tmp_path / "none"):
        with pytest.raises(UsageError, match=f"^{unreadable}: "):
            copy_file(unreadable, tmp_path / "other", 100)
    with pytest.raises(UsageError, match=f"^{source}: has 100 bytes; expected at most 99 bytes"):
        copy_file(source, tmp_path / "other", 99)
    with pytest.raises(StorageFault, match="none/target cannot be written"):
        copy_file(source, tmp_path / "none" / "target", 100)
    assert not (tmp_path / "other").exists()
