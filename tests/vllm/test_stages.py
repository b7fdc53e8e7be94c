"""With pipeline parallelism an engine's model is in two processes, one behind the other."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import numpy as np
import pytest
from support.checked import asked
from support.engine_conformance import HELLO, ask
from support.tiny_models import LAYERS, VECTORS
from support.vllm_processes import cores, put, until

from capvec.engines.client import EngineClient
from capvec.engines.selection import EngineChoice
from capvec.engines.supervised import SupervisedEngine
from capvec.engines.vllm import versions
from capvec.errors import EngineUnavailable
from capvec.receipts import check_receipts
from capvec.steering import Steer

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.integration,
    pytest.mark.skipif(bool(versions.problem()), reason=f"{versions.problem()}; make test-vllm runs these"),
]

CHOICE = EngineChoice("vllm", {"enforce_eager": True, "pipeline_parallel_size": 2})
TALKS = [[{"role": "user", "content": f"List the files of folder {number}. " * (number + 1)}] for number in range(6)]


def test_requests_at_once_are_the_references_each_with_its_receipts(client, reference):
    key, layout = put(client), client.health().layout
    put(reference)
    steers = [[], *([Steer(number % LAYERS, key, 1.0 + number)] for number in range(1, len(TALKS)))]

    def reply(number):
        found = ask(client, TALKS[number], temperature=0, max_tokens=40, steers=steers[number])
        check_receipts(found, asked(steers[number], [VECTORS[one.layer] for one in steers[number]]), layout)
        return found.text

    with ThreadPoolExecutor(len(TALKS)) as pool:
        texts = list(pool.map(reply, range(len(TALKS))))
    theirs = [
        ask(reference, talk, temperature=0, max_tokens=40, steers=own).text
        for talk, own in zip(TALKS, steers, strict=True)
    ]
    assert texts == theirs


def test_a_seed_draws_the_same_tokens_whoever_else_is_served(client):
    def drawn(seed):
        return ask(client, TALKS[seed], temperature=1.0, seed=seed, max_tokens=20).text

    alone = [drawn(seed) for seed in range(3)]
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(drawn, range(3))) == alone


def test_a_reply_that_ends_at_a_stop_string_has_its_receipts(client):
    steers = [Steer(1, put(client), 2.0)]
    stop = ask(client, TALKS[0], temperature=0, max_tokens=40, steers=steers).text[6:8]
    reply = ask(client, TALKS[0], temperature=0, max_tokens=40, steers=steers, stop=[stop])
    check_receipts(reply, asked(steers, [VECTORS[1]]), client.health().layout)
    assert reply.finish_reason == "stop"


def test_captured_residuals_are_the_references(client, reference):
    ours, theirs = (one.capture([*TALKS, HELLO], "mean-last:5") for one in (client, reference))
    np.testing.assert_allclose(ours.residuals, theirs.residuals, rtol=1e-3, atol=1e-3)
    assert list(ours.tokens) == list(theirs.tokens)


def test_a_stage_that_dies_is_an_engine_that_ended_and_is_started_again(source, tmp_path):
    """The other one waits for it."""
    with (
        closing(SupervisedEngine(source, tmp_path / "log", CHOICE)) as engine,
        EngineClient(engine.url, engine.token) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        key = put(client)
        waiting = pool.submit(ask, client, max_tokens=2000, steers=[Steer(1, key, 1.0)])
        assert until(lambda: client.state().requests, 20)
        (core,) = cores()
        next(one for one in core.children() if "PP0" in " ".join(one.cmdline())).kill()
        with pytest.raises(EngineUnavailable):
            waiting.result(60)
        assert until(lambda: engine.ended, 30)
        assert "a process of vLLM died" in (tmp_path / "log").read_text(errors="replace")
        engine.revive()
        client.restore_directions()
        assert ask(client, steers=[Steer(1, key, 1.0)]).receipts[0].steered > 0
