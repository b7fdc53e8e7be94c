"""Lines of `capvec serve --receipts` count by what was measured, and not by what they say of themselves."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.served_receipts import BY_NAME, DIRECTION, steered, write_lines, write_served

from capvec.errors import UsageError
from capvec.plan.configs import SteeringMode, check_named, steered_config
from capvec.results.served import Served, read_served

pytestmark = pytest.mark.unit

STEERED = "steered-L1-a4"


@pytest.fixture
def file(tmp_path):
    return write_served(tmp_path / "receipts.jsonl", **dict.fromkeys(BY_NAME, 1))


def edit(file, name, *path, to):
    """Change the value at a path in the line of a name; `to` takes the value, and without one the key is removed."""
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line in lines:
        if line["model"] == name:
            place = line
            for key in path[:-1]:
                place = place[key]
            if to is None:
                del place[path[-1]]
            else:
                place[path[-1]] = to(place[path[-1]])
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def test_what_a_server_wrote_is_counted(file):
    assert read_served(file) == {name: Served(held=1) for name in BY_NAME}


def numbers(value, path=()):
    """The paths of every number within a value."""
    if isinstance(value, dict | list):
        for key, one in value.items() if isinstance(value, dict) else enumerate(value):
            yield from numbers(one, (*path, key))
    elif not isinstance(value, bool) and isinstance(value, int | float):
        yield path


BOUNDS = {"rounding", "rounding_max", "rounding_worst", "off_axis_max", "error_max"}
"""Of a receipt: what must only be small enough."""
NOT_ASKED = {
    "dose",
    "n_layers",
    "ambient_norm",
    "level_mean",
    "level_min",
    "level_max",
    "norm_ratio_min",
    "norm_ratio_max",
}
"""What a steer that adds, keeps no norm and is not in the last layer leaves open."""


def test_no_number_that_shows_the_steer_may_be_another_one(tmp_path):
    file = write_served(tmp_path / "receipts.jsonl", **{STEERED: 1})
    line = file.read_text()
    open_ones = set()
    for path in numbers({key: json.loads(line)[key] for key in ("config", "layout", "receipts", "isolation", "usage")}):
        file.write_text(line)
        edit(file, STEERED, *path, to=lambda value: value + 1 if isinstance(value, int) else 1.1 * value + 0.1)
        try:
            read_served(file)
            open_ones.add(path[-1])
        except UsageError as error:
            assert "receipts.jsonl, line 1" in str(error)  # noqa: PT017
    assert open_ones == BOUNDS | NOT_ASKED


@pytest.mark.parametrize(
    ("path", "to", "said"),
    [
        (("receipts",), lambda _: [], "received receipts of"),
        (("receipts",), None, "without `receipts`"),
        (("receipts", 0, "shift_mean"), lambda _: None, "lacks shift_mean"),
        (("receipts", 0, "shift_mean"), lambda _: 0.0, "a mean shift of 0"),
        (("receipts", 0, "shift_mean"), lambda _: math.nan, "not a"),
        (("receipts", 0, "shift_mean"), lambda _: "12", "expected a finite number"),
        (("receipts", 0, "vector"), lambda _: "0" * 16, "has the hash"),
        (("receipts", 0, "steer", "alpha"), lambda _: 2.0, "received receipts of"),
        (("receipts", 0, "off_axis_max"), lambda _: 1.2, "along another direction"),
        (("receipts", 0, "fired"), lambda fired: fired - 1, "the hook ran"),
        (("isolation",), lambda _: None, "no isolation check"),
        (("isolation", "leak_max"), lambda _: 0.1, "was moved by"),
        (("usage",), lambda _: {}, "not a Reply record"),
        (("usage",), lambda _: 3, "not a Reply record"),
        (("usage", "completion_tokens"), lambda drawn: drawn + 1, "passes"),
        (("cached_under",), lambda _: [], "taken over from a request"),
        (("config", "alpha"), lambda _: 3.0, "has the steers of steered-L1-a3"),
        (("config", "steers"), lambda _: [], "expected a target"),
        (("config", "targets"), lambda _: [], "expected a target"),
        (("config", "name"), lambda _: "steered-L1-a2", "the name of its config"),
        (("layout", "blocks"), lambda _: "visual", "the hook ran on"),
    ],
)
def test_a_line_that_says_it_holds_and_does_not_is_refused_by_its_number(file, path, to, said):
    edit(file, STEERED, *path, to=to)
    with pytest.raises(UsageError, match=f"receipts.jsonl, line 2: .*{said}"):
        read_served(file)


def test_receipts_of_a_weaker_steer_under_the_name_of_a_stronger_one_are_refused(tmp_path):
    """Whoever renames the lines of `steered-L1-a2`, be it in `model` alone, in the config too, or α with it."""
    for changes in (["model"], ["model", "name"], ["model", "name", "alpha"]):
        file = write_served(tmp_path / "receipts.jsonl", **{"steered-L1-a2": 1})
        (line,) = map(json.loads, file.read_text().splitlines())
        line["model"] = STEERED
        if "name" in changes:
            line["config"]["name"] = STEERED
        if "alpha" in changes:
            line["config"]["alpha"] = 4.0
        file.write_text(json.dumps(line))
        with pytest.raises(UsageError, match="line 1: says that its receipts hold, and they do not"):
            read_served(file)
        file.unlink()


def test_a_steered_reply_under_the_name_of_the_baseline_is_refused(file):
    edit(file, STEERED, "config", "name", to=lambda _: "baseline")
    edit(file, STEERED, "model", to=lambda _: "baseline")
    with pytest.raises(UsageError, match="baseline: has the steers of steered-L1-a4"):
        read_served(file)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"a": 1}', "without `id`, `choice`, `model`, `held`"),
        ("[1]", "no object"),
        ("3", "no object"),
        ("", "expected a line that"),
        ("{", "expected a line that"),
        ('{"id": 1, "choice": 0, "model": "a", "held": false}', "`id` is 1"),
        ('{"id": "r", "choice": 0.5, "model": "a", "held": false}', "`choice` is 0.5"),
        ('{"id": "r", "choice": 0, "model": "a", "held": "true"}', "`held` is 'true'"),
        ('{"id": "r", "choice": 0, "model": "a", "held": true}', "without `config`, `layout`, `receipts`"),
    ],
)
def test_a_line_that_is_no_receipt_is_one_sentence_with_file_and_line(tmp_path, line, said):
    (tmp_path / "receipts.jsonl").write_text(f"{line}\n")
    with pytest.raises(UsageError) as raised:
        read_served(tmp_path / "receipts.jsonl")
    assert said in str(raised.value)
    assert "receipts.jsonl, line 1: " in str(raised.value)
    assert "\n" not in str(raised.value)


def test_replies_that_the_server_refused_count_as_such_whatever_was_measured(file):
    edit(file, STEERED, "receipts", 0, "shift_mean", to=lambda _: None)  # as of a measurement that overflowed
    edit(file, STEERED, "isolation", "leak_max", to=lambda _: None)
    edit(file, STEERED, "held", to=lambda _: False)
    assert read_served(file)[STEERED] == Served(refused=1)


def test_choices_of_one_answer_are_replies_of_their_own_and_lines_that_contradict_are_refused(tmp_path):
    receipts = write_served(tmp_path / "receipts.jsonl", **{STEERED: 1})
    line = json.loads(receipts.read_text())
    receipts.write_text(f"{json.dumps(line)}\n{json.dumps(line | {'choice': 1})}\n{json.dumps(line)}\n")
    assert read_served(receipts) == {STEERED: Served(held=2, repeated=1)}
    receipts.write_text(f"{json.dumps(line)}\n{json.dumps(line | {'held': False})}\n")
    with pytest.raises(UsageError, match="line 2: an earlier line has the same `id`"):
        read_served(receipts)


def test_one_name_stands_for_one_config(tmp_path):
    """A server with another direction appended to the file of an earlier one."""
    one = write_served(tmp_path / "one.jsonl", **{STEERED: 1}).read_text()
    other = json.loads(one)
    other["id"] = "other"
    for steer in (other["config"]["steers"][0], other["receipts"][0]["steer"], other["cached_under"][0]):
        steer["direction"] = "f" * 16
    (tmp_path / "both.jsonl").write_text(one + json.dumps(other))
    with pytest.raises(UsageError, match="line 2: an earlier line of steered-L1-a4 has another config"):
        read_served(tmp_path / "both.jsonl")


ALPHAS = st.floats(0.01, 100.0).map(lambda alpha: round(alpha, 3))
MODES = st.builds(
    SteeringMode,
    st.sampled_from(["add", "set", "ablate"]),
    st.sampled_from(["all", "prompt", "generated", "assistant"]),
    st.booleans(),
)


@given(ALPHAS, st.sampled_from(["stored", "norm", "ambient"]), st.sampled_from([(1,), (0, 2)]), MODES)
def test_every_config_that_capvec_makes_is_what_its_name_says(alpha, unit, layers, mode):
    check_named(steered_config(DIRECTION, layers, None if mode.op == "ablate" else alpha, unit, mode))


@given(ALPHAS, ALPHAS, st.sampled_from(["stored", "norm"]))
def test_no_name_stands_for_another_strength(alpha, other, unit):
    config, wrong = (steered_config(DIRECTION, 1, one, unit) for one in (alpha, other))
    if not math.isclose(alpha, other, rel_tol=1e-5):
        with pytest.raises(UsageError):
            check_named(replace(config, steers=wrong.steers, targets=wrong.targets))


def test_several_layers_and_other_positions_are_read_too(tmp_path):
    configs = [steered(layers=(0, 2)), steered(positions="generated"), steered(op="set"), steered(keep_norm=True)]
    assert set(read_served(write_lines(tmp_path / "r.jsonl", configs))) == {one.name for one in configs}
