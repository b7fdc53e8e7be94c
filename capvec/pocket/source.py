"""From what `--model` says to something that the engine can load."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from capvec.engine.protocol import Habits
from capvec.errors import UsageError
from capvec.pocket.weights import MANIFEST, ensure_base, ensure_pocket
from capvec.serial import Record

POCKET, POCKET_BASE = "pocket", "pocket-base"
POCKET_CONTEXT = 2048
"""What SmolLM2-135M was trained on; its config claims more."""
AGENT: dict[str, Any] = {"context_length": POCKET_CONTEXT, "prompt_style": "brief", "max_steps": 20, "max_tokens": 96}
"""How the fine-tuned agent is served: as it was trained."""
CORPORA = ("same-model", "cross-model")
"""Contrasts that capvec brings traces for."""
_TRACES = Path(__file__).parent / "traces"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class ModelSource(Record):
    """A model to serve."""

    path_or_id: str
    """A folder or a Hugging Face id."""
    name: str
    """What reports and traces call it."""
    context_length: int | None = None
    """Where the model's config is not to be believed."""
    prompt_style: str = "zero-shot"
    """`few-shot` for a model too small to follow instructions alone, `brief` for one that was trained to act."""
    max_steps: int = 30
    """Replies per trial, where the user does not say."""
    max_tokens: int = 512
    """Tokens per reply, where the user does not say."""

    @property
    def habits(self) -> Habits:
        """What its engine tells clients that did not start it."""
        return Habits(self.prompt_style, self.max_steps, self.max_tokens)


def resolve_model(name: str, say: Callable[[str], None] = print) -> ModelSource:
    """Find what `--model` names, making the bundled model ready if it is that.

    Raises:
        UsageError: a folder that does not exist or holds no model, or a name that can be neither.
    """
    if name == POCKET:
        return ModelSource(str(ensure_pocket(say)), POCKET, **AGENT)
    if name == POCKET_BASE:
        return ModelSource(str(ensure_base(say)), POCKET_BASE, POCKET_CONTEXT, "few-shot", max_steps=8, max_tokens=64)
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
    serve: dict[str, Any] = {}
    manifest = folder / MANIFEST
    if manifest.is_file():
        try:
            serve = json.loads(manifest.read_text(encoding="utf-8")).get("serve", {})
        except (ValueError, AttributeError) as error:
            raise UsageError(f"{manifest}: not JSON with an object ({error}); mend it or delete it") from error
    if unknown := set(serve) - {"name", "context_length", "prompt_style", "max_steps", "max_tokens"}:
        raise UsageError(f"{manifest}: serve has no {', '.join(sorted(unknown))}; expected what `ModelSource` has")
    return ModelSource(**{"path_or_id": str(folder), "name": folder.name} | serve)


def bundled_traces(contrast: str) -> Path:
    """The folder of traces that come with capvec for a contrast; those matched come from the same-model ones.

    Raises:
        UsageError: there are none for it, or this installation came without them.
    """
    folder = _TRACES / (contrast if contrast in CORPORA else CORPORA[0])
    if not any(folder.glob("*.json")):
        raise UsageError(
            f"no bundled traces in {folder}: capvec brings them for {' and '.join(CORPORA)}; "
            "install capvec again, or name traces with --traces"
        )
    return folder


def bundled_trace_files() -> tuple[Path, ...]:
    """Every bundled trajectory, none where the installation lacks them."""
    return tuple(sorted(_TRACES.rglob("*.json")))
