"""vLLM as a process of capvec's: what it refuses, what it shares between conversations, and how it breaks."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import numpy as np
import psutil
import pytest
from support.checked import asked
from support.engine_conformance import HELLO, ask
from support.tiny_models import LAYERS, VECTORS
from support.vllm_processes import cores, put, until

from capvec.engines.client import EngineClient
from capvec.engines.process import client_of, start_engine
from capvec.engines.selection import EngineChoice
from capvec.engines.supervised import SupervisedEngine
from capvec.engines.vllm import versions
from capvec.engines.vllm.arguments import REFUSED, STAGES
from capvec.engines.vllm.health import STALLED_S
from capvec.errors import EngineUnavailable, UsageError
from capvec.receipts import check_receipts
from capvec.steering import Steer

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.integration,
    pytest.mark.skipif(bool(versions.problem()), reason=f"{versions.problem()}; make test-vllm runs these"),
]

CHOICE = EngineChoice("vllm", {"enforce_eager": True})
"""Without compiling, which takes longer than these tests."""
LONG = [{"role": "user", "content": "List the files, and say how many there are. " * 20}]


# ---------------------------------------------------------------------------------------------------- what it refuses


def test_every_argument_that_is_refused_is_one_of_vllms():
    """By the names of the tested version; another may have others."""
    from dataclasses import fields

    from vllm import AsyncEngineArgs

    assert set(REFUSED) <= {field.name for field in fields(AsyncEngineArgs)}


@pytest.mark.parametrize("args", [{"no_such_argument": 1}, {"max_model_len": 10**9}, {"max_num_partial_prefills": 2}])
def test_what_vllm_does_not_take_is_said_in_one_sentence(source, tmp_path, args):
    with (
        pytest.raises(UsageError, match=r"^vLLM refuses to serve .*"),
        start_engine(source, log_path=tmp_path / "log", choice=EngineChoice("vllm", args)),
    ):
        pass


@pytest.mark.parametrize(
    ("stages", "partition", "said"),
    [
        (LAYERS + 1, None, f"stage {LAYERS} would hold none of the model's {LAYERS} blocks"),
        (2, f"0,{LAYERS}", f"stage 0 would hold none of the model's {LAYERS} blocks"),
        (2, "1,1", "vLLM refuses to serve .* does not match num_hidden_layers"),
    ],
)
def test_a_stage_without_blocks_is_refused(source, tmp_path, monkeypatch, stages, partition, said):
    if partition:
        monkeypatch.setenv("VLLM_PP_LAYER_PARTITION", partition)
    choice = EngineChoice("vllm", {STAGES: stages})
    with pytest.raises(UsageError, match=said), start_engine(source, log_path=tmp_path / "log", choice=choice):
        pass


def test_a_temperature_that_vllm_would_change_is_refused(client):
    with pytest.raises(UsageError, match=r"temperature: 0.005; expected 0, or a number from 0.01 to 100"):
        ask(client, temperature=0.005)


# ---------------------------------------------------------------------------------------------------- as the reference


@pytest.mark.parametrize("stop", ["", "first", "pair", "never"])
def test_greedy_replies_end_where_the_references_do(client, reference, stop):
    whole = ask(reference, temperature=0, max_tokens=40).text
    stops = {"": [], "first": [whole[0]], "pair": [whole[12:14], whole[20:22]], "never": ["no such text"]}[stop]
    replies = [ask(one, temperature=0, max_tokens=40, stop=stops) for one in (client, reference)]
    text, finish, tokens = zip(*[(one.text, one.finish_reason, one.completion_tokens) for one in replies], strict=True)
    assert (len(set(text)), len(set(finish)), len(set(tokens))) == (1, 1, 1)


def test_a_seed_draws_the_same_tokens_in_however_many_steps_a_prompt_is_computed(client, source, tmp_path):
    """Each step of a prompt but the last draws a token that is taken back."""
    cut = EngineChoice("vllm", {"enforce_eager": True, "max_num_batched_tokens": 64, "max_num_seqs": 2})
    with client_of(source, tmp_path / "log", cut) as slow:
        for seed in range(3):
            whole, parts = (ask(one, LONG, temperature=1.5, seed=seed, max_tokens=12) for one in (client, slow))
            assert whole.text == parts.text
            assert parts.prompt_tokens > 10 * 64


def test_steered_greedy_replies_are_the_references(client, reference):
    steers = [Steer(1, put(client), 3.0), Steer(2, put(reference), 1.0, "ablate", "generated")]
    texts = [ask(one, temperature=0, max_tokens=40, steers=steers).text for one in (client, reference)]
    assert texts[0] == texts[1] != ask(reference, temperature=0, max_tokens=40).text


def test_captured_residuals_are_the_references(client, reference):
    ours, theirs = (one.capture([LONG, HELLO], "mean-last:5") for one in (client, reference))
    np.testing.assert_allclose(ours.residuals, theirs.residuals, rtol=1e-3, atol=1e-3)
    assert list(ours.tokens) == list(theirs.tokens)


# ---------------------------------------------------------------------------------------------------- the prefix cache


def test_the_beginning_of_a_conversation_is_reused_under_the_same_steers_alone(client):
    key = put(client)
    under = [Steer(1, key, 2.0)]
    own = [{"role": "user", "content": "Count the lines of each file, and sum them. " * 20}]  # nobody asked it before

    def reused(steers):
        reply = ask(client, own, steers=steers)
        check_receipts(reply, asked(steers, [VECTORS[steer.layer] for steer in steers]), client.health().layout)
        assert reply.cached_under == (tuple(steers) if reply.cached_tokens else ())
        return reply.cached_tokens

    assert reused(under) == 0
    assert reused(under) > 0
    assert reused([Steer(1, key, 2.5)]) == 0
    assert reused([]) == 0
    assert reused([]) > 0


@pytest.mark.parametrize("positions", ["prompt", "generated", "assistant"])
def test_nothing_is_reused_where_a_reply_is_steered_unlike_a_prompt(client, positions):
    steers = [Steer(1, put(client), 2.0, positions=positions)]
    assert [ask(client, LONG, steers=steers).cached_tokens for _ in range(2)] == [0, 0]


# ---------------------------------------------------------------------------------------------------- how it breaks


def test_vllms_process_is_forked_from_one_that_imported_meanwhile(client):
    assert client.health()
    assert "forkserver" in " ".join(cores()[0].parent().cmdline())


def test_the_process_that_schedules_leaves_its_core_to_the_one_that_computes(source, tmp_path):
    with client_of(source, tmp_path / "log", CHOICE) as client, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ask, client, max_tokens=400)
        assert until(lambda: client.state().requests, 20)
        (core,) = cores()
        (worker,) = core.children()
        worker.suspend()
        try:
            seen = []
            for _ in range(40):
                time.sleep(0.02)
                seen.append(core.status())
            assert seen.count(psutil.STATUS_SLEEPING) >= 5, seen  # as vLLM waits, it is always ready to run
        finally:
            worker.resume()
        assert waiting.result(60).completion_tokens


def test_a_killed_process_of_vllm_is_an_engine_that_ended_and_is_started_again(source, tmp_path):
    with (
        closing(SupervisedEngine(source, tmp_path / "log", CHOICE)) as engine,
        EngineClient(engine.url, engine.token) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        key = put(client)
        waiting = pool.submit(ask, client, max_tokens=2000, steers=[Steer(1, key, 1.0)])
        assert until(lambda: client.state().requests, 20)
        cores()[0].kill()
        with pytest.raises(EngineUnavailable):
            waiting.result(60)
        assert until(lambda: engine.ended, 30)
        engine.revive()
        client.restore_directions()
        assert ask(client, steers=[Steer(1, key, 1.0)]).receipts[0].steered > 0
        assert "a process of vLLM died: EngineCore" in (tmp_path / "log").read_text(errors="replace")


@pytest.mark.siege
@pytest.mark.slow
def test_a_process_of_vllm_that_hangs_ends_the_engine(source, tmp_path):
    with (
        closing(SupervisedEngine(source, tmp_path / "log", CHOICE)) as engine,
        EngineClient(engine.url, engine.token) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        waiting = pool.submit(ask, client, max_tokens=2000)
        assert until(lambda: client.state().requests, 20)
        cores()[0].suspend()
        with pytest.raises(EngineUnavailable):
            waiting.result(STALLED_S + 60)
        assert until(lambda: engine.ended, 30)
        assert f"no step for {STALLED_S:g} s" in (tmp_path / "log").read_text(errors="replace")
