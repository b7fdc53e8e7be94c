"""The engine as a process: what it answers, what it refuses, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import numpy as np
import pytest
import safetensors.numpy
from support.checked import asked
from support.tiny_models import CONTEXT, LAYERS, WIDTH, save_tiny

from capvec.engines.client import EngineClient
from capvec.engines.process import start_engine
from capvec.engines.protocol import ModelSource
from capvec.errors import ContextOverflow, EngineUnavailable, SteeringFault, UsageError
from capvec.receipts import check_receipts
from capvec.steering import Steer, direction_hash

pytestmark = pytest.mark.integration

HELLO = [{"role": "user", "content": "hello"}]
VECTORS = np.random.default_rng(0).standard_normal((LAYERS, WIDTH)).astype(np.float32)


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("model"), "llama")


@pytest.fixture(scope="module")
def engine(model_folder, tmp_path_factory):
    with start_engine(
        ModelSource(str(model_folder), "tiny"), log_path=tmp_path_factory.mktemp("log") / "engine.log"
    ) as running:
        yield running


@pytest.fixture
def client(engine):
    with EngineClient(engine.url, engine.token) as client:
        yield client


def ask(client, **changes):
    arguments = {"seed": 1, "max_tokens": 8, "temperature": 0.8} | changes
    return client.complete(changes.pop("messages", HELLO), **{k: v for k, v in arguments.items() if k != "messages"})


def test_health_tells_the_models_size(client):
    health = client.health()
    assert (health.model, health.n_layers, health.d_model, health.context_length) == ("tiny", LAYERS, WIDTH, CONTEXT)
    assert health.dtype == "float32"


def test_a_steered_reply_carries_a_receipt_that_passes(client):
    key = client.put_direction(safetensors.numpy.save({"directions": VECTORS}), "safetensors").hash
    assert key == direction_hash(VECTORS)
    steers = [Steer(2, key, 1.5)]
    reply = ask(client, steers=steers)
    check_receipts(reply, asked(steers, [VECTORS[2]]), client.health().layout)
    assert reply.receipts[0].shift_mean == pytest.approx(1.5 * float(np.linalg.norm(VECTORS[2])), rel=1e-5)


def test_a_reply_that_is_not_steered_says_that_nothing_was_done_to_it_also_beside_one_that_is(client):
    key = client.put_direction(safetensors.numpy.save({"directions": VECTORS}), "safetensors").hash
    with ThreadPoolExecutor(8) as pool:
        jobs = [[Steer(1, key, 2.0)], []] * 4
        replies = list(pool.map(lambda n: ask(client, seed=n, steers=jobs[n], max_tokens=64), range(8)))
    for reply, steers in zip(replies, jobs, strict=True):
        check_receipts(reply, asked(steers, [VECTORS[1]] * len(steers)), client.health().layout)
    assert max(reply.isolation.watched for reply in replies[1::2]) > 0  # some shared a pass with a steered row


@pytest.mark.parametrize("op", ["add", "ablate", "set"])
@pytest.mark.parametrize("positions", ["all", "prompt", "generated", "assistant"])
@pytest.mark.parametrize("keep_norm", [False, True])
def test_every_operation_at_every_position_is_served_with_a_receipt_that_passes(client, op, positions, keep_norm):
    key = client.put_direction(safetensors.numpy.save({"directions": VECTORS}), "safetensors").hash
    steers = [Steer(layer, key, 1.0 if op == "ablate" else 1.5, op, positions, keep_norm) for layer in (1, 3)]
    said = [*HELLO, {"role": "assistant", "content": "hi there"}, *HELLO]
    reply = ask(client, messages=said, steers=steers)
    check_receipts(reply, asked(steers, [VECTORS[1], VECTORS[3]]), client.health().layout)
    generated = reply.completion_tokens - 1
    counts = {"all": reply.prompt_tokens + generated, "prompt": reply.prompt_tokens, "generated": generated,
              "assistant": len("hi there") + generated}  # fmt: skip
    # Tokens of the tiny model are bytes, and nothing of a conversation asked for once is cached.
    assert [receipt.steered for receipt in reply.receipts] == [counts[positions]] * 2


def test_a_reply_of_one_token_has_nothing_generated_to_steer(client):
    key = client.put_direction(safetensors.numpy.save({"directions": VECTORS}), "safetensors").hash
    steers = [Steer(1, key, 1.5, positions="generated")]
    reply = ask(client, steers=steers, max_tokens=1)
    check_receipts(reply, asked(steers, [VECTORS[1]]), client.health().layout)
    assert (reply.receipts[0].steered, reply.receipts[0].shift_mean) == (0, None)
    assert reply.text == ask(client, max_tokens=1).text


def test_a_direction_comes_back_as_a_file_that_loads_with_weights_only(client, tmp_path):
    import torch

    info = client.put_direction(safetensors.numpy.save({"directions": VECTORS}), "safetensors")
    (tmp_path / "dir.pt").write_bytes(client.get_direction(info.hash, "pt"))
    assert torch.load(tmp_path / "dir.pt", weights_only=True)["directions"].numpy().tobytes() == VECTORS.tobytes()
    assert info.norms == pytest.approx(np.linalg.norm(VECTORS, axis=1), rel=1e-5)


def test_replies_asked_for_together_are_those_asked_for_one_by_one(client):
    key = client.put_direction(safetensors.numpy.save({"directions": VECTORS}), "safetensors").hash

    def one(seed):
        return ask(client, seed=seed, steers=[Steer(seed % LAYERS, key, 2.0)] if seed % 2 else []).text

    alone = [one(seed) for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, range(8))) == alone
    assert len(set(alone)) > 4


def test_max_tokens_and_stop_strings_end_a_reply(client):
    whole = ask(client, max_tokens=8)
    assert (whole.finish_reason, whole.completion_tokens) == ("length", 8)
    stop = whole.text[3]
    cut = ask(client, max_tokens=8, stop=[stop])
    assert cut.finish_reason == "stop"
    assert cut.text == whole.text[: whole.text.index(stop)]


def test_a_prompt_that_fills_the_context_is_told_from_other_errors(client):
    with pytest.raises(ContextOverflow, match="the model's context 4096"):
        ask(client, messages=[{"role": "user", "content": "x" * 5000}])


@pytest.mark.parametrize(
    ("steer", "error", "said"),
    [
        (Steer(LAYERS, "?", 1.0), UsageError, "layer 4; the model has layers 0 to 3"),
        (Steer(0, "unheard-of", 1.0), EngineUnavailable, "no direction unheard-of"),
    ],
)
def test_a_steer_that_cannot_be_is_refused(client, steer, error, said):
    with pytest.raises(error, match=said):
        ask(client, steers=[steer])


def test_a_direction_of_another_models_shape_is_refused_with_both_shapes(client):
    with pytest.raises(UsageError, match=r"shape \[32, 2560\]; expected \[4, 32\]"):
        client.put_direction(safetensors.numpy.save({"directions": np.ones((32, 2560), np.float32)}), "safetensors")


def test_a_file_that_is_no_direction_and_a_steer_beyond_any_number_leave_the_engine_alive(client):
    with pytest.raises(UsageError, match=r"not a \.pt file"):
        client.put_direction(b"abc", "pt")
    key = client.put_direction(safetensors.numpy.save({"directions": VECTORS}), "safetensors").hash
    with pytest.raises(SteeringFault, match="not finite any more"):
        ask(client, steers=[Steer(1, key, 1e38)])
    assert ask(client).completion_tokens == 8


def test_residuals_come_back_in_the_order_of_the_conversations_whatever_the_requests(client, monkeypatch):
    from capvec.directions import capture as captures

    talks = [[*HELLO, {"role": "assistant", "content": "so " * count}] for count in (5, 90, 1, 40)]
    alone = [client.capture([talk], "mean-assistant") for talk in talks]
    assert {one.residuals.shape for one in alone} == {(1, LAYERS, WIDTH)}
    said = []
    monkeypatch.setattr(captures, "REQUEST_CHARACTERS", 290)  # the longest alone, then the others
    together = captures.capture_all(talks, client, said.append, "mean-assistant")
    assert [line.split("conversations ")[1] for line in said] == [
        "1 to 1 of 4, longest first",
        "2 to 4 of 4, longest first",
    ]
    assert together.residuals.dtype == np.float32
    for one, residual, tokens in zip(alone, together.residuals, together.tokens, strict=True):
        np.testing.assert_allclose(residual, one.residuals[0], rtol=1e-4, atol=1e-4)
        assert tokens == one.tokens[0]
    assert len({tokens - 3 * count for tokens, count in zip(together.tokens, (5, 90, 1, 40), strict=True)}) == 1
    assert together.truncated_tokens == (0, 0, 0, 0)


def test_what_was_cut_from_a_captured_conversation_is_told(client):
    talk = [*HELLO, {"role": "assistant", "content": "x" * 5000}]
    captured = client.capture([talk, HELLO], "last")
    assert captured.tokens[0] - CONTEXT == captured.truncated[0] > 900
    assert captured.truncated[1] == 0
    assert client.capture([talk], "mean-assistant").truncated_assistant[0] > 900


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"conversations": []}, "conversations: expected a list"),
        ({"conversations": [[]]}, "messages: expected a list"),
        ({"conversations": [HELLO], "pooling": "first"}, "'first': expected one of last, last-assistant"),
        ({"conversations": [HELLO], "pooling": "mean-last:0"}, "with K a whole number above 0"),
        ({"conversations": [HELLO], "position": "last"}, "unknown fields ['position']"),
        ({"conversations": [HELLO], "names": ["a", "b"]}, "names: expected 1 texts"),
        ({"conversations": [HELLO], "pooling": "last-assistant"}, "conversation 1: no token of the assistant's"),
        (
            {"conversations": [HELLO], "pooling": "last-assistant", "names": ["trace x"]},
            "trace x: no token of the assistant's",
        ),
    ],
)
def test_a_bad_capture_is_refused_with_words(engine, body, said):
    headers = {"Authorization": f"Bearer {engine.token}"}
    response = httpx.post(f"{engine.url}/v1/capture", json=body, headers=headers, trust_env=False)
    assert response.status_code == 400
    assert said in response.json()["error"]["message"]


def test_without_the_token_nothing_is_answered(engine):
    with (
        EngineClient(engine.url, "wrong") as stranger,
        pytest.raises(EngineUnavailable, match=r"401.*CAPVEC_ENGINE_TOKEN"),
    ):
        stranger.health()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"messages": []}, "messages: expected a list"),
        ({"messages": HELLO, "temperature": "hot"}, "temperature: 'hot'"),
        ({"messages": HELLO, "max_tokens": 0}, "max_tokens: 0; expected a whole number of at least 1"),
        ({"messages": HELLO, "steerring": []}, "unknown fields"),
        ({"messages": HELLO, "steering": [{"layer": 1}]}, "steering: not a Steer"),
        (
            {"messages": HELLO, "steering": [{"layer": 1, "direction": "d", "alpha": 2, "op": "ablate"}]},
            "a steer that ablates, with alpha 2; expected 1",
        ),
        ({"messages": HELLO, "stream": True}, "without stream"),
        ({"messages": HELLO, "stop": [1]}, "stop: [1]; expected"),
        ({"messages": HELLO, "stop": {"a": 1}}, "stop: {'a': 1}; expected"),
        ({"messages": HELLO, "steering": 5}, "steering: expected a list"),
        ({"messages": HELLO, "seed": 1.5}, "seed: 1.5; expected a whole number"),
        ({"messages": HELLO, "max_tokens": 1.5}, "max_tokens: 1.5; expected a whole number"),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, "lone surrogate"),
    ],
)
def test_a_bad_request_is_refused_with_words(engine, body, said):
    headers = {"Authorization": f"Bearer {engine.token}"}
    # Python's JSON escapes what is no Unicode, as a careless client would.
    content = json.dumps(body)
    response = httpx.post(f"{engine.url}/v1/chat/completions", content=content, headers=headers, trust_env=False)
    assert response.status_code == 400
    assert said in response.json()["error"]["message"]


def test_a_model_that_does_not_load_is_the_users_error(tmp_path):
    with (
        pytest.raises(UsageError, match="cannot load the model"),
        start_engine(ModelSource(str(tmp_path), "mine"), log_path=tmp_path / "engine.log"),
    ):
        pass


class NoSuchRepository(BaseHTTPRequestHandler):
    """A hub that answers as the real one does where it has no such model."""

    def do_HEAD(self):
        self.send_response(404)
        self.send_header("X-Error-Code", "RepoNotFound")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.mark.parametrize(
    ("there", "said"),
    [
        (True, "no such folder here, and the Hugging Face hub has none of that name, or a private one; check the id"),
        (False, "no such folder here, and the Hugging Face hub cannot be reached; connect to it, or download"),
    ],
)
def test_an_id_that_the_hub_does_not_give_is_said_in_one_sentence(tmp_path, monkeypatch, there, said):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    with ThreadingHTTPServer(("127.0.0.1", 0), NoSuchRepository) as hub:
        threading.Thread(target=hub.serve_forever, daemon=True).start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{hub.server_port}")
        monkeypatch.setenv("HF_HUB_OFFLINE", "0" if there else "1")
        with (
            pytest.raises(UsageError, match=f"^cannot load the model 'org/nothing': {said}") as refusal,
            start_engine(ModelSource("org/nothing", "org/nothing"), log_path=tmp_path / "engine.log"),
        ):
            pass
        hub.shutdown()
    assert len(str(refusal.value)) < 200


def test_a_killed_engine_is_unavailable_at_once(model_folder, tmp_path):
    with (
        start_engine(ModelSource(str(model_folder), "tiny"), log_path=tmp_path / "engine.log") as running,
        EngineClient(running.url, running.token) as client,
    ):
        ask(client)
        os.kill(running.pid, signal.SIGKILL)
        started = time.monotonic()
        with pytest.raises(EngineUnavailable, match="did not answer"):
            ask(client)
        assert time.monotonic() - started < 10


def test_the_engine_ends_when_the_process_that_started_it_is_killed(model_folder, tmp_path):
    script = (
        "import sys, time; from pathlib import Path\n"
        "from capvec.engines.process import start_engine; from capvec.engines.protocol import ModelSource\n"
        f"source, log = ModelSource({str(model_folder)!r}, 'tiny'), Path({str(tmp_path / 'e.log')!r})\n"
        "with start_engine(source, log_path=log) as e:\n"
        "    print(e.pid, flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    with parent:
        pid = int(parent.stdout.readline())
        parent.kill()
    deadline = time.monotonic() + 20
    while os.path.exists(f"/proc/{pid}/exe") and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not os.path.exists(f"/proc/{pid}/exe")
