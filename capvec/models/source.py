"""Resolves the name that `--model` gives to a model that the engine can load."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from capvec.engines.protocol import ModelSource
from capvec.errors import UsageError
from capvec.models.weights import MANIFEST, ensure_base, ensure_pocket
from capvec.parsing import read_json
from capvec.reading import check_regular, is_loop, shown, walk

POCKET, POCKET_BASE = "pocket", "pocket-base"
POCKET_CONTEXT = 2048
"""Tokens of context that SmolLM2-135M was trained on; its config claims more."""
AGENT: dict[str, Any] = {"context_length": POCKET_CONTEXT, "prompt_style": "brief", "max_steps": 20, "max_tokens": 96}
"""How the fine-tuned agent is served, which is how it was trained: `serve` in the `capvec.json` of its folder."""
BASE: dict[str, Any] = {"context_length": POCKET_CONTEXT, "prompt_style": "few-shot", "max_steps": 8, "max_tokens": 64}
CORPORA = ("same-model", "cross-model")
"""Contrasts with bundled traces."""
BUNDLED_TRACES = Path(__file__).parent / "traces"
_LARGEST_FILE = 1 << 42
"""Bytes of the largest file of a model's folder: 4 TiB."""
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def resolve_model(name: str, say: Callable[[str], None] = print) -> ModelSource:
    """Find the model that `--model` names. The bundled model is made first if need be.

    Args:
        name: `pocket`, `pocket-base`, a Hugging Face id, or a folder.
        say: prints a line of progress.

    Raises:
        UsageError: the folder does not exist or holds no model, or the name is neither a folder nor an id.
    """
    if name == POCKET:
        return _served(ensure_pocket(say), POCKET, AGENT)
    if name == POCKET_BASE:
        return _served(ensure_base(say), POCKET_BASE, BASE)
    path = Path(os.path.expanduser(name))  # unlike Path.expanduser, does not raise for `~nobody`
    if os.path.isdir(path):  # unlike Path.is_dir, False if access is denied
        if not (path / "config.json").is_file():
            raise UsageError(f"--model {name}: no config.json in that folder; expected a model saved by transformers")
        _check_files(path)
        return _described(path.absolute())
    if _HUB_ID.fullmatch(name):
        return ModelSource(name, name)
    raise UsageError(
        f"--model {name}: no such model folder; expected `pocket`, `pocket-base`, a Hugging Face id such as "
        "Qwen/Qwen3.5-4B, or a folder with config.json, weights and a tokenizer"
    )


def _check_files(folder: Path) -> None:
    """Check what transformers will open by name. Links may lead out of the folder, as those of the hub's cache do.

    Raises:
        UsageError: something is neither a folder nor a regular file, or a config is no JSON object.
    """
    for entry in walk(folder):
        if os.path.isdir(entry.path) or (not os.path.exists(entry.path) and not is_loop(Path(entry.path))):
            continue  # a link without its file was not downloaded
        check_regular(Path(entry.path), _LARGEST_FILE)
        if entry.name.endswith(("config.json", ".index.json")) and not isinstance(read_json(Path(entry.path)), dict):
            raise UsageError(f"{shown(entry.path)}: expected a JSON object")


def _described(folder: Path) -> ModelSource:
    """The model of a folder, served as the key `serve` of a `capvec.json` beside the weights says, if there is one."""
    manifest = folder / MANIFEST
    if not manifest.is_file():
        return ModelSource(str(folder), folder.name)
    found = read_json(manifest)
    serve = found.get("serve", {}) if isinstance(found, dict) else None
    if not isinstance(serve, dict):
        raise UsageError(f"{manifest}: not JSON with an object, or with one under `serve`; correct it or delete it")
    try:
        return _served(folder, folder.name, serve)
    except UsageError as error:
        raise UsageError(f"{manifest}: serve is {error}; correct it or delete it") from error


def _served(folder: Path, name: str, serve: Mapping[str, Any]) -> ModelSource:
    """`serve` holds what `ModelSource` and `GenerationDefaults` have, on one level."""
    own = {"name": name} | {key: value for key, value in serve.items() if key in {"name", "context_length"}}
    defaults = {key: value for key, value in serve.items() if key not in own}
    return ModelSource.from_json({"path_or_id": str(folder), **own, "defaults": defaults})


def bundled_traces(contrast: str) -> Path:
    """The folder of the bundled traces for a contrast. Matched contrasts use those of `same-model`.

    Raises:
        UsageError: the installation lacks them.
    """
    folder = BUNDLED_TRACES / (contrast if contrast in CORPORA else CORPORA[0])
    if not any(folder.glob("*.json")):
        raise UsageError(
            f"no bundled traces in {folder}: capvec brings them for {' and '.join(CORPORA)}; "
            "install capvec again, or name traces with --traces"
        )
    return folder


def bundled_trace_files() -> tuple[Path, ...]:
    """Every bundled trajectory; empty if the installation lacks them."""
    return tuple(sorted(BUNDLED_TRACES.rglob("*.json")))
