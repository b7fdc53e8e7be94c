"""Bodies of requests, checked without an engine; `support.engine_conformance` has the refusals one by one."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from capvec.engines.chat_requests import parse_chat, parse_text
from capvec.engines.checks import RequestError
from capvec.engines.requests import error_response, parse_capture, parse_direction
from capvec.errors import SteeringFault, UsageError
from capvec.plan.option_parsers import parse_alphas
from capvec.plan.options import parse_options
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


def test_variables_of_the_chat_template_are_switches_and_stand_for_thinking():
    assert chat(chat_template_kwargs={"enable_thinking": False, "other": None}).variables == {"enable_thinking": False}
    assert chat(chat_template_kwargs=None).variables == {}
    for bad in ([], "x", {"enable_thinking": "no"}, {"enable_thinking": 1}):
        with pytest.raises(RequestError, match="expected an object of switches"):
            chat(chat_template_kwargs=bad)
    with pytest.raises(RequestError, match="give one of the two"):
        chat(chat_template_kwargs={"enable_thinking": True}, thinking="on")


def test_a_field_that_is_null_counts_as_absent_whatever_its_name():
    assert chat(echo=None, functions=None, model=None, steering=None) == chat()
    with pytest.raises(RequestError, match="unknown fields"):
        chat(functions=[])


def test_a_list_of_no_steers_is_given_by_the_client_itself():
    assert (chat(steering=[]).own, chat(steering=None).own, chat().own) == (True, False, False)


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


@pytest.mark.parametrize("field", ["messages", "metadata"])
@pytest.mark.parametrize("value", ["[]", "{}", "[[0]]", '{"a":{}}'])
def test_a_body_that_is_small_as_text_and_large_in_memory_is_refused_before_it_is_parsed(field, value):
    raw = f'{{"{field}": [{",".join([value] * ((31 << 20) // (len(value) + 1)))}]}}'.encode()
    started = time.monotonic()
    with pytest.raises(RequestError, match="the body holds so many lists and objects") as refusal:
        parse_chat(raw, n_layers=4)
    assert refusal.value.status == 413
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("name", ["temperature", "repetition_penalty"])
@pytest.mark.parametrize("value", [1e-320, 5e-324, 1e-30, 0.009, 100.1, 1e39, 1e308, -1e-320, -1])
def test_a_number_at_which_no_token_could_be_drawn_is_refused_with_the_range_as_by_a_sweep(name, value):
    with pytest.raises(RequestError, match=f"{name}: .*; expected .*a number from 0.01 to 100"):
        chat(**{name: value})
    with pytest.raises(UsageError, match=r"expected .*a number from 0.01 to 100"):
        parse_options({name: str(value)})


@pytest.mark.parametrize("value", [0, -0.0, -1, 1.0000001, 5, "1", True, [0.5]])
def test_a_top_p_outside_its_range_is_refused_with_the_range_as_by_a_sweep(value):
    with pytest.raises(RequestError, match=r"top_p: .*; expected a (finite )?number"):
        chat(top_p=value)
    if type(value) in (int, float):
        with pytest.raises(RequestError, match="expected a number above 0, at most 1"):
            chat(top_p=value)
        with pytest.raises(UsageError, match="expected a number above 0, at most 1"):
            parse_options({"top_p": str(value)})


@pytest.mark.parametrize("value", [0.01, 1, 100])
def test_the_ends_of_the_ranges_belong_to_them(value):
    asked = chat(temperature=value, repetition_penalty=value)
    assert (asked.temperature, asked.shaping.repetition_penalty) == (value, value)
    assert chat(temperature=0).temperature == 0


@pytest.mark.parametrize("alpha", [1e20, -1e39, 1e308])
def test_a_strength_beyond_any_residual_is_refused_with_the_range(alpha):
    with pytest.raises(RequestError, match=r"steering: alpha: .*; expected a number from -1e\+19 to 1e\+19"):
        chat(steering=[Steer(3, "d", alpha).to_json()])
    with pytest.raises(UsageError, match=r"expected a number from -1e\+19 to 1e\+19"):
        parse_alphas(str(alpha))


# ------------------------------------------------------------------------------------------------ any body

NAMES = (
    "frequency_penalty logit_bias logprobs max_tokens min_p model n presence_penalty repetition_penalty seed steering "
    "stop stream stream_options structured_outputs temperature top_k top_p metadata user max_completion_tokens "
    "messages modalities parallel_tool_calls response_format thinking tool_choice tools top_logprobs best_of echo "
    "prompt suffix chat_template_kwargs continuation prompt_cache_retention"
).split()
INNER = (
    "role content type text function name parameters arguments tool_calls id include_usage regex layer direction "
    "alpha op positions reasoning_content tool_call_id user system assistant tool 0 17"
).split()
fields_of_bodies = st.sampled_from(NAMES) | st.text(max_size=3)
words = st.sampled_from(INNER)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words | st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
"""Any JSON, and NaN and infinities, which JSON does not have."""


@pytest.mark.parametrize("parse", [parse_chat, parse_text])
@settings(max_examples=300, deadline=None)
@given(body=st.dictionaries(fields_of_bodies, values, max_size=6) | values, whole=st.booleans())
def test_any_json_is_a_request_or_a_refusal_with_words(parse, body, whole):
    if whole and isinstance(body, dict):  # what else is needed is there, so that the other fields are looked at
        body = {"messages": HELLO} | body if parse is parse_chat else {"prompt": "hello"} | body
    try:
        parse(json.dumps(body).encode(), 4)
    except RequestError as refusal:
        refused = refusal
    else:
        return
    assert refused.status == 400
    assert 0 < len(str(refused)) < 5000
    assert str(refused).encode()  # as the answer holds it


@pytest.mark.parametrize("parse", [parse_chat, parse_text])
@given(raw=st.binary(max_size=64))
def test_any_bytes_are_a_request_or_a_refusal(parse, raw):
    with pytest.raises(RequestError) as refusal:
        parse(raw, 4)
    assert refusal.value.status == 400
