"""From what `--model` says to something that the engine can load."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from capvec.engines.protocol import ModelSource
from capvec.errors import UsageError
from capvec.models.weights import MANIFEST, ensure_base, ensure_pocket

POCKET, POCKET_BASE = "pocket", "pocket-base"
POCKET_CONTEXT = 2048
"""What SmolLM2-135M was trained on; its config claims more."""
AGENT: dict[str, Any] = {"context_length": POCKET_CONTEXT, "prompt_style": "brief", "max_steps": 20, "max_tokens": 96}
"""How the fine-tuned agent is served, as it was trained: `serve` in its folder's `capvec.json`."""
BASE: dict[str, Any] = {"context_length": POCKET_CONTEXT, "prompt_style": "few-shot", "max_steps": 8, "max_tokens": 64}
CORPORA = ("same-model", "cross-model")
"""Contrasts that capvec brings traces for."""
BUNDLED_TRACES = Path(__file__).parent / "traces"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def resolve_model(name: str, say: Callable[[str], None] = print) -> ModelSource:
    """Find what `--model` names, making the bundled model ready if it is that.

    Raises:
        UsageError: a folder that does not exist or holds no model, or a name that can be neither.
    """
    if name == POCKET:
        return _served(ensure_pocket(say), POCKET, AGENT)
    if name == POCKET_BASE:
        return _served(ensure_base(say), POCKET_BASE, BASE)
    path = Path(os.path.expanduser(name))  # unlike Path.expanduser, leaves `~nobody` alone instead of raising
    if os.path.isdir(path):  # unlike Path.is_dir, False for what cannot be looked at
        if not (path / "config.json").is_file():
            raise UsageError(f"--model {name}: no config.json in that folder; expected a model saved by transformers")
        return _described(path.absolute())
    if _HUB_ID.fullmatch(name):
        return ModelSource(name, name)
    raise UsageError(
        f"--model {name}: no such model folder; expected `pocket`, `pocket-base`, a Hugging Face id such as "
        "Qwen/Qwen3.5-4B, or a folder with config.json, weights and a tokenizer"
    )


def _described(folder: Path) -> ModelSource:
    """A model in a folder; a file `capvec.json` beside it may say how it wants to be asked, under the key `serve`."""
    manifest = folder / MANIFEST
    if not manifest.is_file():
        return ModelSource(str(folder), folder.name)
    try:
        return _served(folder, folder.name, json.loads(manifest.read_text(encoding="utf-8")).get("serve", {}))
    except (ValueError, AttributeError) as error:
        raise UsageError(f"{manifest}: not JSON with an object ({error}); mend it or delete it") from error
    except UsageError as error:
        raise UsageError(f"{manifest}: serve is {error}; mend it or delete it") from error


def _served(folder: Path, name: str, serve: Mapping[str, Any]) -> ModelSource:
    """`serve` holds what `ModelSource` and `GenerationDefaults` have, on one level."""
    own = {"name": name} | {key: value for key, value in serve.items() if key in {"name", "context_length"}}
    defaults = {key: value for key, value in serve.items() if key not in own}
    return ModelSource.from_json({"path_or_id": str(folder), **own, "defaults": defaults})


def bundled_traces(contrast: str) -> Path:
    """The folder of traces that come with capvec for a contrast; those matched come from the same-model ones.

    Raises:
        UsageError: there are none for it, or this installation came without them.
    """
    folder = BUNDLED_TRACES / (contrast if contrast in CORPORA else CORPORA[0])
    if not any(folder.glob("*.json")):
        raise UsageError(
            f"no bundled traces in {folder}: capvec brings them for {' and '.join(CORPORA)}; "
            "install capvec again, or name traces with --traces"
        )
    return folder


def bundled_trace_files() -> tuple[Path, ...]:
    """Every bundled trajectory, none where the installation lacks them."""
    return tuple(sorted(BUNDLED_TRACES.rglob("*.json")))
