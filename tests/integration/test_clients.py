"""Real clients of OpenAI's API on a steered and an unsteered model: a small job each, and its receipts on disk.

The clients are in an environment of their own, which `make clients` makes.
"""

from __future__ import annotations

import pytest
from support.client_jobs import STEERED, run_job, served_pair

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with served_pair(tmp_path_factory.mktemp("clients")) as server:
        yield server


@pytest.mark.parametrize("model", ["baseline", STEERED])
@pytest.mark.parametrize("job", ["openai_job", "mini_swe_agent_job", "inspect_job", "lm_eval_job"])
def test_a_real_clients_job_leaves_proof_of_every_reply(running, job, model, tmp_path):
    before = len(running.lines()) if running.receipts.exists() else 0
    replies = run_job(job, running.url, model, cwd=tmp_path)
    lines = running.lines()[before:]
    assert len(lines) == len(replies)
    assert {(line["model"], line["held"]) for line in lines} == {(model, True)}
    assert all(len(line["receipts"]) == (model != "baseline") for line in lines)
    assert {reply for reply in replies if reply} <= {line["id"] for line in lines}
