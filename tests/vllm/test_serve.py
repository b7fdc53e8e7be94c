"""Any client's requests, to models that vLLM serves: greedy replies, log-probabilities and calls are as elsewhere."""

from __future__ import annotations

import pytest
import safetensors.numpy
from support.served_models import capvec_serve
from support.tiny_models import VECTORS, save_tiny

from capvec.engines.vllm import versions

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.integration,
    pytest.mark.skipif(bool(versions.problem()), reason=f"{versions.problem()}; make test-vllm runs these"),
]
TALK = [{"role": "user", "content": "hello"}]
SHAPED = {"temperature": 0.8, "seed": 3, "top_p": 0.9, "top_k": 20, "min_p": 0.01, "presence_penalty": 0.5}
ADD = {"type": "function", "function": {"name": "add"}}


def replies(folder, *engine):
    """What an engine answers under each name, where no noise is drawn."""
    steering = ("--direction", str(folder / "dir.safetensors"), "--layer", "1", "--alpha", "2")
    with capvec_serve(folder, "--engine", *engine, "--model", str(folder / "tiny"), *steering) as server:
        found = {}
        for name in ("baseline", "steered-L1-a2"):
            (choice,) = server.chat(name, temperature=0, logprobs=True, top_logprobs=3)["choices"]
            words = choice["logprobs"]["content"]
            called = server.chat(name, temperature=0, tools=[ADD], tool_choice=ADD)["choices"][0]["message"]
            found[name] = choice["message"]["content"], called["content"], [word["logprob"] for word in words]
            *pieces, done = server.events(
                "/v1/chat/completions", model=name, messages=TALK, max_tokens=6, temperature=0
            )
            assert done == "[DONE]"
            assert "".join(piece["choices"][0]["delta"].get("content") or "" for piece in pieces) == found[name][0]
            drawn = [server.chat(name, **SHAPED)["choices"][0]["message"]["content"] for _ in range(2)]
            assert drawn[0] == drawn[1]
        assert all(line["held"] for line in server.lines())
        return found


def test_both_engines_answer_any_client_alike(tmp_path):
    save_tiny(tmp_path / "tiny", "llama-32")
    (tmp_path / "dir.safetensors").write_bytes(safetensors.numpy.save({"directions": VECTORS}))
    eager = ("--engine-arg", "enforce_eager=true", "--engine-arg", 'dtype="float32"')
    ours, reference = replies(tmp_path, "vllm", *eager), replies(tmp_path, "transformers")
    for name in reference:
        assert ours[name][:2] == reference[name][:2]
        assert ours[name][2] == pytest.approx(reference[name][2], abs=1e-4)
    assert reference["baseline"][0] != reference["steered-L1-a2"][0]
