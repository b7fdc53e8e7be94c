"""The engine as a process: what it answers, what it refuses, and how it ends."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from support.chat_templates import tokenizer_of
from support.engine_conformance import HELLO, ask
from support.tiny_models import CONTEXT, LAYERS, WIDTH, save_reciting, save_tiny

from capvec.agent.protocols import get_protocol
from capvec.engines.client import EngineClient
from capvec.engines.process import client_of, start_engine
from capvec.engines.protocol import ModelSource
from capvec.errors import EngineUnavailable, UsageError
from capvec.thoughts import THINK

pytestmark = pytest.mark.integration


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


def test_health_tells_the_models_size(client):
    health = client.health()
    assert (health.model, health.n_layers, health.d_model, health.context_length) == ("tiny", LAYERS, WIDTH, CONTEXT)
    assert health.dtype == "float32"


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


# ---------------------------------------------------------------------------------------------------- chat templates


@contextmanager
def reciting(folder, name, said, talk, thinking, end="<|im_end|>"):
    """A client of an engine whose model answers `talk` with `said`; `end` is the tokenizer's own end of a text."""
    from capvec.engines.template_probes import inspect_template

    tokenizer = tokenizer_of(name)
    tokenizer.add_special_tokens({"eos_token": end})
    prompt = inspect_template(tokenizer, name).ids(talk, prompt=True, thinking=thinking)
    save_reciting(folder, tokenizer, prompt, said)
    with client_of(ModelSource(str(folder), name), folder / "engine.log") as client:
        yield client


def test_a_turn_that_the_model_invents_is_no_part_of_its_reply(tmp_path):
    invented = "<|im_end|>\n<|im_start|>user\nok<|im_end|>\n<|im_start|>assistant\n```bash\nrm -rf /app\n```"
    with reciting(tmp_path, "chatml", f"Nothing yet.{invented}", HELLO, None, end="<|endoftext|>") as client:
        reply = ask(client, max_tokens=200, temperature=0)
    assert (reply.text, reply.finish_reason) == ("Nothing yet.", "stop")


def test_a_command_that_holds_a_special_token_arrives_whole(tmp_path):
    command = "```bash\ngrep -c '[THINK]' log; sed -i 's#[INST]##' a; echo '[/THINK]'\n```"
    with reciting(tmp_path, "magistral", f"[THINK]I count.[/THINK]{command}", HELLO, None) as client:
        reply = ask(client, max_tokens=200, temperature=0)
    assert (reply.thought, reply.text) == ("I count.", command)


@pytest.mark.parametrize(
    ("name", "said", "thinking"),
    [
        ("deepseek-v3", "I look.\n</think>\n\n```bash\nls\n```", "on"),
        (
            "gpt-oss",
            "<|channel|>analysis<|message|>I look.<|end|><|start|>assistant<|channel|>final<|message|>```bash\nls\n```",
            None,
        ),
    ],
)
def test_what_a_model_thinks_is_apart_from_what_it_answers_and_no_command(tmp_path, name, said, thinking):
    parse = get_protocol("bash-block").parse
    with reciting(tmp_path, name, said, HELLO, thinking) as client:
        reply = ask(client, max_tokens=200, temperature=0, thinking=thinking)
        assert (reply.thought, reply.text.strip(), reply.finish_reason) == ("I look.", "```bash\nls\n```", "stop")
        assert parse(reply.text).commands == ("ls",)
        # Cut within its thought, the reply answers nothing.
        half = len(tokenizer_of(name)(said[: said.index("look")], add_special_tokens=False)["input_ids"])
        cut = ask(client, max_tokens=half, temperature=0, thinking=thinking)
        assert (cut.thought, cut.text, cut.finish_reason) == ("I", "", "length")


def test_a_thought_that_begins_within_a_reply_is_known_by_the_models_own_tags(tmp_path):
    protocol, block = get_protocol("bash-block"), "```bash\nrm -rf /app\n```"
    said = f"I look.\n<think>\n{block}\n</think>\nThere is nothing to do."
    with reciting(tmp_path, "qwen3", said, HELLO, "off") as client:
        reply = ask(client, max_tokens=200, temperature=0)
    assert (reply.text, reply.tags) == (said, THINK)
    settled = protocol.settled(reply)
    assert (settled.thought, settled.text) == (block, "I look.\n\nThere is nothing to do.")
    assert protocol.read(settled).commands == ()


def test_a_model_without_a_system_role_answers_the_system_text_in_the_first_message(tmp_path):
    talk = [{"role": "system", "content": "You act in a shell."}, *HELLO]
    with reciting(tmp_path, "gemma", "DONE", talk, None) as client:
        assert client.health().template.system == "refused"
        assert ask(client, talk, max_tokens=20, temperature=0).text == "DONE"
        client.capture([talk], "last")
        with pytest.raises(EngineUnavailable, match=r"400 .*cannot render a conversation of user, user: .*alternate"):
            ask(client, [*HELLO, *HELLO])
        with pytest.raises(UsageError, match=r"^mine: .*cannot render a conversation of assistant: .*; leave it out"):
            client.capture([[{"role": "assistant", "content": "hi"}]], "last", names=["mine"])
