"""Real clients of OpenAI's API on a steered and an unsteered model: a small job each, and its receipts on disk.

The clients are in an environment of their own, which `make clients` makes.
"""

from __future__ import annotations

import json

import pytest
from support.client_jobs import STEERED, run_job, served_pair

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with served_pair(tmp_path_factory.mktemp("clients")) as server:
        yield server


@pytest.mark.parametrize("model", ["baseline", STEERED])
@pytest.mark.parametrize(
    "job", ["openai_job", "mini_swe_agent_job", "inspect_job", "lm_eval_job", "lm_eval_choice_job"]
)
def test_a_real_clients_job_leaves_proof_of_every_reply(running, job, model, tmp_path):
    before = len(running.lines()) if running.receipts.exists() else 0
    replies = run_job(job, running.url, model, cwd=tmp_path)
    lines = running.lines()[before:]
    assert len(lines) == len(replies)
    assert {(line["model"], line["held"]) for line in lines} == {(model, True)}
    assert all(len(line["receipts"]) == (model != "baseline") for line in lines)
    assert {reply for reply in replies if reply} <= {line["id"] for line in lines}


def test_the_choices_of_a_harness_have_the_log_likelihoods_of_the_steered_model(running, tmp_path):
    """lm-evaluation-harness against the log-probabilities that a completion of the same tokens has."""
    found = {}
    for model in ("baseline", STEERED):
        (folder := tmp_path / model).mkdir()
        run_job("lm_eval_choice_job", running.url, model, cwd=folder)
        found[model] = json.loads((folder / "likelihoods.json").read_text())
        body = {"model": model, "prompt": "The sky is blue.", "echo": True, "logprobs": 1, "max_tokens": 0}
        told = running.ask("/v1/completions", body).json()["choices"][0]["logprobs"]
        behind = [place for place, at in enumerate(told["text_offset"]) if at >= len("The sky is")]
        assert found[model][0][0] == pytest.approx(sum(told["token_logprobs"][place] for place in behind), abs=0.02)
    assert found["baseline"] != found[STEERED]
