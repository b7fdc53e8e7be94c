"""Files of others: regular ones within bounds are read, and everything else is refused by name, at once."""

from __future__ import annotations

import io
import os
import struct
import tempfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.hostile import NO_FILES, put

from capvec import reading
from capvec.errors import UsageError

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("kind", NO_FILES)
def test_what_is_no_regular_file_is_refused_at_once(tmp_path, kind):
    path = tmp_path / "it"
    put(path, kind)
    with pytest.raises(UsageError, match=r"/it: (is a (fifo|socket|device|folder); expected a regular file|cannot be)"):
        reading.read_bytes(path, 100)


def test_devices_are_not_opened():
    for device in ("/dev/zero", "/dev/tty", "/dev/full"):
        with pytest.raises(UsageError, match=f"{device}: is a device"):
            reading.read_bytes(Path(device), 1 << 40)


def test_a_link_to_a_file_is_read_as_the_file(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to("file")
    assert reading.read_bytes(tmp_path / "link", 1) == b"x"


def test_a_file_is_read_up_to_its_bound_and_refused_beyond_it_before_it_is_read(tmp_path):
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(UsageError, match=r"sparse: has 1024 GiB; expected at most 1 MiB"):
        reading.read_bytes(path, reading.MIB)
    path.write_bytes(b"abc")
    assert reading.read_bytes(path, 3) == b"abc"
    with pytest.raises(UsageError, match="has 3 bytes; expected at most 2 bytes"):
        reading.read_bytes(path, 2)


@pytest.mark.parametrize("more", [-1, 0, 1, 3 * reading.MIB])
def test_a_long_file_is_read_whole_and_no_further_than_its_bound(tmp_path, more):
    data = os.urandom(reading.MIB + more)
    (tmp_path / "long").write_bytes(data)
    assert reading.read_bytes(tmp_path / "long", len(data)) == data
    with pytest.raises(UsageError, match="expected at most"):
        reading.read_bytes(tmp_path / "long", len(data) - 1)


@given(st.binary(max_size=6), st.integers(1, 4))
def test_the_ends_of_a_file_are_those_of_its_content(data, count):
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "file"
        file.write_bytes(data)
        assert reading.ends_of(file, 6, count) == (data[:1], data[-count:])


def test_a_file_without_a_size_is_read_no_further_than_its_bound():
    """Those of /proc have none, as one that grows has an old one."""
    with pytest.raises(UsageError, match="grew beyond 10 bytes while it was read"):
        reading.read_bytes(Path("/proc/self/status"), 10)


@pytest.mark.parametrize("name", ["no", "x" * 5000, "nul\0", "dir/file"])
def test_what_cannot_be_opened_is_refused_with_its_reason(tmp_path, name):
    (tmp_path / "dir").write_text("")
    with pytest.raises(UsageError, match=r"no such file|cannot be read \(.+\)"):
        reading.read_bytes(tmp_path / name, 1)


@given(st.text(st.characters(codec=None), max_size=30))
@example("a\nb\x1b[31m\udcff")
def test_a_path_is_shown_on_one_line_of_what_can_be_printed(name):
    shown = reading.shown(name)
    assert shown.isprintable()
    shown.encode()


@given(st.binary(max_size=40))
def test_text_is_read_or_refused_by_the_byte(data):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t"
        path.write_bytes(data)
        try:
            assert reading.read_text(path, 40) == data.decode()
        except UsageError as error:
            assert "is not UTF-8" in str(error)  # noqa: PT017


# ------------------------------------------------------------------------------------------------ zip files


def zipped(names=("a", "b"), comment=b""):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.comment = comment
        for name in names:
            archive.writestr(name, name)
    return out.getvalue()


def of_64_bits(data):
    """The same archive with its end in 64 bits as well, as torch writes it."""
    *_, count, extent, start, _ = struct.unpack("<4s4H2LH", data[-22:])
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, extent, start)
    return data[:-22] + record + struct.pack("<4sLQL", b"PK\6\7", 0, len(data) - 22, 1) + data[-22:]


def changed(data, place, form, value):
    data = bytearray(data)
    struct.pack_into(form, data, len(data) - place if place > 0 else -place, value)
    return bytes(data)


@pytest.mark.parametrize("names", [(), ("a",), ("a", "b"), tuple(map(str, range(1000)))])
@pytest.mark.parametrize("form", [lambda data: data, of_64_bits])
def test_an_archive_that_all_readers_see_alike_is_opened(names, form):
    archive = reading.open_zip(io.BytesIO(form(zipped(names))), 1 << 20)
    assert tuple(archive.namelist()) == names


DOUBTFUL = {
    "something before it": lambda: b"#!/bin/sh\n" + zipped(),
    "something behind it": lambda: zipped() + b"x",
    "a comment": lambda: zipped(comment=b"hello"),
    "another archive behind it": lambda: zipped() + zipped(("c",)),
    "another directory before its end": lambda: zipped()[:-22] + zipped(("c", "d"))[-22 - 94 : -22] + zipped()[-22:],
    "fewer members by its end": lambda: changed(changed(zipped(), 14, "<H", 1), 12, "<H", 1),
    "another start in 64 bits": lambda: changed(of_64_bits(zipped()), 22 + 20 + 8, "<Q", 0),
    "another size in 64 bits": lambda: changed(of_64_bits(zipped()), 22 + 20 + 16, "<Q", 47),
    "another number in 64 bits": lambda: changed(of_64_bits(zipped()), 22 + 20 + 24, "<Q", 1),
    "a locator that leads elsewhere": lambda: changed(of_64_bits(zipped()), 22 + 12, "<Q", 0),
    "a locator alone": lambda: struct.pack("<4sLQL", b"PK\6\7", 0, 0, 1) + zipped(())[-22:],
    "cut off": lambda: zipped()[:-1],
    "nothing": lambda: b"",
}
"""Name → makes an archive whose members two readers may not see alike."""


@pytest.mark.parametrize("name", DOUBTFUL)
def test_an_archive_on_whose_members_readers_may_differ_is_refused(name):
    with pytest.raises(ValueError, match=r"a (broken )?zip file"):
        reading.open_zip(io.BytesIO(DOUBTFUL[name]()), 1 << 20)


# ------------------------------------------------------------------------------------------------ folders


def test_a_folder_is_walked_without_following_links_and_no_further_than_its_bound(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_text("")
    (tmp_path / "a" / "up").symlink_to("..")
    found = {os.path.relpath(entry.path, tmp_path) for entry in reading.walk(tmp_path)}
    assert found == {"a", "a/b", "a/b/file", "a/up"}
    assert len(list(reading.walk(tmp_path, most=4))) == 4
    with pytest.raises(UsageError, match="holds more than 3 files"):
        list(reading.walk(tmp_path, most=3))


def test_a_folder_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(UsageError, match="gone: cannot be read"):
        list(reading.walk(tmp_path / "gone"))


@pytest.mark.parametrize(
    ("target", "out"),
    [("file", None), ("../in/file", None), ("gone", None), ("../out", "out"), ("/etc", "etc"), ("chain", "out")],
)
def test_a_link_leads_out_where_it_ends_outside(tmp_path, target, out):
    inside = tmp_path / "in"
    inside.mkdir()
    (tmp_path / "out").mkdir()
    (inside / "chain").symlink_to("../out")
    (inside / "link").symlink_to(target)
    led = reading.leads_out(inside / "link", inside)
    assert (led and Path(led).name) == out
