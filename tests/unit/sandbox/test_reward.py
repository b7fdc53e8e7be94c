"""What of a verifier's files is a reward, which of several counts, and what is a fault and never a 0."""

from __future__ import annotations

import json
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capvec.errors import VerifierFault
from capvec.sandbox.reward import LARGEST, LONGEST_NAME, counted, of_steps, read_rewards

pytestmark = pytest.mark.unit

names = st.text(min_size=1, max_size=LONGEST_NAME).filter(str.isprintable)
numbers = st.integers(-(10**6), 10**6) | st.floats(-LARGEST, LARGEST) | st.booleans()


@pytest.mark.parametrize(
    ("in_json", "in_text", "rewards"),
    [
        (None, b"1\n", {"reward": 1.0}),
        (None, b" 0.5 ", {"reward": 0.5}),
        (None, b"-2e3", {"reward": -2000.0}),
        (b'{"reward": 0}', None, {"reward": 0.0}),
        (b'{"accuracy": 0.25}', None, {"accuracy": 0.25}),
        (b'{"speed": 3, "reward": true, "ok": false}', None, {"speed": 3.0, "reward": 1.0, "ok": 0.0}),
        # Where there are both, reward.json alone counts, as in Harbor.
        (b'{"reward": 0}', b"1", {"reward": 0.0}),
        (b'{"accuracy": 0.25}', b"1", {"accuracy": 0.25}),
    ],
)
def test_both_files_are_read_as_harbor_reads_them(in_json, in_text, rewards):
    found = read_rewards(in_json, in_text)
    assert found == rewards
    assert list(found) == list(rewards)
    assert all(type(value) is float for value in found.values())


@given(st.dictionaries(names, numbers, min_size=1))
def test_every_object_of_names_and_numbers_is_read_whole(rewards):
    assert read_rewards(json.dumps(rewards).encode(), None) == {name: float(value) for name, value in rewards.items()}


@pytest.mark.parametrize(
    ("in_json", "in_text", "said"),
    [
        (None, None, r"neither reward\.json nor reward\.txt"),
        (None, b"", r"reward\.txt holds nothing; expected one finite number"),
        (None, b"nan", "expected one finite number"),
        (None, b"inf", "expected one finite number"),
        (None, b"1e101", "expected one finite number"),
        (None, b"yes", "holds 'yes'"),
        (None, b"1 2", "expected one finite number"),
        (None, b"\xff", "expected one finite number"),
        (b"", b"1", r"reward\.json holds nothing"),
        (b"{", None, r"reward\.json holds '{'"),
        (b"1", None, "expected an object of names and finite numbers"),
        (b"[1]", None, "expected an object of names and finite numbers"),
        (b"{}", None, "expected an object of names and finite numbers"),
        (b"[" * 100_000, None, r"reward\.json holds"),
        (b'{"reward": NaN}', None, "'reward' has another value"),
        (b'{"reward": 1e999}', None, "'reward' has another value"),
        (b'{"reward": Infinity}', None, "'reward' has another value"),
        (b'{"reward": -Infinity}', None, "'reward' has another value"),
        (b'{"reward": NaN}', b"1", "'reward' has another value"),
        (b'{"reward": 1' + b"0" * 400 + b"}", None, "'reward' has another value"),
        (b'{"reward": 1' + b"0" * 5000 + b"}", None, r"reward\.json holds"),
        (None, b"1" + b"0" * 5000, "expected one finite number"),
        (b'{"reward": "1", "accuracy": 1}', None, "'reward' has another value"),
        (b'{"reward": 1, "note": "x"}', None, "'note' has another value"),
        (b'{"reward": 1, "parts": {"a": 1}}', None, "'parts' has another value"),
        (b'{"reward": null}', None, "'reward' has another value"),
        (b'{"": 1}', None, "printable"),
        (b'{"\\ud800": 1}', None, "printable"),
        (b'{"a\\u001b[2J": 1}', None, "printable"),
        (b'{"%s": 1}' % (b"x" * 101), None, "names of 1 to 100"),
        (json.dumps(dict.fromkeys(map(str, range(1001)), 0)).encode(), None, "at most 1000 rewards, and it has 1001"),
    ],
)
def test_anything_else_is_no_reward(in_json, in_text, said):
    with pytest.raises(ValueError, match=said):
        read_rewards(in_json, in_text)


@given(
    st.binary(max_size=40)
    | st.recursive(st.none() | numbers | st.text(), st.lists).map(lambda v: json.dumps(v).encode())
)
def test_any_other_file_is_refused_and_never_a_crash(data):
    for files in ((data, None), (None, data)):
        try:
            found = read_rewards(*files)
        except ValueError:
            continue
        assert found
        assert all(abs(value) <= LARGEST for value in found.values())


@pytest.mark.parametrize(
    ("rewards", "name", "reward"),
    [
        ({"reward": 0.5}, None, 0.5),
        ({"accuracy": 0.25}, None, 0.25),
        ({"accuracy": 1.0, "reward": 0.0}, None, 0.0),
        ({"accuracy": 1.0, "reward": 0.0}, "accuracy", 1.0),
        ({"accuracy": 1.0, "speed": 0.5}, "speed", 0.5),
    ],
)
def test_the_one_asked_for_counts_or_reward_or_the_only_one(rewards, name, reward):
    assert counted(rewards, name) == reward


@pytest.mark.parametrize(
    ("rewards", "name", "said"),
    [
        ({"accuracy": 1.0, "speed": 1.0}, None, r"several rewards.*'accuracy', 'speed'.*as in --reward accuracy"),
        ({"reward": 1.0}, "accuracy", r"no reward 'accuracy', which --reward asks for; it wrote 'reward'"),
        ({f"test{n}": 1.0 for n in range(30)}, None, r"'test9', …"),
    ],
)
def test_several_without_one_that_counts_and_a_name_that_is_missing_are_faults(rewards, name, said):
    with pytest.raises(VerifierFault, match=said):
        counted(rewards, name)


@given(st.dictionaries(names, st.floats(-1, 1), min_size=1), st.none() | names)
def test_what_counts_is_always_a_reward_that_the_verifier_wrote_under_the_name_that_the_rule_says(rewards, name):
    wanted = name if name is not None else "reward" if "reward" in rewards else next(iter(rewards))
    if wanted in rewards and (name is not None or "reward" in rewards or len(rewards) == 1):
        assert counted(rewards, name) == rewards[wanted]
    else:
        with pytest.raises(VerifierFault):
            counted(rewards, name)


of_a_step = st.dictionaries(st.sampled_from("xyz"), st.floats(-LARGEST, LARGEST), max_size=3)


@given(of_a_step)
def test_the_rewards_of_a_single_step_are_those_that_were_written_to_the_last_digit(rewards):
    assert of_steps([rewards], "mean") == of_steps([rewards], "final") == rewards


@given(st.lists(of_a_step, min_size=2, max_size=5))
def test_the_mean_over_steps_is_finite_and_between_them_and_a_name_that_is_missing_counts_as_0(steps):
    found = of_steps(steps, "mean")
    assert set(found) == {name for step in steps for name in step}
    for name, mean in found.items():
        values = [step.get(name, 0.0) for step in steps]
        slack = 1e-14 * max(map(abs, values))
        assert min(values) - slack <= mean <= max(values) + slack


@given(st.lists(st.integers(0, 10), min_size=1, max_size=9))
def test_the_mean_of_tenths_is_the_float_of_the_exact_mean(tenths):
    mean = of_steps([{"reward": n / 10} for n in tenths], "mean")["reward"]
    assert mean == float(Fraction(sum(tenths), 10 * len(tenths)))
