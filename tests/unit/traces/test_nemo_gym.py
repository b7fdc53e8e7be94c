"""Rollouts of NeMo-Gym: the request, the response and the reward."""

from __future__ import annotations

import pytest
from support.traces import lines

from capvec.errors import UsageError
from capvec.traces import read_traces

pytestmark = pytest.mark.unit

ASKED = {"role": "user", "content": "Count.", "type": "message"}
CALL = {"type": "function_call", "call_id": "1", "name": "count", "arguments": "{}", "id": "f", "status": "completed"}
OUTPUT = {"type": "function_call_output", "call_id": "1", "output": "2", "id": None, "status": None}
SAID = {
    "id": "m", "type": "message", "role": "assistant", "status": "completed",
    "content": [{"type": "output_text", "text": "Two.", "annotations": []}],
}  # fmt: skip


def rollout(*output, **changes):
    return {
        "responses_create_params": {"input": [{"role": "developer", "content": "Rules."}, ASKED], "tools": []},
        "response": {"id": "r", "model": "big", "object": "response", "output": list(output)},
        "reward": 1.0,
        "_ng_task_index": 7,
    } | changes


def test_request_and_response_are_one_conversation(tmp_path):
    (trace,) = read_traces(lines(tmp_path / "rollouts.jsonl", rollout(CALL, OUTPUT, SAID)))
    assert [message["content"] for message in trace.messages] == [
        "Rules.", "Count.", '<tool_call>{"name": "count", "arguments": {}}</tool_call>', "2", "Two.",
    ]  # fmt: skip
    assert (trace.task, trace.model, trace.reward, trace.steps) == ("task 7", "big", 1.0, 2)


def test_worked_replies_of_the_request_are_no_steps_and_a_request_may_be_text(tmp_path):
    shown = rollout(SAID, responses_create_params={"input": [ASKED, SAID, ASKED]}, task_id="t", id="x")
    request = {"input": "Count.", "instructions": "Rules.", "metadata": {"instance_id": "django-1"}}
    text = rollout(SAID, responses_create_params=request)
    first, second = read_traces(lines(tmp_path / "a.jsonl", shown, text))
    assert (first.id, first.task, first.steps) == ("x", "t", 1)
    assert [message["content"] for message in second.messages] == ["Rules.", "Count.", "Two."]
    assert second.task == "django-1"


def test_steps_that_repeat_those_before_them_are_read_once(tmp_path):
    nothing = {"responses_create_params": {"input": []}}
    (trace,) = read_traces(
        lines(tmp_path / "a.jsonl", rollout([ASKED, CALL, OUTPUT], [ASKED, CALL, OUTPUT, SAID], **nothing))
    )
    assert len(trace.messages) == 4
    with pytest.raises(UsageError, match="do not repeat"):
        read_traces(lines(tmp_path / "a.jsonl", rollout([ASKED, CALL], [ASKED, SAID], **nothing)))


def test_requests_without_a_response_are_passed_over(tmp_path):
    asked = {"responses_create_params": {"input": "Count."}, "output": ""}
    said = []
    assert len(read_traces(lines(tmp_path / "a.jsonl", rollout(SAID), asked, rollout()), None, said.append)) == 1
    assert [line.split("passed over: ")[1] for line in said] == [
        "a request without a response (1: a.jsonl, line 2)",
        "without a reply of the model (1: a.jsonl, line 3)",
    ]
    with pytest.raises(UsageError, match="holds no trace: a request without a response"):
        read_traces(lines(tmp_path / "a.jsonl", asked))


def test_a_stored_exchange_is_read_as_well(tmp_path):
    (trace,) = read_traces(
        lines(tmp_path / "a.json", {"input": "Count.", "output": [CALL, OUTPUT, SAID], "model": "m"})
    )
    assert (trace.model, trace.steps, trace.reward) == ("m", 2, None)


def test_instructions_may_be_items(tmp_path):
    rules = [{"role": "developer", "content": [{"type": "input_text", "text": "Rules."}]}]
    stored = {"instructions": rules, "input": "Count.", "output": [SAID]}
    for value in (stored, rollout(SAID, responses_create_params={"input": "Count.", "instructions": rules})):
        (trace,) = read_traces(lines(tmp_path / "a.jsonl", value))
        assert [tuple(message.values()) for message in trace.messages] == [
            ("system", "Rules."), ("user", "Count."), ("assistant", "Two."),
        ]  # fmt: skip


@pytest.mark.parametrize(("key", "value"), [("previous_response_id", "resp_0"), ("conversation", {"id": "conv_0"})])
def test_a_part_of_a_conversation_is_refused_by_the_key_that_says_so(tmp_path, key, value):
    stored = {"input": [OUTPUT], "output": [SAID]}
    in_response = rollout(SAID)
    in_response["response"][key] = value
    in_request = rollout(SAID, responses_create_params={"input": [OUTPUT], key: value})
    for part in (stored | {key: value}, in_request, in_response):
        with pytest.raises(UsageError, match=rf"a\.jsonl: `{key}` says that the input continues"):
            read_traces(lines(tmp_path / "a.jsonl", part))
    assert read_traces(lines(tmp_path / "a.jsonl", {"input": "Go.", "output": [SAID], key: None}))[0].steps == 1
