"""JSON and TOML of others: what no file needs is refused quickly, and all else is read as it was written."""

from __future__ import annotations

import json
import time
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capvec import parsing
from capvec.errors import UsageError

pytestmark = pytest.mark.unit

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**299), 10**299) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


# ------------------------------------------------------------------------------------------------ JSON


@given(JSON, st.sampled_from(["utf-8", "utf-16", "utf-32"]))
def test_json_is_read_as_it_was_written(value, encoding):
    assert parsing.parse_json(json.dumps(value).encode(encoding)) == value


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("NaN", "the value"),
        ('{"a": {"b": [0, Infinity]}}', "a.b[1]"),
        ('{"a": -1e999}', "a"),
        ('[{"\\n": NaN}]', "[0].\\n"),
    ],
)
def test_a_number_that_is_not_finite_is_named_by_its_field_where_all_must_be(tmp_path, text, field):
    (tmp_path / "file.json").write_text(text)
    assert parsing.read_json(tmp_path / "file.json") is not None
    with pytest.raises(UsageError) as refused:
        parsing.read_json(tmp_path / "file.json", finite=True)
    assert f"file.json: {field} is " in str(refused.value)
    assert str(refused.value).endswith("; expected a finite number")


LONG = "x" * (4 << 20)
"""A text of which a file is so long that its keys are counted, and not compared one by one."""
GAPS = st.sampled_from(["", " ", "\n"])
KEYS = st.dictionaries(st.text('ab":\\ é', max_size=3), st.integers() | st.text('",:{}\\'), min_size=1, max_size=4)


@pytest.mark.parametrize("filler", ["x", LONG], ids=["short", "long"])
@given(KEYS, GAPS, st.data())
@settings(max_examples=15)
def test_a_key_that_an_object_has_twice_is_found_where_the_value_must_be_whole(filler, value, gap, data):
    pairs = [f"{json.dumps(key)}{gap}:{json.dumps(one)}" for key, one in value.items()]
    text = json.dumps(filler)
    alone = f"[{text}, {{{','.join(pairs)}}}, {json.dumps(value)}]"
    assert parsing.parse_json(alone, whole=True) == [filler, value, value]
    twice = data.draw(st.sampled_from(pairs))
    repeated = f"[{text}, {{{','.join([*pairs, twice])}}}]"
    assert parsing.parse_json(repeated) == [filler, value]
    with pytest.raises(parsing.RepeatedKey, match="stands twice in one object"):
        parsing.parse_json(repeated, whole=True)


@given(st.binary(max_size=60) | st.text('[]{}",:\\0e.-\ud800', max_size=60))
def test_what_is_no_json_is_a_value_error(data):
    with suppress(ValueError):
        parsing.parse_json(data)


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
        parsing.read_json(tmp_path / "x.json")
    assert time.monotonic() - start < 10


def test_brackets_in_texts_weigh_nothing():
    code = json.dumps({"reply": "[{[{" * 1_000_000})
    assert parsing.parse_json(code)["reply"].startswith("[{[{")
    assert len(parsing.parse_json("[" * 128 + "]" * 128)) == 1


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
        parsing.parse_toml(text, "f")
    assert len(str(refusal.value)) < 200
    assert time.monotonic() - start < 5


def test_the_largest_toml_is_read_in_seconds():
    for text in ("a" * 1_000_000 + " = 1", "x = '" + "a." * 500_000 + "'", "x = [" + "1," * 500_000 + "]"):
        start = time.monotonic()
        try:
            parsing.parse_toml(text, "f")
        except UsageError as error:
            assert "128 parts" in str(error)  # noqa: PT017
        assert time.monotonic() - start < 15


@given(st.text("[]{}=.\"'\n#x1-_:TZ\\u ", max_size=80))
def test_any_text_is_toml_or_a_usage_error(text):
    try:
        assert isinstance(parsing.parse_toml(text, "f"), dict)
    except UsageError as error:
        assert str(error).startswith("f")  # noqa: PT017
