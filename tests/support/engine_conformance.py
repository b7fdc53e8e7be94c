"""What every engine does: `tests/integration/test_engine_conformance.py` runs these tests against each.

A subclass names its engine in `choice`. The fixture `model_folder` is a model with a chat template, tokens that are
bytes, two layers or more, and a context of at most 32,768 tokens. Everything else is learned from the engine.
`capvec.engines` says what an engine is.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import psutil
import pytest
import safetensors.numpy

from capvec.engines.client import EngineClient
from capvec.engines.generation import Shaping
from capvec.engines.process import start_engine
from capvec.engines.protocol import DirectionInfo, ModelSource
from capvec.engines.selection import EngineChoice
from capvec.errors import ContextOverflow, EngineUnavailable, SteeringFault, UsageError
from capvec.receipts import check_receipts
from capvec.steering import Steer, direction_hash
from support.checked import asked

HELLO = [{"role": "user", "content": "hello"}]
TALK = [*HELLO, {"role": "assistant", "content": "hi there"}, *HELLO]


def post(engine, path, **body):
    """A raw request with the engine's token."""
    headers = {"Authorization": f"Bearer {engine.token}"}
    return httpx.post(f"{engine.url}{path}", headers=headers, timeout=600, trust_env=False, **body)


def put_direction(engine, vectors):
    """Sends a direction; gives the engine's answer."""
    response = post(engine, "/v1/directions", content=safetensors.numpy.save({"directions": vectors}))
    return DirectionInfo.from_json(response.raise_for_status().json())


def ask(client, messages=HELLO, **changes):
    return client.complete(messages, **({"seed": 1, "max_tokens": 8, "temperature": 0.8} | changes))


class EngineConformance:
    choice = EngineChoice()

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, model_folder, tmp_path_factory):
        log = tmp_path_factory.mktemp("log") / "engine.log"
        with start_engine(ModelSource(str(model_folder), "tiny"), log_path=log, choice=cls.choice) as running:
            yield running

    @pytest.fixture
    def client(self, engine):
        with EngineClient(engine.url, engine.token) as client:
            yield client

    @pytest.fixture
    def info(self, client):
        return client.health()

    @pytest.fixture
    def vectors(self, engine, client, info):
        """Random vectors, in every layer a third as long as a residual there."""
        noise = np.random.default_rng(0).standard_normal((info.n_layers, info.d_model)).astype(np.float32)
        key = put_direction(engine, noise).hash
        plain = ask(client, steers=[Steer(layer, key, 0.0) for layer in range(info.n_layers)])
        lengths = np.array([receipt.ambient_norm for receipt in plain.receipts])
        return (noise * (lengths / 3 / np.linalg.norm(noise, axis=1))[:, None]).astype(np.float32)

    @pytest.fixture
    def key(self, engine, vectors):
        return put_direction(engine, vectors).hash

    @pytest.fixture
    def check(self, info, vectors):
        """Holds a reply against what was asked for, as a worker does."""

        def check(reply, steers):
            check_receipts(reply, asked(steers, [vectors[steer.layer] for steer in steers]), info.layout)

        return check

    # ------------------------------------------------------------------------------------------------ what it is

    def test_health_describes_the_model(self, info):
        assert info.n_layers >= 2
        assert min(info.d_model, info.context_length) > 0
        assert all((info.model, info.dtype, info.blocks))

    def test_without_the_token_nothing_is_answered(self, engine):
        with EngineClient(engine.url, "wrong") as stranger, pytest.raises(EngineUnavailable, match="401"):
            stranger.health()

    def test_health_says_what_computes(self, info):
        assert info.backend.split()[0] == self.choice.kind
        assert info.backend_args == self.choice.args

    # ------------------------------------------------------------------------------------------------ chat

    def test_max_tokens_and_stop_strings_end_a_reply(self, client):
        whole = ask(client)
        assert (whole.finish_reason, whole.completion_tokens) == ("length", 8)
        stop = next(letter for letter in whole.text if letter.strip())
        cut = ask(client, stop=[stop])
        assert (cut.finish_reason, cut.text) == ("stop", whole.text[: whole.text.index(stop)])

    def test_what_shapes_the_draws_is_applied(self, client):
        likeliest = ask(client, temperature=0.0).text
        # The likeliest token alone is left, at any temperature, by each of these.
        for shaping in (Shaping(top_k=1), Shaping(top_p=1e-9), Shaping(min_p=1.0)):
            assert [ask(client, seed=seed, temperature=2.0, shaping=shaping).text for seed in (1, 2)] == [likeliest] * 2
        assert ask(client, temperature=0.0, shaping=Shaping(repetition_penalty=100.0)).text != likeliest

    def test_replies_asked_for_together_are_those_asked_for_one_by_one(self, client, info, key):
        def one(seed):
            return ask(client, seed=seed, steers=[Steer(seed % info.n_layers, key, 2.0)] if seed % 2 else []).text

        alone = [one(seed) for seed in range(8)]
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(one, range(8))) == alone
        assert len(set(alone)) > 4

    def test_a_prompt_that_fills_the_context_is_told_from_other_errors(self, client, info):
        long = [{"role": "user", "content": "x y z " * info.context_length}]
        with pytest.raises(ContextOverflow, match=str(info.context_length)):
            ask(client, long)

    # ------------------------------------------------------------------------------------------------ steering

    def test_a_direction_is_known_by_its_content_hash(self, engine, info, vectors):
        answer = put_direction(engine, vectors)
        assert (answer.hash, answer.n_layers, answer.d_model) == (direction_hash(vectors), info.n_layers, info.d_model)
        assert answer.norms == pytest.approx(np.linalg.norm(vectors, axis=1), rel=1e-5)

    @pytest.mark.parametrize("keep_norm", [False, True])
    @pytest.mark.parametrize("positions", ["all", "prompt", "generated", "assistant"])
    @pytest.mark.parametrize("op", ["add", "ablate", "set"])
    def test_every_operation_at_every_position_gives_a_receipt_that_passes(
        self, client, info, key, check, op, positions, keep_norm
    ):
        alpha = 1.0 if op == "ablate" else 1.5
        steers = [Steer(layer, key, alpha, op, positions, keep_norm) for layer in (0, info.n_layers - 1)]
        reply = ask(client, TALK, steers=steers)
        check(reply, steers)
        assert all(receipt.steered > 0 for receipt in reply.receipts)

    @pytest.mark.parametrize("positions", ["all", "prompt", "generated", "assistant"])
    def test_a_receipt_counts_the_positions_that_were_steered(self, client, info, key, positions):
        steers = [Steer(layer, key, 1.5, positions=positions) for layer in (1, info.n_layers - 1)]
        reply = ask(client, TALK, seed=5, steers=steers)
        generated, prompt = reply.completion_tokens - 1, reply.prompt_tokens - reply.cached_tokens
        counts = {
            "all": prompt + generated,
            "prompt": prompt,
            "generated": generated,
            "assistant": len("hi there") + generated,  # tokens are bytes
        }
        assert [receipt.steered for receipt in reply.receipts] == [counts[positions]] * 2

    def test_the_receipt_shows_alpha_times_the_norm(self, client, key, vectors):
        (receipt,) = ask(client, steers=[Steer(1, key, 1.5)]).receipts
        assert receipt.shift_mean == pytest.approx(1.5 * float(np.linalg.norm(vectors[1])), rel=0.01)

    def test_alpha_zero_changes_nothing_and_a_large_alpha_changes_the_reply(self, client, key, check):
        plain, zero, strong = ([], [Steer(1, key, 0.0)], [Steer(1, key, 30.0)])
        replies = [ask(client, steers=steers) for steers in (plain, zero, strong)]
        for reply, steers in zip(replies, (plain, zero, strong), strict=True):
            check(reply, steers)
        assert replies[0].text == replies[1].text != replies[2].text

    def test_a_reply_of_one_token_has_nothing_generated_to_steer(self, client, key, check):
        steers = [Steer(1, key, 1.5, positions="generated")]
        reply = ask(client, steers=steers, max_tokens=1)
        check(reply, steers)
        assert (reply.receipts[0].steered, reply.receipts[0].shift_mean) == (0, None)
        assert reply.text == ask(client, max_tokens=1).text

    def test_an_unsteered_reply_beside_a_steered_one_passes_the_isolation_check(self, client, key, check):
        jobs = [[Steer(1, key, 2.0)], []] * 4
        with ThreadPoolExecutor(8) as pool:
            replies = list(pool.map(lambda n: ask(client, seed=n, steers=jobs[n], max_tokens=64), range(8)))
        for reply, steers in zip(replies, jobs, strict=True):
            check(reply, steers)

    def test_the_next_turn_of_a_steered_conversation_passes_too(self, client, key, check):
        steers, messages = [Steer(1, key, 1.5)], list(HELLO)
        for _ in range(3):
            reply = ask(client, messages, steers=steers)
            check(reply, steers)
            messages += [{"role": "assistant", "content": reply.text}, *HELLO]

    def test_what_cannot_be_steered_is_refused_and_the_engine_goes_on(self, client, info, key):
        with pytest.raises(UsageError, match=f"layer {info.n_layers}"):
            ask(client, steers=[Steer(info.n_layers, key, 1.0)])
        with pytest.raises(EngineUnavailable, match="unheard-of"):
            ask(client, steers=[Steer(0, "unheard-of", 1.0)])
        with pytest.raises(SteeringFault, match="not finite"):
            ask(client, steers=[Steer(1, key, 1e19)])
        assert ask(client).completion_tokens == 8

    def test_what_is_no_direction_of_the_model_is_refused_with_both_shapes(self, engine, info):
        response = post(engine, "/v1/directions", content=b"abc")
        assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_value")
        shape = [info.n_layers + 1, info.d_model + 1]
        response = post(engine, "/v1/directions", content=safetensors.numpy.save({"directions": np.ones(shape)}))
        assert response.status_code == 400
        message = response.json()["error"]["message"]
        assert str(shape) in message
        assert str([info.n_layers, info.d_model]) in message

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (lambda vectors: {"directions": vectors.astype(np.int32)}, "int32.*floating point"),
            (lambda vectors: {"directions": np.full_like(vectors, np.inf)}, "not finite"),
            (lambda vectors: {"vectors": vectors}, "tensor `directions`"),
        ],
    )
    def test_a_file_that_holds_no_direction_is_refused_with_the_reason(self, client, vectors, change, said):
        with pytest.raises(UsageError, match=said):
            client.put_direction(safetensors.numpy.save(change(vectors)))

    def test_the_engine_tells_what_it_holds_and_that_it_goes_on(self, client, key):
        before = client.state()
        assert (key in before.directions, before.requests) == (True, 0)
        ask(client)
        assert client.state().steps > before.steps

    # ------------------------------------------------------------------------------------------------ capture

    @pytest.mark.parametrize("pooling", ["last", "last-assistant", "mean-assistant", "mean-last:3"])
    def test_residuals_come_back_in_the_order_of_the_conversations(self, client, info, pooling):
        talks = [[*HELLO, {"role": "assistant", "content": "so " * count}] for count in (5, 90, 1, 40)]
        together = client.capture(talks, pooling)
        assert (together.residuals.dtype, together.residuals.shape) == (np.float32, (4, info.n_layers, info.d_model))
        for number, talk in enumerate(talks):
            alone = client.capture([talk], pooling)
            np.testing.assert_allclose(together.residuals[number], alone.residuals[0], rtol=1e-2, atol=1e-2)
            assert together.tokens[number] == alone.tokens[0]
        assert list(together.truncated) == [0] * 4

    def test_what_was_cut_from_a_captured_conversation_is_counted(self, client, info):
        long = [*HELLO, {"role": "assistant", "content": "x y z " * info.context_length}]
        captured = client.capture([long, HELLO], "last")
        assert info.context_length - 1 <= captured.tokens[0] - captured.truncated[0] <= info.context_length
        assert captured.truncated[0] > 0
        assert captured.truncated[1] == 0
        assert client.capture([long], "mean-assistant").truncated_assistant[0] > 0

    @pytest.mark.parametrize(
        ("body", "said"),
        [
            ({"conversations": []}, "conversations"),
            ({"conversations": [[]]}, "messages"),
            ({"conversations": [HELLO], "pooling": "first"}, "'first'"),
            ({"conversations": [HELLO], "pooling": "mean-last:0"}, "above 0"),
            ({"conversations": [HELLO], "position": "last"}, "'position'"),
            ({"conversations": [HELLO], "names": ["a", "b"]}, "names"),
            ({"conversations": [HELLO], "pooling": "last-assistant"}, "conversation 1"),
            ({"conversations": [HELLO], "pooling": "last-assistant", "names": ["trace x"]}, "trace x"),
        ],
    )
    def test_a_bad_capture_is_refused_with_words(self, engine, body, said):
        response = post(engine, "/v1/capture", json=body)
        assert response.status_code == 400
        assert said in response.json()["error"]["message"]

    # ------------------------------------------------------------------------------------------------ bad requests

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"messages": []}, "messages"),
            ({"messages": [{"role": "user", "content": "\ud800"}]}, "surrogate"),
            ({"temperature": "hot"}, "temperature: 'hot'"),
            ({"max_tokens": 0}, "max_tokens: 0"),
            ({"max_tokens": 1.5}, "max_tokens: 1.5"),
            ({"seed": 1.5}, "seed: 1.5"),
            ({"stop": [1]}, "stop: [1]"),
            ({"stop": {"a": 1}}, "stop: {'a': 1}"),
            ({"stream": 1}, "stream: 1"),
            ({"top_p": 0}, "top_p: 0; expected a number above 0, at most 1"),
            ({"top_p": 1.5}, "top_p: 1.5; expected a number above 0, at most 1"),
            ({"response_format": {"type": "json_object"}}, "response_format"),
            ({"tool_choice": "required"}, "tool_choice: 'required'"),
            ({"steerring": []}, "steerring"),
            ({"steering": 5}, "steering"),
            ({"steering": [{"layer": 1}]}, "steering"),
            ({"steering": [{"layer": 1, "direction": "d", "alpha": 2, "op": "ablate"}]}, "alpha 2"),
        ],
    )
    def test_a_bad_request_is_refused_with_words(self, engine, changes, said):
        # Python's JSON escapes a lone surrogate, as a careless client would.
        content = json.dumps({"messages": HELLO} | changes)
        response = post(engine, "/v1/chat/completions", content=content)
        assert response.status_code == 400
        assert said in response.json()["error"]["message"]

    # ------------------------------------------------------------------------------------------------ its process

    def test_a_model_that_does_not_load_is_the_users_error(self, tmp_path):
        with (
            pytest.raises(UsageError, match="cannot load the model"),
            start_engine(ModelSource(str(tmp_path), "mine"), log_path=tmp_path / "log", choice=self.choice),
        ):
            pass

    def test_a_killed_engine_is_unavailable_at_once_and_leaves_no_process(self, model_folder, tmp_path):
        with (
            start_engine(
                ModelSource(str(model_folder), "tiny"), log_path=tmp_path / "log", choice=self.choice
            ) as running,
            EngineClient(running.url, running.token) as client,
        ):
            ask(client)
            group = [child.pid for child in psutil.Process(running.pid).children(recursive=True)]
            os.kill(running.pid, signal.SIGKILL)
            started = time.monotonic()
            with pytest.raises(EngineUnavailable, match="did not answer"):
                ask(client)
            assert time.monotonic() - started < 10
        wait_until_gone(*group)

    def test_the_engine_ends_when_the_process_that_started_it_is_killed(self, model_folder, tmp_path):
        choice = f"EngineChoice({self.choice.kind!r}, {dict(self.choice.args)!r})"
        script = (
            "import sys, time; from pathlib import Path\n"
            "from capvec.engines.process import start_engine; from capvec.engines.protocol import ModelSource\n"
            "from capvec.engines.selection import EngineChoice\n"
            f"source, log = ModelSource({str(model_folder)!r}, 'tiny'), Path({str(tmp_path / 'e.log')!r})\n"
            f"with start_engine(source, log_path=log, choice={choice}) as e:\n"
            "    print(e.pid, flush=True); time.sleep(600)"
        )
        parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
        with parent:
            pid = int(parent.stdout.readline())
            group = [child.pid for child in psutil.Process(pid).children(recursive=True)]
            parent.kill()
        wait_until_gone(pid, *group)


def wait_until_gone(*pids):
    """Waits for the end of processes, which may have no parent that reads their status."""
    deadline = time.monotonic() + 20
    while (left := [pid for pid in pids if os.path.exists(f"/proc/{pid}/exe")]) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left
