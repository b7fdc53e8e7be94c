"""With data parallelism vLLM holds several copies of the model: all hold the directions, and one serves a request."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import numpy as np
import psutil
import pytest
from support.checked import asked
from support.engine_conformance import ask
from support.tiny_models import LAYERS, VECTORS
from support.vllm_models import save_tiny as save_mixture
from support.vllm_processes import cores, put, until

from capvec.engines.client import EngineClient
from capvec.engines.process import client_of, start_engine
from capvec.engines.protocol import ModelSource
from capvec.engines.selection import EngineChoice
from capvec.engines.supervised import SupervisedEngine
from capvec.engines.vllm import versions
from capvec.errors import EngineUnavailable, UsageError
from capvec.receipts import check_receipts
from capvec.steering import Steer

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.integration,
    pytest.mark.skipif(bool(versions.problem()), reason=f"{versions.problem()}; make test-vllm runs these"),
]

CHOICE = EngineChoice("vllm", {"enforce_eager": True, "data_parallel_size": 2})
TALKS = [[{"role": "user", "content": f"List the files of folder {number}. " * (number + 1)}] for number in range(6)]


def seconds_of(processes):
    """Of each with those that it started."""
    return [sum(sum(one.cpu_times()[:2]) for one in (core, *core.children(recursive=True))) for core in processes]


def test_requests_at_once_are_served_by_both_copies_each_with_its_receipts(client, reference):
    key, layout = put(client), client.health().layout
    put(reference)
    steers = [[Steer(number % LAYERS, key, 1.0 + number)] for number in range(len(TALKS))]

    def both(number):
        reply = ask(client, TALKS[number], temperature=0, max_tokens=60, steers=steers[number])
        check_receipts(reply, asked(steers[number], [VECTORS[one.layer] for one in steers[number]]), layout)
        return reply.text

    processes = cores()
    assert len(processes) == 2
    before = seconds_of(processes)
    with ThreadPoolExecutor(len(TALKS)) as pool:
        texts = list(pool.map(both, range(len(TALKS))))
    worked = [after - first for first, after in zip(before, seconds_of(processes), strict=True)]
    assert min(worked) > 0.2 * max(worked)
    theirs = [
        ask(reference, talk, temperature=0, max_tokens=60, steers=own).text
        for talk, own in zip(TALKS, steers, strict=True)
    ]
    assert texts == theirs


def test_a_reply_that_ends_at_a_stop_string_has_the_receipts_of_the_copy_that_served_it(client):
    key, layout = put(client), client.health().layout
    steers = [Steer(1, key, 2.0)]
    stop = ask(client, TALKS[0], temperature=0, max_tokens=40, steers=steers).text[6:8]

    def stopped(_):
        reply = ask(client, TALKS[0], temperature=0, max_tokens=40, steers=steers, stop=[stop])
        check_receipts(reply, asked(steers, [VECTORS[1]]), layout)
        return reply.finish_reason

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(stopped, range(4))) == {"stop"}


def test_captured_residuals_are_the_references(client, reference):
    ours, theirs = (one.capture(TALKS, "mean-last:5") for one in (client, reference))
    np.testing.assert_allclose(ours.residuals, theirs.residuals, rtol=1e-3, atol=1e-3)
    assert list(ours.tokens) == list(theirs.tokens)


def test_a_killed_copy_is_an_engine_that_ended_which_says_so_and_is_started_again(source, tmp_path):
    with (
        closing(SupervisedEngine(source, tmp_path / "log", CHOICE)) as engine,
        EngineClient(engine.url, engine.token) as client,
        ThreadPoolExecutor(4) as pool,
    ):
        key = put(client)
        waiting = [pool.submit(ask, client, max_tokens=2000, steers=[Steer(1, key, 1.0)]) for _ in range(4)]
        assert until(lambda: client.state().requests == 4, 20)
        second = next(one for one in cores() if "DP1" in " ".join(one.cmdline()))
        second.kill()
        for one in waiting:
            with pytest.raises(EngineUnavailable):
                one.result(60)
        assert until(lambda: engine.ended, 30)
        assert "a process of vLLM died: EngineCore_DP1" in (tmp_path / "log").read_text(errors="replace")
        engine.revive()
        client.restore_directions()
        assert ask(client, steers=[Steer(1, key, 1.0)]).receipts[0].steered > 0
        assert len(cores()) == 2


def test_copies_of_a_mixture_of_experts_are_refused(tmp_path):
    source = ModelSource(str(save_mixture(tmp_path / "model", "qwen3-moe")), "tiny")
    with (
        pytest.raises(UsageError, match="copies of a mixture of experts share each step"),
        start_engine(source, log_path=tmp_path / "log", choice=CHOICE),
    ):
        pass


def test_both_copies_end_with_the_engine(source, tmp_path):
    with client_of(source, tmp_path / "log", CHOICE):
        processes = cores()
    gone, alive = psutil.wait_procs(processes, timeout=20)
    assert (len(gone), alive) == (2, [])
