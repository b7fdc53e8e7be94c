"""capvec's endpoints on a running `vllm serve`."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from socket import create_server

import httpx
import pytest
from support.checked import asked
from support.engine_conformance import HELLO, ask
from support.tiny_models import LAYERS, VECTORS, save_tiny
from support.vllm_processes import put

from capvec.engines.client import EngineClient
from capvec.engines.protocol import TOKEN_VARIABLE
from capvec.engines.vllm import versions
from capvec.errors import EngineUnavailable
from capvec.receipts import check_receipts
from capvec.steering import Steer

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.integration,
    pytest.mark.skipif(bool(versions.problem()), reason=f"{versions.problem()}; make test-vllm runs these"),
]


@contextmanager
def serving(folder, log, **environment):
    """What `vllm serve` runs, with capvec's plugin: its address, and its process.

    The command itself looks for a distribution `vllm`, and that of the CPU build has another name.
    """
    with create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder), "--port", str(port)]
    command += ["--dtype", "float32", "--max-model-len", "1024", "--max-num-seqs", "4", "--enforce-eager"]
    command += ["--additional-config", '{"capvec": {"layers": "all"}}']
    variables = {"VLLM_PLUGINS": "capvec", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_USE_V2_MODEL_RUNNER": "0"}
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=os.environ | variables | environment, stdout=out, stderr=out)
    try:
        yield f"http://127.0.0.1:{port}", process
    finally:
        process.terminate()
        process.wait(30)


def wait_until_up(url, process):
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{url}/health", timeout=2, trust_env=False).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.5)
    raise AssertionError(f"vllm serve is not up; exit code {process.poll()}")


def test_a_running_vllm_serve_steers_with_receipts_and_answers_its_own_clients_too(tmp_path):
    folder = save_tiny(tmp_path / "tiny", "llama-32")
    with serving(folder, tmp_path / "log", **{TOKEN_VARIABLE: "secret"}) as (url, process):
        wait_until_up(url, process)
        with EngineClient(f"{url}/capvec", "secret") as client:
            key = put(client)
            info, steers = client.health(), [Steer(1, key, 2.0)]
            assert (info.n_layers, info.backend) == (LAYERS, f"vllm {versions.installed()}")
            reply = ask(client, steers=steers)
            check_receipts(reply, asked(steers, [VECTORS[1]]), info.layout)
            client.check(info.weights, [key])
            assert client.state() is None
        with EngineClient(f"{url}/capvec", "wrong") as stranger, pytest.raises(EngineUnavailable, match="401"):
            stranger.health()
        body = {"messages": HELLO, "max_tokens": 4, "model": str(folder)}
        own = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60, trust_env=False)
        assert own.json()["usage"]["completion_tokens"] > 0


def test_without_a_token_a_vllm_serve_with_the_plugin_does_not_start(tmp_path):
    folder = save_tiny(tmp_path / "tiny", "llama-32")
    with serving(folder, tmp_path / "log", **{TOKEN_VARIABLE: ""}) as (_, process):
        assert process.wait(180) != 0
    assert f"set {TOKEN_VARIABLE} before" in (tmp_path / "log").read_text(errors="replace")
