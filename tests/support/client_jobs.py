"""Jobs of other harnesses on models of `capvec serve`, in environments of their own, which `make clients` makes."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from capvec.models import resolve_model
from support import REPOSITORY
from support.served_models import TOKEN, ServedModels, capvec_serve

JOBS = REPOSITORY / "tests" / "support" / "clients"
CLIENTS = Path(os.environ.get("CAPVEC_CLIENTS", REPOSITORY / ".venv-clients"))
HARBOR = Path(os.environ.get("CAPVEC_HARBOR", REPOSITORY / ".venv-harbor"))
"""Harbor needs Python 3.12 or later."""
STEERED = "steered-L20-a2"


@contextmanager
def served_pair(folder: Path) -> Iterator[ServedModels]:
    """The bundled model as `baseline`, steered by a random direction as `STEERED`, and a control."""
    vectors = np.random.default_rng(0).standard_normal((30, 576)).astype(np.float32)
    (folder / "dir.safetensors").write_bytes(safetensors.numpy.save({"directions": vectors}))
    model = resolve_model("pocket").path_or_id
    steer = ("--direction", str(folder / "dir.safetensors"), "--layer", "20", "--alpha", "2", "--controls", "random:1")
    with capvec_serve(folder, "--model", model, *steer) as server:
        yield server


def run_job(job: str, *arguments: str, cwd: Path, environment: Path = CLIENTS) -> Any:
    """What a job prints last, as JSON; the test skips where its environment is missing."""
    python = environment / "bin" / "python"
    if not python.exists():
        pytest.skip(f"no {python}: run make clients")
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    own = {"OPENAI_API_KEY": TOKEN, "HOME": str(cwd), "MSWEA_SILENT_STARTUP": "1", "NO_PROXY": "127.0.0.1"}
    own["DOCKER_CONFIG"] = os.environ.get("DOCKER_CONFIG", str(Path.home() / ".docker"))  # has the plugins of Docker
    variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | offline | own
    path = f"{python.parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [python, JOBS / f"{job}.py", *arguments],
        cwd=cwd,
        env=variables | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])
