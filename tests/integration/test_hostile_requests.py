"""Whatever is asked of an engine, it answers in JSON with a reason, and goes on."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.raw_http import TOKEN, request, served
from support.tiny_models import LAYERS, WIDTH, load_tiny

from capvec.engines.serving import Bounds

pytestmark = pytest.mark.integration

HELLO = [{"role": "user", "content": "hello"}]
STEER = {"layer": 1, "direction": "d", "alpha": 1.0}
TOOL = {"type": "function", "function": {"name": "add"}}
CHAT, CAPTURE, DIRECTIONS = "/v1/chat/completions", "/v1/capture", "/v1/directions"
TEXT, CONFIGS, TOKENIZE, DETOKENIZE = "/v1/completions", "/v1/configs", "/tokenize", "/detokenize"
FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    from capvec.engines.endpoints import build_app
    from capvec.engines.transformers.scheduler import Scheduler
    from capvec.engines.transformers.server import Engine

    # A short context, since a request without `max_tokens` fills it.
    loaded = replace(load_tiny(tmp_path_factory.mktemp("model"), "llama"), context_length=96)
    scheduler = Scheduler(loaded, max_rows=4, prefix_bytes=1 << 20)
    with served(build_app(Engine(loaded, scheduler, TOKEN)), Bounds(request_s=3, linger_s=0.1)) as running:
        yield running
    scheduler.close()


def chat(**fields) -> bytes:
    return json.dumps({"messages": HELLO, "max_tokens": 2} | fields).encode()


def steer(**fields) -> bytes:
    return chat(steering=[STEER | fields])


def conversations(**fields) -> bytes:
    return json.dumps({"conversations": [HELLO]} | fields).encode()


def direction(values) -> bytes:
    return safetensors.numpy.save({"directions": np.broadcast_to(values, (LAYERS, WIDTH)).copy()})


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        (CHAT, b"", "not JSON"),
        (CHAT, b"\xff\xfe{", "not JSON"),
        (CHAT, b"[" * 100_000, "nested more than 128 levels deep"),
        (CHAT, b'{"messages":' * 100_000, "nested more than 128 levels deep"),
        (CHAT, b'{"seed": ' + b"9" * 5000 + b"}", "a whole number of 5,000 digits"),
        (CHAT, b'{"temperature": NaN}', "NaN is no JSON number"),
        (CHAT, b'{"temperature": -Infinity}', "-Infinity is no JSON number"),
        (CHAT, chat()[:-1] + b', "temperature": 1e999}', "temperature: inf"),
        (CHAT, b'{"seed": 1, "seed": 2}', "'seed' stands twice"),
        (CHAT, b'{"messages": [{"role": "user", "role": "system", "content": ""}]}', "'role' stands twice"),
        (CHAT, chat(**{"\ud800": 1}), "unknown fields"),
        (CHAT, chat(**{"x" * 100_000: 1}), "unknown fields"),
        (CHAT, chat(messages="hello"), "messages"),
        (CHAT, chat(messages={"role": "user"}), "messages"),
        (CHAT, chat(messages=[{"role": "user", "content": "a\udfff"}]), "lone surrogate"),
        (CHAT, chat(messages=[{"role": "\ud800", "content": "a"}]), "lone surrogate"),
        (CHAT, chat(messages=[{"role": "user", "content": [HELLO] * 9000}]), "expected text for role and content"),
        (CHAT, chat(max_tokens=-1), "max_tokens: -1"),
        (CHAT, chat(max_tokens=True), "max_tokens: True"),
        (CHAT, chat(max_tokens="2"), "max_tokens: '2'"),
        (CHAT, chat(seed=""), "seed: ''"),
        (CHAT, chat(seed=False), "seed: False"),
        (CHAT, chat(temperature=10**299), "temperature"),
        (CHAT, chat(temperature=-1e-9), "temperature"),
        (CHAT, chat(temperature=[]), "temperature: []"),
        (CHAT, chat(stop=0), "stop: 0"),
        (CHAT, chat(stop=["\ud800"]), "stop: received a lone surrogate"),
        (CHAT, chat(stop=["x"] * 65), "at most 64"),
        (CHAT, chat(stop=["x", ""]), "none empty"),
        (CHAT, chat(stream=0), "stream"),
        (CHAT, chat(n=[]), "n: []"),
        (CHAT, chat(n=129), "n: 129"),
        (CHAT, chat(n=0), "n: 0"),
        (CHAT, chat(top_p=0), "top_p: 0"),
        (CHAT, chat(top_p="1"), "top_p: '1'"),
        (CHAT, chat(top_k=-2), "top_k: -2"),
        (CHAT, chat(top_k=1.5), "top_k: 1.5"),
        (CHAT, chat(min_p=1.1), "min_p: 1.1"),
        (CHAT, chat(presence_penalty=3), "presence_penalty: 3"),
        (CHAT, chat(frequency_penalty=-3), "frequency_penalty: -3"),
        (CHAT, chat(repetition_penalty=0), "repetition_penalty: 0"),
        (CHAT, chat(repetition_penalty=1e-320), "expected a number from 0.01 to 100"),
        (CHAT, chat(temperature=1e-320), "expected 0, or a number from 0.01 to 100"),
        (CHAT, chat(logit_bias={"a": 1}), "logit_bias"),
        (CHAT, chat(logit_bias={"1": 101}), "from -100 to 100"),
        (CHAT, chat(logit_bias={"258": -100}), "258 is no token of the model; expected 0 to 257"),
        (CHAT, chat(logprobs=1), "logprobs: 1"),
        (CHAT, chat(top_logprobs=2), "it needs logprobs"),
        (CHAT, chat(logprobs=True, top_logprobs=21), "at most 20"),
        (CHAT, chat(response_format={"type": "json_object"}), "response_format"),
        (CHAT, chat(modalities=["audio"]), "modalities"),
        (CHAT, chat(stream=True, stream_options=[1]), "stream_options"),
        (CHAT, chat(tools={}), "tools: {}; expected a list"),
        (CHAT, chat(tools=[{"type": "function"}]), "tools"),
        (CHAT, chat(tools=[{"type": "function", "function": {"name": "\ud800"}}]), "tools: received a lone surrogate"),
        (CHAT, chat(tools=[TOOL, TOOL]), "'add' is there twice"),
        (CHAT, chat(tools=[{"type": "function", "function": {"name": "add", "strict": True}}]), "tools: strict"),
        (CHAT, chat(tool_choice="required"), "tool_choice: 'required'"),
        (CHAT, chat(tool_choice={"function": {"name": "a"}}), "tool_choice"),
        (CHAT, chat(messages=[{"role": "user", "content": None}]), "expected text for role and content"),
        (CHAT, chat(messages=[{"role": "foo", "content": "a"}]), "the role 'foo'; expected one of system"),
        (CHAT, chat(messages=[{"role": "user", "content": [{"type": "image_url"}]}]), "parts of type text"),
        (CHAT, chat(messages=[{"role": "user", "content": "", "tool_calls": [1]}]), "of the assistant"),
        (CHAT, chat(messages=[{"role": "assistant", "tool_calls": [{"function": {"name": "a"}}]}]), "the call"),
        (TEXT, b'{"prompt": []}', "prompt: []"),
        (TEXT, b'{"prompt": ""}', "prompt: ''"),
        (TEXT, b'{"prompt": [1, "a"]}', "prompt: [1, 'a']"),
        (TEXT, b'{"prompt": [99999999]}', "prompt: (99999999,)"),
        (TEXT, b'{"prompt": "a", "echo": 1}', "echo: 1"),
        (TEXT, b'{"prompt": "a", "echo": true, "stream": true, "logprobs": 1}', "the answer comes whole"),
        (TEXT, b'{"prompt": "a", "max_tokens": 0}', "max_tokens: 0"),
        (TEXT, b'{"prompt": "a", "logit_bias": {"99999": 1}}', "99999 is no token of the model"),
        (TEXT, b'{"prompt": "a", "suffix": "b"}', "suffix"),
        (TEXT, b'{"prompt": "a", "best_of": 2}', "best_of"),
        (TEXT, b'{"prompt": ["a", "b"], "n": 100}', "n: 100 replies to 2 prompts"),
        (TOKENIZE, b'{"prompt": ["a"]}', "expected a text"),
        (TOKENIZE, b'{"prompt": "a", "messages": []}', "unknown fields"),
        (DETOKENIZE, b'{"tokens": [258]}', "expected a list of tokens, from 0 to 257"),
        (DETOKENIZE, b'{"tokens": "a"}', "expected a list of tokens"),
        (CHAT, chat(thinking=[]), "thinking: []"),
        (CHAT, chat(thinking={}), "thinking: {}"),
        (CHAT, chat(steering={}), "steering: expected a list"),
        (CHAT, chat(steering=""), "steering: expected a list"),
        (CHAT, chat(steering=[[]]), "steering: expected a list"),
        (CHAT, steer(layer=1.5), "layer"),
        (CHAT, steer(layer=True), "layer"),
        (CHAT, steer(layer="1"), "layer"),
        (CHAT, steer(layer=-1), "layer -1"),
        (CHAT, steer(layer=10**299), "layer"),
        (CHAT, steer(alpha=10**299), "alpha"),
        (CHAT, steer(alpha="1"), "alpha"),
        (CHAT, steer(direction=5), "direction"),
        (CHAT, steer(op="remove"), "op"),
        (CHAT, steer(op=[]), "op"),
        (CHAT, steer(keep_norm="no"), "keep_norm"),
        (CHAT, steer(**{"\ud800": 1}), "steering"),
        (CHAT, chat(steering=[STEER] * 1025), "at most 1024"),
        (CAPTURE, conversations(conversations=HELLO), "messages"),
        (CAPTURE, conversations(pooling=5), "pooling: 5"),
        (CAPTURE, conversations(pooling="mean-last:" + "9" * 5000), "pooling"),
        (CAPTURE, conversations(names="x"), "names"),
        (CAPTURE, conversations(names=[1]), "names"),
        (DIRECTIONS, b"\xff" * 100, "not a direction"),
        (DIRECTIONS, (1 << 60).to_bytes(8, "little") + b"{}", "not a direction"),
        (DIRECTIONS, (2).to_bytes(8, "little") + b"{}", "not a direction"),
        (DIRECTIONS, direction(np.float64(1e300)), "not finite"),
        (DIRECTIONS, direction(np.float32(3e38)), "not finite"),
        (DIRECTIONS, direction(np.float32(np.nan)), "not finite"),
        (DIRECTIONS, direction(np.int8(1)), "int8"),
    ],
)  # fmt: skip
def test_a_request_that_makes_no_sense_is_refused_with_the_reason(engine, path, body, said):
    answer = engine.post(path, body)
    assert answer.status == 400, answer
    assert said in answer.error["message"]


def test_a_body_above_the_bound_is_refused_with_the_bound(engine):
    answer = engine.post(CHAT, chat(messages=[{"role": "user", "content": "x" * (33 << 20)}]))
    assert (answer.status, answer.error["code"]) == (413, "request_too_large")
    assert "33,554,432 bytes" in answer.error["message"]


def test_a_capture_whose_residuals_would_fill_the_memory_is_refused(engine, monkeypatch):
    from capvec.engines import endpoints

    monkeypatch.setattr(endpoints, "MAX_CAPTURE_BYTES", 8 * LAYERS * WIDTH)
    assert engine.post(CAPTURE, conversations(conversations=[HELLO] * 2)).status == 200
    answer = engine.post(CAPTURE, conversations(conversations=[HELLO] * 3))
    assert (answer.status, answer.error["code"]) == (413, "request_too_large")
    assert "3 conversations have 1,536 bytes of residuals" in answer.error["message"]


def test_more_directions_than_fit_are_refused_and_those_held_stay(engine, monkeypatch):
    from capvec.engines import endpoints

    first = engine.post(DIRECTIONS, direction(np.float32(0.25)))
    monkeypatch.setattr(endpoints, "MAX_DIRECTIONS_BYTES", 0)
    answer = engine.post(DIRECTIONS, direction(np.float32(0.75)))
    assert (answer.status, answer.error["code"]) == (413, "too_many_directions")
    assert engine.post(CHAT, steer(direction=json.loads(first.body)["hash"])).status == 200


def test_a_whole_number_may_be_written_with_a_point(engine):
    key = json.loads(engine.post(DIRECTIONS, direction(np.float32(0.5))).body)["hash"]
    assert engine.post(CHAT, steer(direction=key, layer=1.0, alpha=1)).status == 200
    assert engine.post(CHAT, chat(max_tokens=10**299, seed=-(10**299), stop=None, steering=None)).status == 200


# ------------------------------------------------------------------------------------------------ fuzzing

WORDS = st.text(st.characters(codec=None), max_size=8)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | WORDS
ANYTHING = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3))
TOOLS = st.lists(
    st.fixed_dictionaries({"type": st.just("function"), "function": st.dictionaries(WORDS, ANYTHING) | ANYTHING})
)
ROLES = st.sampled_from(["user", "assistant", "system", "tool", ""])
MESSAGES = st.lists(st.fixed_dictionaries({"role": ROLES, "content": WORDS}), max_size=3)
STEERS = st.lists(
    st.fixed_dictionaries(
        {"layer": st.integers(-1, LAYERS) | ANYTHING, "direction": WORDS, "alpha": st.floats() | ANYTHING},
        optional={"op": st.sampled_from(["add", "ablate", "set"]), "positions": WORDS, "keep_norm": ANYTHING},
    ),
    max_size=2,
)
NUMBERS = ("top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty")
CHATS = st.fixed_dictionaries(
    {"messages": MESSAGES | ANYTHING},
    optional={
        "max_tokens": st.integers(-2, 4) | ANYTHING,
        "temperature": st.floats(0, 2) | ANYTHING,
        "seed": st.integers() | ANYTHING,
        "stop": st.lists(WORDS, max_size=2) | ANYTHING,
        "steering": STEERS | ANYTHING,
        "thinking": ANYTHING,
        "n": st.integers(0, 3) | ANYTHING,
        "stream": st.booleans() | ANYTHING,
        "stream_options": st.fixed_dictionaries({"include_usage": ANYTHING}) | ANYTHING,
        "logprobs": st.booleans() | ANYTHING,
        "top_logprobs": st.integers(0, 3) | ANYTHING,
        "tools": TOOLS | ANYTHING,
        "tool_choice": st.sampled_from(["none", "auto", "required"]) | ANYTHING,
        "logit_bias": st.dictionaries(st.integers(0, 300).map(str), st.floats(-100, 100)) | ANYTHING,
        "response_format": ANYTHING,
        **{name: st.floats(-2, 2) | ANYTHING for name in NUMBERS},
    },
)
COMPLETIONS = st.fixed_dictionaries(
    {"prompt": WORDS | st.lists(WORDS | st.integers(-1, 300), max_size=3) | ANYTHING, "max_tokens": st.integers(0, 2)},
    optional={
        "logprobs": st.integers(0, 3) | ANYTHING,
        "stream": ANYTHING,
        "n": st.integers(0, 3) | ANYTHING,
        "echo": st.booleans() | ANYTHING,
        "model": ANYTHING,
    },
)
CAPTURES = st.fixed_dictionaries(
    {"conversations": st.lists(MESSAGES, max_size=3) | ANYTHING},
    optional={"pooling": st.sampled_from(["last", "mean-last:2", "last-assistant"]) | ANYTHING, "names": ANYTHING},
)


def stands(engine, answer) -> None:
    """Fails unless the answer is a result or a refusal in JSON, and the engine goes on."""
    if answer.status != 200:
        assert answer.status in {400, 404, 405, 408, 413, 431, 501}, answer
        assert answer.error
    assert engine.send(request("GET", "/health")).status == 200


@FUZZ
@given(body=CHATS)
def test_any_chat_is_answered_or_refused(engine, body):
    stands(engine, engine.post(CHAT, json.dumps(body).encode()))


@FUZZ
@given(body=COMPLETIONS)
def test_any_completion_is_answered_or_refused(engine, body):
    stands(engine, engine.post(TEXT, json.dumps(body).encode()))


@FUZZ
@given(body=st.fixed_dictionaries({"configs": ANYTHING | st.lists(st.dictionaries(WORDS, ANYTHING))}))
def test_any_configs_are_refused(engine, body):
    answer = engine.post(CONFIGS, json.dumps(body).encode())
    assert answer.status == 400
    stands(engine, answer)


@FUZZ
@given(body=CAPTURES)
def test_any_capture_is_answered_or_refused(engine, body):
    stands(engine, engine.post(CAPTURE, json.dumps(body).encode()))


@FUZZ
@given(path=st.sampled_from([CHAT, CAPTURE, DIRECTIONS]), body=st.binary(max_size=200))
def test_any_bytes_as_a_body_are_refused(engine, path, body):
    stands(engine, engine.post(path, body))


@FUZZ
@given(values=st.floats(width=32), scale=st.floats(width=32))
def test_any_direction_is_held_or_refused_and_a_steer_along_it_too(engine, values, scale):
    answer = engine.post(DIRECTIONS, direction(np.float32(values)))
    stands(engine, answer)
    if answer.status == 200:
        steered = engine.post(CHAT, steer(direction=json.loads(answer.body)["hash"], alpha=scale))
        if steered.status == 500:
            assert steered.error["code"] == "steering_fault"
        else:
            stands(engine, steered)


@FUZZ
@given(
    method=st.sampled_from(["GET", "POST", "HEAD", "PUT", "OPTIONS", "CONNECT", "X"]),
    path=st.sampled_from([CHAT, "/health", "/", "*", "//", "/%00", "/v1", "?", "/health?x=1"]),
    lines=st.lists(
        st.sampled_from(
            ["Content-Length: 3", "Content-Length: 0", "Content-Length: x", "Transfer-Encoding: chunked", "X:",
             "Expect: 100-continue", "Connection: close", "Connection: upgrade", "Upgrade: websocket",
             "Transfer-Encoding: gzip", "broken"]
        ),
        max_size=3,
    ),
    body=st.binary(min_size=3, max_size=20),
    half_close=st.booleans(),
)  # fmt: skip
def test_any_request_is_answered(engine, method, path, lines, body, half_close):
    answer = engine.send(request(method, path, body, *lines), half_close=half_close, method=method)
    if method != "HEAD":
        stands(engine, answer)
