"""The checksum of a task folder: what changes it and what does not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tasks import make_task

from capvec.tasks.checksum import folder_checksum

pytestmark = pytest.mark.unit


def write_tree(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


trees = st.dictionaries(
    st.lists(st.sampled_from(["a", "b", "ab"]), min_size=1, max_size=2).map("/".join).map(lambda name: name + ".f"),
    st.binary(max_size=6),
    max_size=4,
)


@given(one=trees, two=trees)
def test_two_folders_have_one_checksum_exactly_when_their_files_are_the_same(
    tmp_path_factory: pytest.TempPathFactory, one: dict[str, bytes], two: dict[str, bytes]
) -> None:
    first = write_tree(tmp_path_factory.mktemp("one"), one)
    second = write_tree(tmp_path_factory.mktemp("two"), dict(reversed(two.items())))
    assert (folder_checksum(first) == folder_checksum(second)) == (one == two)


def test_the_checksum_keeps_names_and_contents_apart(tmp_path: Path) -> None:
    # Joined without lengths, both would read "abc".
    assert folder_checksum(write_tree(tmp_path / "x", {"a": b"bc"})) != folder_checksum(
        write_tree(tmp_path / "y", {"ab": b"c"})
    )


def test_the_checksum_sees_the_executable_bit_and_where_a_link_points(tmp_path: Path) -> None:
    folder = make_task(tmp_path)
    seen = {folder_checksum(folder)}
    (folder / "solution" / "solve.sh").chmod(0o755)
    seen.add(folder_checksum(folder))
    link = folder / "environment" / "data"
    for target in ("missing", ".", ".."):
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        seen.add(folder_checksum(folder))
    assert len(seen) == 5


def test_the_checksum_does_not_see_what_tools_leave_behind(tmp_path: Path) -> None:
    folder = make_task(tmp_path)
    before = folder_checksum(folder)
    write_tree(folder / "tests", {"__pycache__/test_state.cpython-311.pyc": b"x", ".DS_Store": b"y"})
    assert folder_checksum(folder) == before


def test_the_checksum_does_not_depend_on_where_the_folder_is(tmp_path: Path) -> None:
    folder = make_task(tmp_path)
    copy = shutil.copytree(folder, tmp_path / "elsewhere" / "renamed")
    assert folder_checksum(copy) == folder_checksum(folder)
