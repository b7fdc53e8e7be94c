"""The file of a preregistration: written once, read back, and refused where it was changed."""

from __future__ import annotations

import json
import os
import re
from datetime import UTC, datetime, timedelta

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
    with pytest.raises(UsageError, match=r"was changed after it was written|no preregistration"):
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
