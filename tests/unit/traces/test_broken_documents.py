"""A document of any format with anything in any place is read, or refused in one sentence. It never breaks capvec."""

from __future__ import annotations

import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import REPOSITORY
from support.traces import chat, foreign, put

from capvec.errors import UsageError
from capvec.traces import read_traces

pytestmark = pytest.mark.unit

SAID = [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Two."}]}]
CALL = {"type": "function_call", "call_id": "1", "name": "count", "arguments": "{}"}
MADE = {
    "id": "r",
    "choices": [{"message": {"content": "I look.", "tool_calls": [{"function": {"name": "a", "arguments": "{}"}}]}}],
}
STEP = {"action": "ls", "observation": "a", "response": "b", "query": [{"role": "user", "content": "c"}]}
ACTION = {
    "kind": "ActionEvent", "source": "agent", "thought": [{"type": "text", "text": "x"}],
    "tool_call": {"name": "a", "arguments": "{}"},
}  # fmt: skip
SEEN = {
    "kind": "ObservationEvent",
    "source": "environment",
    "observation": {"content": [{"type": "text", "text": "x"}]},
}
ASKED = {
    "kind": "MessageEvent",
    "source": "user",
    "llm_message": {"role": "user", "content": [{"type": "text", "text": "x"}]},
}
DOCUMENTS = [
    chat(task="t", model="m", parse_fail=1, protocol="bash-block"),
    chat()["messages"],
    foreign(extra={"reward": 1, "task": "t"}),
    json.loads((REPOSITORY / "tests/data/traces/mini-swe-agent/responses.traj.json").read_text()),
    {"history": chat()["messages"], "trajectory": [STEP], "info": {"exit_status": "x"}, "replay_config": "{}"},
    {"attempts": [{"history": chat()["messages"], "trajectory": [STEP], "info": {}}]},
    {"responses_create_params": {"input": "Go.", "instructions": "x"}, "response": {"output": SAID}, "reward": 1},
    {"input": "Go.", "output": [CALL, {"type": "function_call_output", "output": "2"}, *SAID]},
    {
        "instance_id": "a", "test_result": {"report": {"resolved": True}}, "metadata": {"llm_config": {"model": "m"}},
        "history": [
            {"source": "user", "action": "message", "args": {"content": "Go.", "image_urls": ["x"]}},
            {"source": "agent", "action": "run", "args": {}, "tool_call_metadata": {"model_response": MADE}},
            {"source": "agent", "observation": "run", "content": "x"},
            {"source": "agent", "action": "run", "args": {"command": "ls", "thought": "x"}},
        ],
    },
    [ASKED, ACTION, SEEN],
    {"resolved_ids": ["a"], "unresolved_ids": []},
]  # fmt: skip
JUNK = st.sampled_from(
    [None, True, 3, -1.5, "", "x", "\ud800", [], {}, [[]], [None], {"type": "x"}, {"role": []}, float("nan")]
)


def refusal(path):
    """What is said if the traces of a path are refused; nothing if they are read."""
    try:
        read_traces(path, None, str)
    except UsageError as error:
        return str(error)
    return ""


def places(value, at=()):
    """Every place in a JSON value, as the keys that lead to it."""
    yield at
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(inner, (*at, key))


@settings(max_examples=200)
@given(data=st.data(), junk=JUNK)
def test_any_value_in_any_place_is_read_or_refused(tmp_path_factory, data, junk):
    document = copy.deepcopy(data.draw(st.sampled_from(DOCUMENTS)))
    *way, last = data.draw(st.sampled_from([at for at in places(document) if at]))
    inner = document
    for key in way:
        inner = inner[key]
    inner[last] = junk
    folder = tmp_path_factory.getbasetemp() / "broken"
    for path in (put(folder / "a.json", document), folder):  # alone, and in a folder
        assert "\n" not in refusal(path)


@pytest.mark.parametrize("depth", [100, 400, 900, 960, 990, 100_000])
@pytest.mark.parametrize(
    "opened",
    [
        '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": null, "tool_calls": '
        '[{"function": {"name": "a", "arguments": NEST}}]}]}',
        '{"messages": NEST}',
        '{"attempts": NEST}',
        "NEST",
    ],
)
@pytest.mark.parametrize("nest", ["[]", '{"attempts":[]}', '{"history":}'])
def test_a_value_of_any_depth_is_read_or_refused(tmp_path, depth, opened, nest):
    middle = len(nest) // 2 if nest == "[]" else len(nest) - (2 if nest.endswith("]}") else 1)
    value = nest[:middle] * depth + "1" + nest[middle:] * depth
    (tmp_path / "a.json").write_text(opened.replace("NEST", value))
    assert "\n" not in refusal(tmp_path / "a.json")
