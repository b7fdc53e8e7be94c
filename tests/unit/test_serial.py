"""Which values a record takes, and what is said of one that it does not take."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capvec.errors import UsageError
from capvec.records import Outcome
from capvec.serial import check_fields

pytestmark = pytest.mark.unit

LEAST = {
    "run": "r",
    "task": "t",
    "config": "c",
    "layer": None,
    "alpha": None,
    "attempt": 1,
    "seed": 0,
    "outcome": "error",
}


class Form:
    count: int
    share: float | None
    names: tuple[str, ...]


@pytest.mark.parametrize("field", ["alpha", "reward", "model_s", "sandbox_s", "wall_s"])
@given(st.floats())
def test_a_number_of_a_record_is_finite(field, value):
    if math.isfinite(value):
        assert getattr(Outcome.from_json(LEAST | {field: value}), field) == value
    else:
        with pytest.raises(UsageError, match=rf"{value}: expected a finite number @ Outcome\.{field}$"):
            Outcome.from_json(LEAST | {field: value})


@given(st.integers())
def test_a_whole_number_of_a_record_has_64_bits_at_most(value):
    if abs(value) < 1 << 64:
        assert Outcome.from_json(LEAST | {"seed": value}).seed == value
    else:
        with pytest.raises(UsageError, match=r"expected a whole number within 64 bits @ Outcome\.seed$"):
            Outcome.from_json(LEAST | {"seed": value})


@pytest.mark.parametrize("value", ["abc", {"a": 1}, 7, None])
def test_only_a_list_is_read_as_one(value):
    with pytest.raises(UsageError, match=r"expected a list @ Outcome\.measured$"):
        Outcome.from_json(LEAST | {"measured": value})


def test_keys_that_a_form_does_not_know_or_that_are_missing_are_no_fault():
    check_fields(Form, {}, "it")
    check_fields(Form, {"count": 1, "share": None, "names": ["a"], "more": object()}, "it")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ([], "[]: expected an object @ it"),
        ({"count": "3"}, "'3': expected a whole number @ it.count"),
        ({"share": "\x1b"}, r"'\x1b': expected a finite number @ it.share"),
        ({"names": ["a", 1]}, "1: expected a text @ it.names[1]"),
    ],
)
def test_a_value_that_is_not_of_a_forms_type_is_named_with_its_field(data, said):
    with pytest.raises(UsageError) as refused:
        check_fields(Form, data, "it")
    assert str(refused.value) == said
