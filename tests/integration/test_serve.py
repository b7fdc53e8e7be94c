"""`capvec serve`: each config is a model to any client, and no answer leaves whose receipts do not hold."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy
from support.raw_http import TOKEN as ENGINE_TOKEN
from support.raw_http import served
from support.served_models import TOKEN, capvec_serve
from support.tiny_models import LAYERS, WIDTH, load_tiny, save_tiny

from capvec.directions.direction import Direction
from capvec.engines.client import EngineClient
from capvec.errors import EngineUnavailable
from capvec.plan.plan import steered_config
from capvec.records import Config

pytestmark = pytest.mark.integration

HELLO = [{"role": "user", "content": "hello"}]
NAMES = [
    *("baseline", "steered-L1-a2", "steered-L1-a4", "zero-L1", "random1-L1-a2", "random2-L1-a2", "random1-L1-a4"),
    *("random2-L1-a4", "prompt"),
]


def direction_file(path):
    vectors = np.random.default_rng(0).standard_normal((LAYERS, WIDTH)).astype(np.float32)
    path.write_bytes(safetensors.numpy.save({"directions": vectors}))
    return path


@pytest.fixture(scope="module")
def steering(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    model = save_tiny(folder / "tiny", "llama")
    path = direction_file(folder / "dir.safetensors")
    return ["--model", str(model), "--direction", str(path), "--layer", "1", "--alpha", "2,4"]


@pytest.fixture(scope="module")
def running(steering, tmp_path_factory):
    with capvec_serve(tmp_path_factory.mktemp("serve"), *steering, "--controls", "zero,random:2,prompt") as server:
        yield server


def said(answer):
    return answer["choices"][0]["message"]["content"]


def test_the_models_have_the_names_of_the_configs_of_a_sweep(running):
    listed = running.ask("/v1/models").json()
    assert [one["id"] for one in listed["data"]] == NAMES
    assert {one["object"] for one in listed["data"]} == {"model"}
    assert all(isinstance(one["created"], int) for one in listed["data"])


def test_a_name_steers_and_its_receipts_are_on_disk(running):
    answers = {name: running.chat(name, seed=7, temperature=0.0) for name in NAMES}
    assert said(answers["baseline"]) == said(answers["zero-L1"])
    assert said(answers["baseline"]) != said(answers["steered-L1-a4"])
    lines = {line["id"]: line for line in running.lines()}
    for name, answer in answers.items():
        line = lines[answer["id"]]
        assert (answer["model"], line["model"], line["held"], line["fault"]) == (name, name, True, "")
        assert (line["seed"], line["created"]) == (7, answer["created"])
        assert line["usage"]["completion_tokens"] == answer["usage"]["completion_tokens"]
        assert [receipt["steer"] for receipt in line["receipts"]] == line["steers"]
        assert len(line["steers"]) == (0 if name in ("baseline", "prompt") else 1)
    steered = lines[answers["steered-L1-a4"]["id"]]["receipts"][0]
    weaker = lines[answers["steered-L1-a2"]["id"]]["receipts"][0]
    assert steered["shift_mean"] == pytest.approx(2 * weaker["shift_mean"], rel=1e-3)


def test_the_prompt_control_adds_its_words_and_no_steer(running):
    tokens = {name: running.chat(name)["usage"]["prompt_tokens"] for name in ("baseline", "prompt")}
    assert tokens["prompt"] > tokens["baseline"]


def test_without_a_seed_replies_differ_and_the_file_says_which_seed_it_was(running):
    answers = [running.chat("steered-L1-a2", max_tokens=12) for _ in range(3)]
    assert len(set(map(said, answers))) == 3
    seed = next(line["seed"] for line in running.lines() if line["id"] == answers[0]["id"])
    assert said(running.chat("steered-L1-a2", max_tokens=12, seed=seed)) == said(answers[0])


@pytest.mark.parametrize(
    ("changes", "status", "expected"),
    [
        ({"model": "steered-L1-a3"}, 404, "this engine serves baseline, steered-L1-a2"),
        ({"model": 5}, 400, "model: 5"),
        ({"steering": [{"layer": 1, "direction": "d", "alpha": 1}]}, 400, "model and steering"),
    ],
)
def test_what_names_no_config_is_refused_in_the_shape_of_openai(running, changes, status, expected):
    answer = running.ask("/v1/chat/completions", {"model": "baseline", "messages": HELLO} | changes)
    assert answer.status_code == status
    assert expected in answer.json()["error"]["message"]


def test_the_standing_token_is_asked_for(running):
    assert running.ask("/v1/models", token="another").status_code == 401
    assert running.ask("/health", token=TOKEN).json()["model"]


def test_sweeps_use_the_same_server_with_steers_of_their_own(running):
    with EngineClient(running.url, TOKEN) as client:
        before = len(running.lines())
        reply = client.complete(HELLO, seed=1, max_tokens=4, temperature=0.0)
        assert reply.isolation is not None
        assert len(running.lines()) == before
        with pytest.raises(EngineUnavailable, match="publishes other configs"):
            client.publish([Config("baseline", "baseline")])


# ---------------------------------------------------------------------------------------------------- receipts


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    """An engine in this process, of which a test can publish what it likes."""
    from capvec.engines.transformers.scheduler import Scheduler

    loaded = load_tiny(tmp_path_factory.mktemp("model"), "llama")
    scheduler = Scheduler(loaded, max_rows=4, prefix_bytes=1 << 20)
    yield loaded, scheduler
    scheduler.close()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda config: replace(config, targets=(config.targets[0] * 1.5,)), "measured a mean shift of"),
        (lambda config: replace(config, vectors=("0" * 16,)), "the vector that was multiplied has the hash"),
        (lambda config: config, ""),
    ],
)
def test_a_reply_whose_receipt_does_not_hold_is_an_error_and_recorded_as_one(engine, tmp_path, change, expected):
    from capvec.engines.endpoints import build_app
    from capvec.engines.transformers.server import Engine

    direction = Direction.read(direction_file(tmp_path / "dir.safetensors"))
    endpoints = Engine(*engine, ENGINE_TOKEN)
    endpoints.published.record(tmp_path / "receipts.jsonl")
    with served(build_app(endpoints)) as server, EngineClient(server.url, ENGINE_TOKEN) as client:
        client.put_direction(direction.to_bytes())
        client.publish([change(steered_config(direction, 1, 2.0))])
        body = {"model": "steered-L1-a2", "messages": HELLO, "max_tokens": 4}
        answer = server.post("/v1/chat/completions", json.dumps(body).encode())
    (line,) = map(json.loads, (tmp_path / "receipts.jsonl").read_text().splitlines())
    assert line["held"] is not bool(expected)
    assert expected in line["fault"]
    if expected:
        assert (answer.status, answer.error["code"]) == (500, "steering_fault")
        assert expected in answer.error["message"]
    else:
        assert answer.status == 200
