"""Bodies of requests, checked without an engine; `support.engine_conformance` has the refusals one by one."""

from __future__ import annotations

import json

import numpy as np
import pytest
import safetensors.numpy

from capvec.engines.chat_requests import parse_chat
from capvec.engines.checks import RequestError
from capvec.engines.requests import error_response, parse_capture, parse_direction
from capvec.errors import SteeringFault, UsageError
from capvec.steering import Steer

pytestmark = pytest.mark.unit

HELLO = [{"role": "user", "content": "hello"}]


def chat(**fields):
    return parse_chat(json.dumps({"messages": HELLO} | fields).encode(), n_layers=4)


def test_a_chat_without_more_has_openais_defaults():
    asked = chat()
    assert (asked.max_tokens, asked.seed, asked.temperature, asked.stop, asked.steers) == (*(None, None, 1.0, (), ()),)


def test_a_chat_keeps_what_it_says():
    steer = Steer(3, "d", 2.0, positions="generated")
    asked = chat(max_completion_tokens=5, max_tokens=9, stop="x", steering=[steer.to_json()], seed=7)
    assert (asked.max_tokens, asked.stop, asked.steers, asked.seed) == (5, ("x",), (steer,), 7)


def test_a_chat_says_whether_to_think_and_a_message_may_hold_a_thought():
    talk = [*HELLO, {"role": "assistant", "content": "ls", "reasoning_content": "a", "name": "x"}, *HELLO]
    asked = chat(thinking="on", messages=talk)
    assert asked.thinking == "on"
    assert asked.messages == (*HELLO, {"role": "assistant", "content": "ls", "reasoning_content": "a"}, *HELLO)
    assert chat().thinking is None
    with pytest.raises(RequestError, match="thinking: True; expected one of on, off, default"):
        chat(thinking=True)


@pytest.mark.parametrize("raw", [b"{", b"[]", b"\xff"])
def test_a_body_that_is_no_json_object_is_refused(raw):
    with pytest.raises(RequestError, match="the body is") as refusal:
        parse_chat(raw, n_layers=4)
    assert refusal.value.code == "invalid_json"


def test_a_capture_names_its_conversations_by_number_unless_told():
    asked = parse_capture(json.dumps({"conversations": [HELLO, HELLO]}).encode())
    assert (asked.pooling, asked.names) == ("last", ("conversation 1", "conversation 2"))


def test_a_direction_of_any_floating_point_type_becomes_float32():
    vectors = parse_direction(safetensors.numpy.save({"directions": np.ones((2, 3), np.float64)}), 2, 3)
    assert (vectors.dtype, vectors.shape) == (np.float32, (2, 3))
    with pytest.raises(RequestError, match="int64"):
        parse_direction(safetensors.numpy.save({"directions": np.ones((2, 3), np.int64)}), 2, 3)


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        (RequestError("m", "not_found", 404), "not_found", 404),
        (UsageError("m"), "invalid_value", 400),
        (SteeringFault("m"), "steering_fault", 500),
        (ZeroDivisionError("m"), "engine_fault", 500),
    ],
)
def test_every_failure_has_a_code_and_a_status(error, code, status):
    body, given = error_response(error)
    assert (body["error"]["code"], given) == (code, status)
    assert "m" in body["error"]["message"]


def test_a_regular_expression_constrains_a_reply_and_anything_else_that_would_is_refused():
    assert chat(structured_outputs={"regex": "a+"}).grammar == "a+"
    assert chat().grammar == chat(structured_outputs=None).grammar == ""
    for bad in ("a+", {"json": {}}, {"regex": 1}, {"regex": "a", "choice": ["b"]}, {"regex": "a" * 9000}):
        with pytest.raises(RequestError, match=r"structured_outputs: .*; expected an object with regex alone"):
            chat(structured_outputs=bad)
