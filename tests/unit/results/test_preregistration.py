"""The file of a preregistration: written once, read back, and refused where it was changed."""

from __future__ import annotations

import json
import os
import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.plans import plan_of
from support.registered import registered_for, signed, write_signed

from capvec.errors import UsageError
from capvec.plan.options import SweepOptions
from capvec.results.preregistration import Preregistration

pytestmark = pytest.mark.unit


@pytest.fixture
def registered():
    return registered_for(plan_of(3, 2, 2), SweepOptions(gate="no_harm(0.1),steps<=baseline"))


def test_what_is_read_is_what_was_written_and_the_file_can_be_read_by_a_person(registered, tmp_path):
    registered.write(tmp_path / "claim.json")
    assert Preregistration.read(tmp_path / "claim.json") == registered
    lines = (tmp_path / "claim.json").read_text().splitlines()
    assert '  "hypothesis": "It helps.",' in lines
    assert '  "attempts": 2,' in lines
    assert json.loads("\n".join(lines)) == signed(json.loads("\n".join(lines)))
    assert registered.gates == ("no_harm(0.1)", "steps<=baseline")


def test_its_time_is_utc_and_now(tmp_path):
    from capvec.results.preregistration import RegisteredDirection, RegisteredModel, preregister

    plan, options = plan_of(1, 2, 1), SweepOptions(hypothesis=" Mehr gelöst. ")
    made = preregister(
        options, plan.configs, plan.tasks, model=RegisteredModel("m"), direction=RegisteredDirection("0" * 16)
    )
    assert made.written.endswith("+00:00")
    assert timedelta() <= datetime.now(UTC) - made.time < timedelta(minutes=5)
    assert made.hypothesis == "Mehr gelöst."
    made.write(tmp_path / "claim.json")
    assert "Mehr gelöst." in (tmp_path / "claim.json").read_text(encoding="utf-8")
    assert Preregistration.read(tmp_path / "claim.json") == made


def test_nothing_is_written_over(registered, tmp_path):
    (tmp_path / "claim.json").write_text("mine")
    os.symlink(tmp_path / "nowhere", tmp_path / "link.json")
    for name in ("claim.json", "link.json"):
        with pytest.raises(UsageError, match=f"{name}: is there already, and a preregistration is never overwritten"):
            registered.write(tmp_path / name)
    assert (tmp_path / "claim.json").read_text() == "mine"


def leaves(value, place=()):
    """The place of everything in a JSON value that can be changed by itself."""
    if isinstance(value, dict):
        for key, one in value.items():
            yield from leaves(one, (*place, key))
    elif isinstance(value, list) and value:
        for key, one in enumerate(value):
            yield from leaves(one, (*place, key))
    else:
        yield place


@given(data=st.data(), new=st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text())
def test_a_change_anywhere_is_refused(tmp_path_factory, data, new):
    made = registered_for(plan_of(2, 3, 2, "random:2"), SweepOptions(gate="no_harm(0.1)"))
    content = json.loads(made.text)
    *parents, last = data.draw(st.sampled_from(list(leaves(content))))
    inner = content
    for key in parents:
        inner = inner[key]
    if json.dumps(inner[last]) == json.dumps(new):
        return
    inner[last] = new
    path = tmp_path_factory.mktemp("changed") / "claim.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UsageError, match=r"was changed after it was written|no preregistration|a finite number"):
        Preregistration.read(path)


def test_spaces_and_order_are_no_content(registered, tmp_path):
    content = dict(reversed(json.loads(registered.text).items()))
    (tmp_path / "claim.json").write_text(json.dumps(content, separators=(",", ":")))
    assert Preregistration.read(tmp_path / "claim.json") == registered


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not JSON"),
        ("[]", "no preregistration; expected a file that `capvec preregister` wrote"),
        ('{"attempts": 1}', "no preregistration"),
        ('{"hash": 7}', "no preregistration"),
        ('{"hash": "0", "hash": "1"}', "the key 'hash' stands twice"),
    ],
)
def test_what_is_no_preregistration_is_refused_in_one_sentence(tmp_path, text, why):
    (tmp_path / "claim.json").write_text(text)
    with pytest.raises(UsageError, match=re.escape(why)) as refused:
        Preregistration.read(tmp_path / "claim.json")
    assert "claim.json" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "change",
    [{"attempts": "two"}, {"written": "yesterday"}, {"written": "2026-11-24T10:00:00"}, {"more": 1}, {"tasks": None}],
)
def test_a_right_hash_over_what_capvec_does_not_write_is_refused(registered, tmp_path, change):
    path = write_signed(tmp_path / "claim.json", json.loads(registered.text) | change)
    with pytest.raises(UsageError, match="not what `capvec preregister` writes"):
        Preregistration.read(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"written": "0001-01-01T00:00:00+14:00"}, "date value out of range"),
        ({"written": "9999-12-31T23:59:59-14:00"}, "date value out of range"),
        ({"margin": float("nan")}, "margin is nan; expected a finite number"),
        ({"margin": 0}, "margin is 0; expected a difference in pass rate between 0 and 1"),
        ({"margin": 1}, "margin is 1; expected a difference in pass rate between 0 and 1"),
        ({"attempts": 10**200}, "expected a whole number within 64 bits @ Preregistration.attempts"),
        ({"attempts": 0}, "attempts is 0; expected at least 1"),
        ({"hypothesis": "\x1b[31mIt helps."}, r"is no line of text"),
        ({"hypothesis": " "}, "' ' is no line of text"),
        ({"gates": ["always()"]}, "'always()' is not a condition; expected improves(CONFIG)"),
        ({"gates": ["no_harm(0.1)", "\x1b]0;x\x07"]}, "is no line of text"),
        ({"tasks": {"a\nb": "0"}}, r"'a\nb' is no line of text"),
        ({"stopping": {"rule": "fixed", "analyses": []}}, "analyses is []; expected counts of pairs"),
        ({"stopping": {"rule": "fixed", "analyses": [-1]}}, "analyses is [-1]; expected counts of pairs"),
    ],
)
def test_a_right_hash_over_a_value_that_is_never_written_is_refused_in_one_sentence(registered, tmp_path, change, said):
    path = write_signed(tmp_path / "claim.json", json.loads(registered.text) | change)
    with pytest.raises(UsageError, match=re.escape(said)) as refused:
        Preregistration.read(path)
    assert str(refused.value).isprintable()


@given(st.datetimes(), st.timedeltas(timedelta(hours=-23), timedelta(hours=23)))
def test_any_time_is_read_and_can_be_said_or_is_refused(tmp_path_factory, time, offset):
    made = registered_for(plan_of(1, 2, 1), SweepOptions())
    written = time.replace(tzinfo=timezone(offset)).isoformat()
    path = write_signed(tmp_path_factory.mktemp("timed") / "claim.json", json.loads(made.text) | {"written": written})
    try:
        assert " UTC" in Preregistration.read(path).in_words
    except UsageError:
        with pytest.raises(OverflowError):
            datetime.fromisoformat(written).astimezone(UTC)


@pytest.mark.parametrize("hypothesis", [None, "", "  ", "two\nlines", "half \udc80"])
def test_a_claim_needs_a_hypothesis_of_one_line(hypothesis):
    from capvec.results.preregistration import RegisteredDirection, RegisteredModel, preregister

    plan = plan_of(1, 2, 1)
    with pytest.raises(UsageError, match=r"--hypothesis .*: expected what the sweep is to show, in one line"):
        preregister(
            SweepOptions(hypothesis=hypothesis),
            plan.configs,
            plan.tasks,
            model=RegisteredModel("m"),
            direction=RegisteredDirection(),
        )
