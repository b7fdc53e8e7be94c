"""A whole sweep through vLLM: a small random-weight model, real containers, real reports."""

from __future__ import annotations

import json

import pytest
from support.real_sweeps import RUN, ledger, no_container_is_left, no_traceback, write_given

from capvec.engines.vllm import versions

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.integration,
    pytest.mark.skipif(bool(versions.problem()), reason=f"{versions.problem()}; make test-vllm runs these"),
]
pytest_plugins = ("pytester",)


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """A model, a direction that fits it, and two tasks; made before `pytester`, which has torch forgotten."""
    root = tmp_path_factory.mktemp("given")
    write_given(root, "llama-32")
    return root


@pytest.fixture
def sweep(pytester, given):
    def run(*arguments: str) -> pytest.RunResult:
        return pytester.runpytest_subprocess(
            "--pyargs", "capvec", "-p", "no:cacheprovider", "-m", "sweep", "--run", RUN, "-n", "2",
            "--model", str(given / "tiny"), "--direction", str(given / "dir.safetensors"), "--layer", "1",
            "--tasks", str(given / "tasks"), "--alpha", "4", "--max-steps", "2", "--max-tokens", "6", "--no-check",
            *arguments,
        )  # fmt: skip

    return run


def test_a_sweep_through_vllm_has_every_outcome_its_receipts_and_what_computed_them(sweep, pytester):
    result = sweep("--engine", "vllm", "--engine-arg", "enforce_eager=true", "--controls", "zero,random:1")
    assert no_traceback(result)
    assert result.ret == 0
    assert no_container_is_left()
    report = pytester.path / "reports" / RUN
    outcomes = ledger(report)
    assert len(outcomes) == 8
    assert {outcome["outcome"] for outcome in outcomes.values()} == {"solved", "unsolved"}
    assert f"starting the engine with tiny: vLLM {versions.installed()}" in result.stdout.str()
    made = json.loads((report / "provenance.json").read_text())
    assert (made["model"]["backend"], made["model"]["backend_args"]) == (
        f"vllm {versions.installed()}",
        {"enforce_eager": True, "capvec_layers": [1]},
    )

    again = sweep("--engine", "transformers", "--controls", "zero,random:1", "--resume")
    assert again.ret != 0
    said = again.stdout.str() + again.stderr.str()
    before = f"vllm {versions.installed()} capvec_layers=[1] enforce_eager=true"
    assert f"engine was {before} and is transformers" in said
