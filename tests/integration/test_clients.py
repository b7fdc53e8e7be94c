"""Real clients of OpenAI's API on a steered and an unsteered model: a small job each, and its receipts on disk.

The clients are in an environment of their own, which `make clients` makes.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from support import REPOSITORY
from support.served_models import TOKEN, capvec_serve

from capvec.models import resolve_model

pytestmark = pytest.mark.integration

JOBS = REPOSITORY / "tests" / "support" / "clients"
PYTHON = Path(os.environ.get("CAPVEC_CLIENTS", REPOSITORY / ".venv-clients")) / "bin" / "python"


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    if not PYTHON.exists():
        pytest.skip(f"no {PYTHON}: run make clients")
    folder = tmp_path_factory.mktemp("clients")
    vectors = np.random.default_rng(0).standard_normal((30, 576)).astype(np.float32)
    (folder / "dir.safetensors").write_bytes(safetensors.numpy.save({"directions": vectors}))
    model = resolve_model("pocket").path_or_id
    steering = (
        "--direction",
        str(folder / "dir.safetensors"),
        "--layer",
        "20",
        "--alpha",
        "2",
        "--controls",
        "random:1",
    )
    with capvec_serve(folder, "--model", model, *steering) as server:
        yield server


@pytest.mark.parametrize("model", ["baseline", "steered-L20-a2"])
@pytest.mark.parametrize("job", ["openai_job", "mini_swe_agent_job", "inspect_job", "lm_eval_job"])
def test_a_real_clients_job_leaves_proof_of_every_reply(running, job, model, tmp_path):
    before = len(running.lines()) if running.receipts.exists() else 0
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    own = {"OPENAI_API_KEY": TOKEN, "HOME": str(tmp_path), "MSWEA_SILENT_STARTUP": "1", "NO_PROXY": "127.0.0.1"}
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | offline | own
    done = subprocess.run(
        [PYTHON, JOBS / f"{job}.py", running.url, model],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    replies = json.loads(done.stdout.splitlines()[-1])
    lines = running.lines()[before:]
    assert len(lines) == len(replies)
    assert {(line["model"], line["held"]) for line in lines} == {(model, True)}
    assert all(len(line["receipts"]) == (model != "baseline") for line in lines)
    assert {reply for reply in replies if reply} <= {line["id"] for line in lines}
