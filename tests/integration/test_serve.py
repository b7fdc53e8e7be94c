"""`capvec serve`: each config is a model to any client, and no answer leaves whose receipts do not hold."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy
from support.chat_templates import tokenizer_of
from support.raw_http import TOKEN as ENGINE_TOKEN
from support.raw_http import served
from support.served_models import TOKEN, capvec_serve
from support.tiny_models import CHATML, LAYERS, WIDTH, byte_tokenizer, load_tiny, save_reciting, save_tiny

from capvec.directions.direction import Direction
from capvec.engines.client import EngineClient
from capvec.engines.template_probes import inspect_template
from capvec.errors import EngineUnavailable
from capvec.plan.configs import steered_config
from capvec.records import Config
from capvec.results.served import read_served

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


@pytest.fixture(scope="module")
def thinking(tmp_path_factory):
    """A model that answers with a thought where its chat template was told to think."""
    folder = tmp_path_factory.mktemp("thinking")
    tokenizer = tokenizer_of("deepseek-v3")
    tokenizer.add_special_tokens({"eos_token": "<|im_end|>"})
    prompt = inspect_template(tokenizer, "deepseek-v3").ids(HELLO, prompt=True, thinking="on")
    save_reciting(folder / "model", tokenizer, prompt, "I look.</think>Here.")
    with capvec_serve(folder, "--model", str(folder / "model")) as server:
        yield server


def test_the_switch_of_the_chat_template_is_used_under_its_own_name(thinking):
    def message(**fields):
        (choice,) = thinking.chat("baseline", messages=HELLO, temperature=0, max_tokens=40, **fields)["choices"]
        return choice["message"]

    on = message(chat_template_kwargs={"thinking": True})
    assert (on["reasoning_content"], on["content"]) == ("I look.", "Here.")
    off = message(chat_template_kwargs={"thinking": False})
    assert off == message()
    assert off != on


@pytest.mark.parametrize(("name", "has"), [("enable_thinking", "its one switch is thinking"), ("tools", "thinking")])
def test_a_variable_on_which_the_chat_template_does_not_act_is_refused_by_name(thinking, running, name, has):
    body = {"messages": HELLO, "chat_template_kwargs": {name: True}}
    answer = thinking.ask("/v1/chat/completions", body | {"model": "baseline"})
    assert answer.status_code == 400
    assert name in answer.json()["error"]["message"]
    assert has in answer.json()["error"]["message"]
    none = running.ask("/v1/chat/completions", body | {"model": "baseline"})
    assert none.status_code == 400
    assert "it has no switch" in none.json()["error"]["message"]


def test_the_models_have_the_names_of_the_configs_of_a_sweep(running):
    listed = running.ask("/v1/models").json()
    assert [one["id"] for one in listed["data"]] == NAMES
    assert {one["object"] for one in listed["data"]} == {"model"}
    assert all(isinstance(one["created"], int) for one in listed["data"])


@pytest.mark.parametrize("name", ["baseline", "steered-L1-a2"])
def test_a_model_is_described_by_its_name(running, name):
    listed = running.ask("/v1/models").json()["data"]
    assert running.ask(f"/v1/models/{name}").json() == next(one for one in listed if one["id"] == name)


@pytest.mark.parametrize("path", ["nothing", "", "baseline/", "a/b%2Fc"])
def test_a_model_that_is_not_published_is_not_found(running, path):
    answer = running.ask(f"/v1/models/{path}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found" if path else "not_found")


def test_the_tokens_of_a_text_are_told_and_their_text_is_it(running):
    about = running.ask("/tokenizer_info").json()
    assert about["eos_token"] == "<|im_end|>"
    assert "<|im_start|>" in about["chat_template"]
    told = running.ask("/tokenize", {"prompt": "é <|im_end|>", "add_special_tokens": False}).json()
    assert told["count"] == len(told["tokens"]) == len("é ".encode()) + 1
    assert running.ask("/detokenize", {"tokens": told["tokens"]}).json() == {"prompt": "é <|im_end|>"}


def test_seeds_are_honoured_whole(running):
    seeds = [7, 7 + 2**32, 7 + 2**40, -7, 2**63 - 1]
    first, again = ([said(running.chat("baseline", seed=seed, max_tokens=12)) for seed in seeds] for _ in range(2))
    assert first == again
    assert len(set(first)) == len(seeds)


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
        assert [receipt["steer"] for receipt in line["receipts"]] == line["config"]["steers"]
        assert len(line["config"]["steers"]) == (0 if name in ("baseline", "prompt") else 1)
    steered = lines[answers["steered-L1-a4"]["id"]]["receipts"][0]
    weaker = lines[answers["steered-L1-a2"]["id"]]["receipts"][0]
    assert steered["shift_mean"] == pytest.approx(2 * weaker["shift_mean"], rel=1e-3)
    assert all(one.held for one in read_served(running.receipts).values())  # each line, checked again


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


@pytest.mark.parametrize(
    ("path", "asked"), [("chat/completions", {"messages": HELLO}), ("completions", {"prompt": "a"})]
)
@pytest.mark.parametrize("absent", [{}, {"model": None}, {"model": None, "steering": None}])
def test_a_request_that_names_no_model_and_gives_no_steers_is_refused_with_the_names(running, path, asked, absent):
    answer = running.ask(f"/v1/{path}", asked | {"max_tokens": 2} | absent)
    assert answer.status_code == 400
    assert f"expected one of {', '.join(NAMES)}" in answer.json()["error"]["message"]
    assert running.ask(f"/v1/{path}", asked | {"max_tokens": 2, "steering": []}).status_code == 200


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


# ---------------------------------------------------------------------------------------------------- what clients send

CHAT, TEXT, STEERED = "/v1/chat/completions", "/v1/completions", "steered-L1-a2"
ADD = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}


def test_what_clients_send_beside_the_usual_is_taken(running):
    talk = [
        {"role": "developer", "content": [{"type": "text", "text": "Be"}, {"type": "text", "text": "brief."}]},
        {"role": "user", "content": "add", "name": "me"},
        {"role": "assistant", "content": None,
         "tool_calls": [{"id": "a", "type": "function", "function": {"name": "add", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "a", "content": [{"type": "text", "text": "2"}]},
    ]  # fmt: skip
    nulls = dict.fromkeys(
        ("top_p", "stop", "tools", "tool_choice", "logprobs", "response_format", "n", "stream", "seed")
    )
    more = {"user": "u", "metadata": {"a": "b"}, "store": False, "parallel_tool_calls": None, "stream_options": None}
    answer = running.chat(STEERED, messages=talk, **nulls, **more, top_k=None, presence_penalty=None)
    assert answer["object"] == "chat.completion"
    assert answer["id"].startswith("chatcmpl-")
    assert abs(answer["created"] - time.time()) < 60
    usage = answer["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_several_choices_have_seeds_of_their_own_and_the_first_that_of_the_request(running):
    one = running.chat(STEERED, seed=3, max_tokens=10)
    three = running.chat(STEERED, seed=3, n=3, max_tokens=10)
    assert [choice["index"] for choice in three["choices"]] == [0, 1, 2]
    assert said(three) == said(one)
    assert len({choice["message"]["content"] for choice in three["choices"]}) == 3
    lines = [line for line in running.lines() if line["id"] == three["id"]]
    assert [line["choice"] for line in lines] == [0, 1, 2]
    assert len({line["seed"] for line in lines}) == 3
    assert three["usage"]["completion_tokens"] == sum(line["usage"]["completion_tokens"] for line in lines)
    assert three["usage"]["prompt_tokens"] == one["usage"]["prompt_tokens"]


def test_sampling_parameters_change_what_is_drawn(running):
    plain = {said(running.chat("baseline", seed=seed, max_tokens=12)) for seed in range(3)}
    for shaping in ({"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1.0}):
        drawn = {said(running.chat("baseline", seed=seed, max_tokens=12, **shaping)) for seed in range(3)}
        assert drawn == {said(running.chat("baseline", temperature=0, max_tokens=12))}
    assert len(plain) == 3
    assert said(running.chat("baseline", logit_bias={"65": 100}, max_tokens=4, temperature=0)) == chr(65 + 33) * 4


def test_log_probabilities_are_those_of_the_model(running):
    answer = running.chat("baseline", temperature=0, logprobs=True, top_logprobs=3)
    content = answer["choices"][0]["logprobs"]["content"]
    assert "".join(one["token"] for one in content) == said(answer)
    for one in content:
        assert len(one["top_logprobs"]) == 3
        assert one["top_logprobs"][0]["logprob"] == one["logprob"] == max(top["logprob"] for top in one["top_logprobs"])
    warm = running.chat("baseline", seed=1, temperature=2.0, top_k=5, logprobs=True)["choices"][0]["logprobs"][
        "content"
    ]
    assert all(one["logprob"] < 0 for one in warm)
    assert running.chat("baseline")["choices"][0]["logprobs"] is None


@pytest.mark.parametrize(
    "fields", [{}, {"stop": ["e"], "n": 2}, {"logprobs": True, "top_logprobs": 1}, {"tools": [ADD]}]
)
def test_a_stream_is_the_answer_in_pieces(running, fields):
    asked = {"seed": 5, "max_tokens": 30, "temperature": 1.0} | fields
    whole = running.chat(STEERED, **asked)
    before = len(running.lines())
    events = running.events(CHAT, model=STEERED, messages=HELLO, **asked, stream_options={"include_usage": True})
    assert events.pop() == "[DONE]"
    usage = events.pop()
    assert (usage["choices"], usage["usage"]["completion_tokens"]) == ([], whole["usage"]["completion_tokens"])
    assert {(event["object"], event["usage"]) for event in events} == {("chat.completion.chunk", None)}
    assert len({event["id"] for event in events}) == 1
    pieces = [event["choices"][0] for event in events]
    for choice in whole["choices"]:
        own = [piece for piece in pieces if piece["index"] == choice["index"]]
        assert own[0]["delta"]["role"] == "assistant"
        assert "".join(piece["delta"].get("content") or "" for piece in own) == choice["message"]["content"]
        assert [piece["finish_reason"] for piece in own] == [None] * (len(own) - 1) + [choice["finish_reason"]]
        assert own[-1]["steering_receipts"][0]["steer"] == choice["steering_receipts"][0]["steer"]
        if choice["logprobs"]:
            told = [one for piece in own if piece["logprobs"] for one in piece["logprobs"]["content"]]
            assert [one["token"] for one in told] == [one["token"] for one in choice["logprobs"]["content"]]
    assert len(running.lines()) == before + len(whole["choices"])
    assert len(pieces) > 2 * len(whole["choices"]) or "tools" in fields


def test_completions_continue_texts_and_tokens(running):
    body = {"model": STEERED, "prompt": ["one two", "three"], "max_tokens": 5, "temperature": 0, "logprobs": 2, "n": 2}
    answer = running.ask(TEXT, body).json()
    assert (answer["object"], [choice["index"] for choice in answer["choices"]]) == ("text_completion", [0, 1, 2, 3])
    first, again, other, _ = answer["choices"]
    assert first["text"] == again["text"] != other["text"]
    assert "".join(first["logprobs"]["tokens"]) == first["text"]
    assert first["logprobs"]["text_offset"][0] == 0
    assert max(first["logprobs"]["text_offset"]) < len(first["text"])
    assert 1 <= len(first["logprobs"]["top_logprobs"][0]) <= 2  # two parts of characters have one text
    events = running.events(TEXT, **body)
    texts = ["".join(e["choices"][0]["text"] for e in events[:-1] if e["choices"][0]["index"] == n) for n in range(4)]
    assert texts == [choice["text"] for choice in answer["choices"]]
    refused = running.ask(TEXT, body | {"model": "prompt"})
    assert (refused.status_code, "system prompt" in refused.text) == (400, True)


@pytest.mark.parametrize("fields", [{}, {"max_tokens": 0}, {"n": 2, "stop": ["e"]}])
def test_a_stream_may_echo_its_prompt_as_its_first_piece(running, fields):
    body = {"model": STEERED, "prompt": ["one two", "three"], "max_tokens": 8, "seed": 3, "echo": True} | fields
    answer = running.ask(TEXT, body).json()
    *events, end = running.events(TEXT, **body)
    assert end == "[DONE]"
    pieces = [event["choices"][0] for event in events]
    for choice in answer["choices"]:
        own = [piece for piece in pieces if piece["index"] == choice["index"]]
        assert own[0]["text"] == body["prompt"][choice["index"] // body.get("n", 1)]
        assert "".join(piece["text"] for piece in own) == choice["text"]
        assert own[-1]["finish_reason"] == choice["finish_reason"]


def test_a_call_that_must_come_begins_and_what_is_no_call_stays_words(running):
    answer = running.chat(STEERED, tools=[ADD], tool_choice={"type": "function", "function": {"name": "add"}})
    assert said(answer).startswith('<tool_call>\n{"name": "add"')
    assert "tool_calls" not in answer["choices"][0]["message"]
    tokens = [running.chat("baseline", tools=[ADD], tool_choice=choice) for choice in ("none", "auto")]
    assert tokens[0]["usage"]["prompt_tokens"] < tokens[1]["usage"]["prompt_tokens"]


@pytest.mark.parametrize("stream", [False, True])
def test_the_calls_of_a_model_are_told_from_its_words(tmp_path, stream):
    from capvec.engines.endpoints import build_app
    from capvec.engines.tools import Tools, in_words
    from capvec.engines.transformers.models import load_model
    from capvec.engines.transformers.scheduler import Scheduler
    from capvec.engines.transformers.server import Engine

    text = 'I add.\n<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'
    tokenizer = byte_tokenizer(CHATML)
    prompt = tokenizer.apply_chat_template(
        list(in_words(HELLO, Tools((ADD,)))), add_generation_prompt=True, return_dict=False
    )
    loaded = load_model(str(save_reciting(tmp_path, tokenizer, prompt, text)), dtype="float32", device="cpu")
    scheduler = Scheduler(loaded, max_rows=4, prefix_bytes=1 << 20)
    body = {"model": "baseline", "messages": HELLO, "tools": [ADD], "temperature": 0, "stream": stream}
    with served(build_app(Engine(loaded, scheduler, ENGINE_TOKEN))) as server:
        answer = server.post(CHAT, json.dumps(body).encode())
    scheduler.close()
    if stream:
        pieces = [json.loads(line[6:])["choices"][0] for line in answer.body.decode().split("\n\n")[:-2]]
        words = "".join(piece["delta"].get("content") or "" for piece in pieces)
        calls, finish = pieces[-1]["delta"]["tool_calls"], pieces[-1]["finish_reason"]
    else:
        (choice,) = json.loads(answer.body)["choices"]
        words, calls, finish = choice["message"]["content"], choice["message"]["tool_calls"], choice["finish_reason"]
    assert (words, finish) == ("I add.\n", "tool_calls")
    assert [(call["function"]["name"], json.loads(call["function"]["arguments"])) for call in calls] == [
        ("add", {"a": 1})
    ]


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
        answer = server.post(CHAT, json.dumps(body).encode())
        streamed = server.post(CHAT, json.dumps(body | {"stream": True}).encode())
    lines = [json.loads(line) for line in (tmp_path / "receipts.jsonl").read_text().splitlines()]
    assert [line["held"] for line in lines] == [not expected] * 2
    assert all(expected in line["fault"] for line in lines)
    assert streamed.status == 200
    last = streamed.body.decode().strip().split("\n\n")[-1].removeprefix("data: ")
    if expected:
        assert expected in json.loads(last)["error"]["message"]
        assert "[DONE]" not in streamed.body.decode()
        assert (answer.status, answer.error["code"]) == (500, "steering_fault")
        assert expected in answer.error["message"]
    else:
        assert answer.status == 200
        assert last == "[DONE]"
