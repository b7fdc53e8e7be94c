"""`echo` and `logprobs` of a completion, and `continuation` of a chat: log-probabilities of tokens that were given."""

from __future__ import annotations

import json
import math
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from support.checked import asked as config_of
from support.raw_http import TOKEN, served
from support.tiny_models import LAYERS, WIDTH, load_tiny

from capvec.directions.direction import Direction
from capvec.engines.client import EngineClient
from capvec.plan.configs import SteeringMode, steered_config
from capvec.receipts import check_receipts
from capvec.records import Config
from capvec.steering import Steer

pytestmark = pytest.mark.integration

TEXT, CHAT, LAYER, ALPHA = "/v1/completions", "/v1/chat/completions", 1, 2.0
PROMPT = "one two — drei 🙂"
HELLO = [{"role": "user", "content": "hello"}]
ARCHITECTURES = ["llama", "gemma2", "qwen3.5-text"]
"""Attention alone, attention in windows and capped logits, and states in most layers."""


@pytest.fixture(scope="module")
def direction():
    vectors = np.random.default_rng(0).standard_normal((LAYERS, WIDTH)).astype(np.float32)
    return Direction(vectors)


@pytest.fixture(scope="module", params=ARCHITECTURES)
def loaded(request, tmp_path_factory):
    return load_tiny(tmp_path_factory.mktemp("model"), request.param)


@contextmanager
def engine_of(loaded, direction, receipts):
    """An engine that publishes the baseline, steers at all positions and at generated ones, and a grammar."""
    from capvec.engines.endpoints import build_app
    from capvec.engines.transformers.scheduler import Scheduler
    from capvec.engines.transformers.server import Engine

    scheduler = Scheduler(loaded, max_rows=4, prefix_bytes=1 << 20)
    endpoints = Engine(loaded, scheduler, TOKEN)
    endpoints.published.record(receipts)
    configs = [
        Config("baseline", "baseline"),
        steered_config(direction, LAYER, ALPHA),
        replace(steered_config(direction, LAYER, ALPHA, mode=SteeringMode(positions="generated")), name="after"),
        Config("constrained", "control", grammar="a+"),
    ]
    with served(build_app(endpoints)) as server, EngineClient(server.url, TOKEN) as client:
        client.put_direction(direction.to_bytes())
        client.publish(configs)
        yield server
    scheduler.close()


@pytest.fixture(scope="module")
def engine(loaded, direction, tmp_path_factory):
    with engine_of(loaded, direction, tmp_path_factory.mktemp("receipts") / "receipts.jsonl") as server:
        yield server


def asked(engine, path=TEXT, **fields):
    answer = engine.post(path, json.dumps({"temperature": 0} | fields).encode())
    assert answer.status == 200, answer.body
    return json.loads(answer.body)


def by_hand(loaded, direction, tokens, alpha):
    """Log-probability of each token but the first, from one pass of the model with the steer added by a plain hook."""
    import torch

    vector = torch.tensor(direction.vectors[LAYER])
    block = loaded.path.blocks[LAYER]

    def add(_module, _args, output):
        return (output[0] + alpha * vector, *output[1:]) if isinstance(output, tuple) else output + alpha * vector

    hook = block.register_forward_hook(add)
    try:
        with torch.inference_mode():
            logits = loaded.model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0].double()
    finally:
        hook.remove()
    return [float(logits[at].log_softmax(-1)[token]) for at, token in enumerate(tokens[1:])]


@pytest.mark.parametrize(("model", "alpha"), [("baseline", 0.0), (f"steered-L{LAYER}-a2", ALPHA)])
@pytest.mark.parametrize("at_once", [1 << 25, 1000], ids=["in one pass", "in pieces"])
def test_the_log_probabilities_of_a_prompt_are_those_of_the_steered_model(
    engine, loaded, direction, model, alpha, at_once, monkeypatch
):
    monkeypatch.setattr("capvec.engines.transformers.decode.TOLD_LOGITS", at_once)
    tokens = loaded.tokenizer(PROMPT)["input_ids"]
    (choice,) = asked(engine, model=model, prompt=PROMPT, echo=True, logprobs=1, max_tokens=1)["choices"]
    told = choice["logprobs"]["token_logprobs"]
    assert told[0] is None
    assert told[1 : len(tokens)] == pytest.approx(by_hand(loaded, direction, tokens, alpha), abs=2e-4)
    assert choice["text"].startswith(PROMPT)


def test_a_prompt_has_an_entry_for_each_token_and_so_has_the_reply_whatever_ends_it(engine, loaded):
    tokens = loaded.tokenizer(PROMPT)["input_ids"]
    ends = {str(next(iter(loaded.stop_ids))): 100}
    for more, drawn in (({"max_tokens": 0}, 0), ({"max_tokens": 3}, 3), ({"max_tokens": 3, "logit_bias": ends}, 1)):
        answer = asked(engine, model="baseline", prompt=tokens, echo=True, logprobs=2, **more)
        told = answer["choices"][0]["logprobs"]
        assert {len(listed) for listed in told.values()} == {len(tokens) + drawn}
        assert (answer["usage"]["prompt_tokens"], answer["usage"]["completion_tokens"]) == (len(tokens), drawn)
        assert told["top_logprobs"][0] is None
        assert all(1 <= len(top) <= 2 for top in told["top_logprobs"][1:])
        assert (answer["choices"][0]["text"] == PROMPT) == (more != {"max_tokens": 3})


def test_the_offsets_are_those_of_the_characters_of_the_text(engine):
    told = asked(engine, model="baseline", prompt=PROMPT, echo=True, logprobs=1, max_tokens=0)["choices"][0]["logprobs"]
    # Tokens are bytes here: each begins at the character that it is a part of.
    assert told["text_offset"] == [at for at, letter in enumerate(PROMPT) for _ in letter.encode()]


def test_a_prompt_alone_is_proved_steered_too(loaded, direction, tmp_path):
    with engine_of(loaded, direction, tmp_path / "receipts.jsonl") as engine:
        answer = asked(engine, model=f"steered-L{LAYER}-a2", prompt=PROMPT, echo=True, logprobs=1, max_tokens=0)
    (line,) = map(json.loads, (tmp_path / "receipts.jsonl").read_text().splitlines())
    assert (line["id"], line["held"], line["usage"]["completion_tokens"]) == (answer["id"], True, 0)
    (receipt,) = line["receipts"]
    assert receipt["steered"] == len(loaded.tokenizer(PROMPT)["input_ids"])
    assert receipt["shift_mean"] == pytest.approx(ALPHA * np.linalg.norm(direction.vectors[LAYER]), rel=0.01)


def test_an_echo_without_log_probabilities_is_the_text_and_its_continuation(engine):
    body = {"model": "baseline", "prompt": [PROMPT, "b"], "max_tokens": 4, "n": 2, "seed": 1}
    plain, echoed = asked(engine, **body), asked(engine, **body, echo=True)
    prompts = [PROMPT, PROMPT, "b", "b"]
    assert [choice["text"] for choice in echoed["choices"]] == [
        prompt + choice["text"] for prompt, choice in zip(prompts, plain["choices"], strict=True)
    ]
    assert echoed["usage"] == plain["usage"] | {"prompt_tokens_details": echoed["usage"]["prompt_tokens_details"]}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"model": "after", "echo": True, "logprobs": 1}, "steered at generated positions"),
        ({"model": "constrained", "echo": True, "logprobs": 1}, "a grammar constrains replies"),
        ({"max_tokens": 0}, "max_tokens: 0"),
    ],
)
def test_what_would_tell_nothing_of_the_steer_is_refused(engine, fields, said):
    answer = engine.post(TEXT, json.dumps({"model": "baseline", "prompt": "a"} | fields).encode())
    assert (answer.status, said in answer.error["message"]) == (400, True), answer


# ---------------------------------------------------------------------------------------------------- given replies


def likelihood(engine, direction, steers, text):
    vectors = [direction.vectors[steer.layer] for steer in steers]
    with EngineClient(engine.url, TOKEN) as client:
        reply = client.complete(HELLO, seed=0, max_tokens=0, temperature=0, steers=steers, continuation=text)
        check_receipts(reply, config_of(steers, vectors), client.health().layout)
    return reply


@pytest.mark.parametrize("alpha", [0.0, ALPHA])
def test_the_log_likelihood_of_a_given_reply_is_that_of_the_steered_model(engine, loaded, direction, alpha):
    steers = [Steer(LAYER, direction.hash, alpha)] if alpha else []
    prompt = loaded.render(HELLO, prompt=True)
    for text in ("a sentence, and more", "é", "x"):
        given = loaded.tokenizer(text, add_special_tokens=False)["input_ids"]
        reply = likelihood(engine, direction, steers, text)
        expected = by_hand(loaded, direction, [*prompt, *given], alpha)[-len(given) :]
        assert reply.logprob == pytest.approx(math.fsum(expected), abs=2e-3)
        assert (reply.text, reply.completion_tokens) == (text, len(given))


def test_a_steer_at_generated_positions_reaches_a_given_reply_but_its_first_token(engine, direction):
    steers = [Steer(LAYER, direction.hash, ALPHA, positions="generated")]
    (one, plain) = (likelihood(engine, direction, which, "x").logprob for which in (steers, []))
    assert one == pytest.approx(plain, abs=1e-4)
    reply = likelihood(engine, direction, steers, "xyz")
    assert reply.receipts[0].steered == 2
    assert reply.logprob != pytest.approx(likelihood(engine, direction, [], "xyz").logprob, abs=1e-2)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"continuation": ""}, "expected a text that is not empty"),
        ({"continuation": "a"}, "expected logprobs to be true"),
        ({"continuation": "a", "logprobs": True, "max_tokens": 3, "n": 1}, "leave out max_tokens, n"),
        ({"continuation": "a<|im_end|>b", "logprobs": True}, "ends a reply"),
        ({"continuation": "a" * 5000, "logprobs": True}, "leaves no room"),
    ],
)
def test_a_given_reply_that_cannot_be_one_is_refused(engine, fields, said):
    answer = engine.post(CHAT, json.dumps({"model": "baseline", "messages": HELLO} | fields).encode())
    assert (answer.status, said in answer.error["message"]) == (400, True), answer
