"""Which engine serves a model: the user's choice, or the fastest that can be used here. Imports no torch."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from capvec.engines.vllm import versions
from capvec.engines.vllm.arguments import LAYERS, check_arguments
from capvec.errors import UsageError
from capvec.serial import Record

EngineKind = Literal["transformers", "vllm"]
AskedEngine = Literal["auto", "transformers", "vllm"]


@dataclass(frozen=True)
class EngineChoice(Record):
    """An engine to start."""

    kind: EngineKind = "transformers"
    args: Mapping[str, Any] = field(default_factory=dict)
    """vLLM's own (`--engine-arg`)."""
    why: str = ""
    """Why `auto` took it, as in `no CUDA device is here`; empty where the user chose."""

    @property
    def in_words(self) -> str:
        """`vLLM 0.26.0`, or `transformers (no CUDA device is here)`."""
        name = f"vLLM {versions.installed()}" if self.kind == "vllm" else self.kind
        return f"{name} ({self.why})" if self.why else name

    def steering_only(self, layers: Sequence[int]) -> EngineChoice:
        """With only these layers prepared for steering, which costs the others nothing, unless the user named some."""
        if self.kind != "vllm" or LAYERS in self.args:
            return self
        return replace(self, args={**self.args, LAYERS: list(layers)})


def choose(asked: AskedEngine, args: Mapping[str, Any], model: str) -> EngineChoice:
    """Choose the engine that serves a model.

    Args:
        asked: `auto` takes vLLM where it is installed in a tested version, a CUDA device is here, and receipts of the
            model's architecture are tested; else transformers.
        args: vLLM's own.
        model: a folder or a Hugging Face id.

    Raises:
        UsageError: vLLM is asked for and cannot be used, an argument is refused, or there are arguments for an engine
            that takes none.
    """
    if asked == "vllm":
        versions.check_version()
        check_arguments(args)
        return EngineChoice("vllm", args)
    hindrance = _hindrance(model) if asked == "auto" else ""
    if asked == "auto" and not hindrance:
        check_arguments(args)
        return EngineChoice("vllm", args, "a CUDA device is here, and its receipts of this architecture are tested")
    if args:
        because = f", and auto takes transformers: {hindrance}" if hindrance else ""
        raise UsageError(
            f"--engine-arg {next(iter(args))}: only vLLM takes arguments{because}; use --engine vllm, or leave it out"
        )
    return EngineChoice("transformers", {}, hindrance)


def _hindrance(model: str) -> str:
    """Why `auto` does not take vLLM; empty if it does."""
    if why := versions.problem():
        return why.partition(";")[0]
    if not cuda_devices():
        return "no CUDA device is here"
    architectures = _architectures(model)
    if not set(architectures) & set(versions.ARCHITECTURES):
        return f"receipts of {', '.join(architectures) or 'an unknown architecture'} are not tested in vLLM"
    return ""


def cuda_devices() -> int:
    """How many CUDA devices this process may use."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return 0
    return count.value


def _architectures(model: str) -> tuple[str, ...]:
    """Those that the model's config names; none where it cannot be read, which the engine then says."""
    from huggingface_hub import hf_hub_download  # noqa: PLC0415 (slow)
    from huggingface_hub.errors import HfHubHTTPError  # noqa: PLC0415 (slow)

    try:
        path = Path(model, "config.json")
        path = path if path.is_file() else Path(hf_hub_download(model, "config.json"))
        named = json.loads(path.read_text(encoding="utf-8")).get("architectures") or ()
    except (OSError, ValueError, AttributeError, HfHubHTTPError):
        return ()
    return tuple(map(str, named))
