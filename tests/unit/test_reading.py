"""Files of others: regular ones within bounds are read, and everything else is refused by name, at once."""

from __future__ import annotations

import json
import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.hostile import NO_FILES, put

from capvec import reading
from capvec.errors import UsageError

pytestmark = pytest.mark.unit

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**299), 10**299) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


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


# ------------------------------------------------------------------------------------------------ JSON


@given(JSON, st.sampled_from(["utf-8", "utf-16", "utf-32"]))
def test_json_is_read_as_it_was_written(value, encoding):
    assert reading.parse_json(json.dumps(value).encode(encoding)) == value


@given(st.binary(max_size=60) | st.text('[]{}",:\\0e.-\ud800', max_size=60))
def test_what_is_no_json_is_a_value_error(data):
    with suppress(ValueError):
        reading.parse_json(data)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a":' * 100_000,
        "[" * 129 + "]" * 129,
        "9" * 301,
        "-" + "9" * 5000,
        "[" + "[]," * 5_000_000 + "0]",
        '{"a":[' + '{"":0},' * 2_000_000 + "0]}",
    ],
    ids=["brackets", "objects", "deep", "long", "longer", "lists", "dicts"],
)
def test_json_that_is_too_deep_too_long_or_too_dense_is_refused_quickly(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    start = time.monotonic()
    with pytest.raises(UsageError, match=r"x\.json: not JSON \(.{5,150}\)$"):
        reading.read_json(tmp_path / "x.json")
    assert time.monotonic() - start < 10


def test_brackets_in_texts_weigh_nothing():
    code = json.dumps({"reply": "[{[{" * 1_000_000})
    assert reading.parse_json(code)["reply"].startswith("[{[{")
    assert len(reading.parse_json("[" * 128 + "]" * 128)) == 1


# ------------------------------------------------------------------------------------------------ TOML


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = " + "[" * 100_000, "nested more than 128 levels deep"),
        ("x = " + "{a=" * 100_000, "nested more than 128 levels deep"),
        ("x = " + "[" * 150 + "]" * 150, "nested more than 128 levels deep"),
        ("a" + ".a" * 500_000 + " = 1", "a key has more than 128 parts"),
        ("['a'" + ' . "a"' * 150_000 + "]", "a key has more than 128 parts"),
        ("x = " + "9" * 100_000, "out of range"),
        ("x = 0x" + "F" * 100_000, "beyond 64 bits"),
        ("x = [{y = 9223372036854775808}]", "beyond 64 bits"),
        ("x = 1979-13-01", "not valid TOML"),
        ("x = ", "f, end of document: not valid TOML: Invalid value"),
    ],
)
def test_toml_that_no_file_needs_is_refused_quickly(text, said):
    start = time.monotonic()
    with pytest.raises(UsageError, match=f"^f.*{said}|^{said}") as refusal:
        reading.parse_toml(text, "f")
    assert len(str(refusal.value)) < 200
    assert time.monotonic() - start < 5


def test_the_largest_toml_is_read_in_seconds():
    for text in ("a" * 1_000_000 + " = 1", "x = '" + "a." * 500_000 + "'", "x = [" + "1," * 500_000 + "]"):
        start = time.monotonic()
        try:
            reading.parse_toml(text, "f")
        except UsageError as error:
            assert "128 parts" in str(error)  # noqa: PT017
        assert time.monotonic() - start < 15


@given(st.text("[]{}=.\"'\n#x1-_:TZ\\u ", max_size=80))
def test_any_text_is_toml_or_a_usage_error(text):
    try:
        assert isinstance(reading.parse_toml(text, "f"), dict)
    except UsageError as error:
        assert str(error).startswith("f")  # noqa: PT017
