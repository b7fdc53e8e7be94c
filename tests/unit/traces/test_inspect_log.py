"""Logs of Inspect, through its own library. `tests/data/traces/inspect` was written by inspect_ai 0.3.285 (mockllm)."""

from __future__ import annotations

import importlib.util
import shutil

import pytest
from support import REPOSITORY
from support.traces import put

from capvec.errors import UsageError
from capvec.traces import read_traces
from capvec.traces.inspect_library import InspectSample
from capvec.traces.inspect_log import unnamed_scores

pytestmark = pytest.mark.unit

WRITTEN = REPOSITORY / "tests" / "data" / "traces" / "inspect" / "files.eval"


@pytest.fixture
def inspect_log():
    return pytest.importorskip("inspect_ai.log", reason="Inspect: pip install 'capvec[inspect]'")


@pytest.mark.parametrize("form", ["eval", "json"])
def test_each_epoch_of_a_sample_is_a_trace(tmp_path, inspect_log, form):
    file = tmp_path / "log"  # known by its content
    if form == "eval":
        shutil.copy(WRITTEN, file)
    else:
        inspect_log.write_eval_log(inspect_log.read_eval_log(str(WRITTEN)), str(file), format="json")
    right, wrong = read_traces(file)
    assert (right.id, wrong.id) == ("files/name-1/1", "files/name-1/2")
    assert (right.task, right.model, right.reward, right.steps) == ("files/name-1", "mockllm/model", 1.0, 3)
    assert (wrong.task, wrong.reward, wrong.steps) == ("files/name-1", 0.0, 2)
    assert [message["content"] for message in right.messages] == [
        "Name the file.",
        'I list.\n<tool_call>{"name": "listing", "arguments": {"path": "/nowhere"}}</tool_call>',
        "no such folder",  # the error of the tool
        'tool call for tool listing\n<tool_call>{"name": "listing", "arguments": {"path": "/app"}}</tool_call>',
        "a.txt",
        "It is a.txt.",
    ]


@pytest.mark.parametrize(
    ("scores", "named", "reward"),
    [
        ({"a": "C"}, {}, 1.0),
        ({"a": "P"}, {}, 0.5),
        ({"a": "N"}, {}, 0.0),
        ({"a": 0.25}, {}, 0.25),
        ({"a": "0.5"}, {}, 0.5),
        ({"a": True}, {}, 1.0),
        ({"a": "I", "b": "C"}, {}, 0.0),
        ({"a": "I", "b": "C"}, {"reward": "b"}, 1.0),
        ({"a": {"x": 0.5, "reward": 1}}, {}, 1.0),
        ({"a": {"x": 0.5}}, {}, None),
        ({"a": float("nan")}, {}, None),
        ({}, {}, None),
        (None, {}, None),
    ],
)
def test_scores_are_the_reward(tmp_path, inspect_log, scores, named, reward):
    log = inspect_log.read_eval_log(str(WRITTEN))
    (first, _) = log.samples
    score = next(iter(first.scores.values()))
    first.scores = scores and {name: score.model_copy(update={"value": value}) for name, value in scores.items()}
    log.samples = [first]
    inspect_log.write_eval_log(log, str(tmp_path / "a.eval"))
    (trace,) = read_traces(tmp_path / "a.eval", named)
    assert trace.reward == reward


def test_a_sample_of_several_choices_is_refused_and_an_error_beside_an_output_is_kept(tmp_path, inspect_log):
    log = inspect_log.read_eval_log(str(WRITTEN))
    (first, _) = log.samples
    failed = next(message for message in first.messages if message.role == "tool" and message.error)
    failed.content = "half of it"
    log.samples = [first]
    inspect_log.write_eval_log(log, str(tmp_path / "a.eval"))
    (trace,) = read_traces(tmp_path / "a.eval")
    assert trace.messages[2]["content"] == "half of it\nno such folder"
    first.output.choices *= 2
    inspect_log.write_eval_log(log, str(tmp_path / "a.eval"))
    with pytest.raises(UsageError, match=r"a\.eval: `files/name-1\.output\.choices` has 2 choices"):
        read_traces(tmp_path / "a.eval")


def shape(log, replies, tools):
    """The log with one sample, whose replies have so many calls, `"broken"` for one that did not parse."""
    from inspect_ai.event import ModelEvent
    from inspect_ai.model import ChatMessageAssistant, ChatMessageUser, GenerateConfig, ModelOutput
    from inspect_ai.tool import ToolCall, ToolInfo

    def call(number, broken):
        return ToolCall(
            id=str(number), function="bash", arguments={}, parse_error="not JSON" if broken == "broken" else None
        )

    (sample, _) = log.samples
    sample.messages, sample.events = [ChatMessageUser(content="Go.")], []
    for number, calls in enumerate(replies):
        made = [call(number, calls)] if calls else None
        reply = ChatMessageAssistant(id=f"r{number}", content="Hm.", tool_calls=made)
        output = ModelOutput.from_message(reply)
        known = [ToolInfo(name=name, description="") for name in tools]
        sample.events.append(
            ModelEvent(model="m", input=[], tools=known, tool_choice="auto", config=GenerateConfig(), output=output)
        )
        sample.messages += [reply, ChatMessageUser(content="Go on.")]
    log.samples = [sample]
    return log


@pytest.mark.parametrize(
    ("replies", "tools", "counts"),
    [
        ((1, 1, 0), ("bash",), (0, 0)),  # the last one is the answer
        ((1, 0, 1, 0), ("bash",), (0, 1)),
        ((1, 0), ("bash", "submit"), (0, 1)),  # with such a tool no text is an answer
        ((1, 1), ("bash", "submit"), (0, 0)),
        (("broken", 0, "broken", 1), ("bash",), (2, 1)),
        ((0,), (), (None, None)),  # a question, and no tool to call
    ],
)
def test_replies_of_a_model_with_tools_are_counted_by_their_calls(tmp_path, inspect_log, replies, tools, counts):
    log = shape(inspect_log.read_eval_log(str(WRITTEN)), replies, tools)
    inspect_log.write_eval_log(log, str(tmp_path / "a.eval"))
    (trace,) = read_traces(tmp_path / "a.eval")
    assert (trace.steps, trace.parse_fail, trace.no_cmd) == (len(replies), *counts)
    assert bool(trace.uncounted) == (counts[0] is None)


@pytest.mark.skipif(importlib.util.find_spec("inspect_ai") is not None, reason="the library is installed")
def test_without_the_library_it_is_named(tmp_path):
    log = put(tmp_path / "log.json", {"version": 2, "status": "success", "eval": {"task": "t"}, "samples": []})
    for file in (WRITTEN, log):
        with pytest.raises(UsageError, match=r"pip install 'capvec\[inspect\]'"):
            read_traces(file)


@pytest.mark.usefixtures("inspect_log")
def test_a_log_that_the_library_cannot_read_is_one_sentence(tmp_path):
    log = put(tmp_path / "log.json", {"version": 2, "status": "success", "eval": {"task": "t"}})
    with pytest.raises(UsageError, match=r"log\.json: Inspect's library cannot read this log") as refusal:
        read_traces(log)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("scores", "asked", "unnamed"),
    [
        ({}, None, []),
        ({"a": "C"}, None, []),
        ({"a": "C"}, "b", []),
        ({"a": "C", "b": "I"}, None, ["a", "b"]),
        ({"a": "C", "b": "I"}, "b", []),
        ({"a": "C", "score": "I"}, None, []),
        ({"a": {"x": 1, "y": 0}}, None, ["a.x", "a.y"]),
        ({"a": {"x": 1, "y": 0}}, "y", []),
        ({"a": {"x": 1, "y": 0}}, "a.y", []),
        ({"a": {"x": 1, "reward": 0}}, None, []),
    ],
)
def test_scores_of_which_none_is_known_to_count_are_told(scores, asked, unnamed):
    sample = InspectSample("s", 1, None, scores, 1, (), {})
    assert unnamed_scores(sample, {} if asked is None else {"reward": asked}) == unnamed
