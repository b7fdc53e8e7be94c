"""A model's files: their digest, and why a model cannot be loaded."""

from __future__ import annotations

import hashlib
from pathlib import Path

from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

from capvec.errors import UsageError

_PIECE, _PIECES = 1 << 16, 64


def folder_digest(folder: Path) -> str | None:
    """A digest of a local model: small files whole, and 64 pieces of 64 KiB of each large one."""
    if not folder.is_dir():
        return None
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.iterdir() if path.is_file()):
        size = file.stat().st_size
        digest.update(f"{file.name} {size}\0".encode())
        with file.open("rb") as handle:
            if size <= _PIECE * _PIECES:
                digest.update(handle.read())
            else:
                for piece in range(_PIECES):
                    handle.seek((size - _PIECE) * piece // (_PIECES - 1))
                    digest.update(handle.read(_PIECE))
    return digest.hexdigest()[:16]


def hub_commit(name: str) -> str | None:
    """The commit of a model of the hub that its cache on this machine has; None without one. Nothing is fetched."""
    try:
        found = try_to_load_from_cache(name, "config.json")
    except HFValidationError:
        return None
    return Path(found).parent.name if isinstance(found, str) else None


def cannot_load(name: str, error: BaseException) -> UsageError:
    """What a user is told of a model that a library failed to load."""
    if not_there := _not_on_the_hub(error):
        return UsageError(f"cannot load the model {name!r}: no such folder here, and {not_there}")
    return UsageError(
        f"cannot load the model {name!r}: {_first_lines(error)} Expected a folder with config.json, weights and a "
        "tokenizer, or the id of a causal or image-text model that this version of transformers knows."
    )


def _not_on_the_hub(error: BaseException) -> str:
    """Why the hub gave no model, and what to do; empty for another error."""
    cause = error.__cause__
    if isinstance(cause, GatedRepoError):
        return "access to it on the Hugging Face hub is restricted; request access on the model's page"
    if isinstance(cause, RepositoryNotFoundError):
        return "the Hugging Face hub has none of that name, or a private one; check the id, or name a model's folder"
    if isinstance(cause, LocalEntryNotFoundError | OfflineModeIsEnabled):
        return "the Hugging Face hub cannot be reached; connect to it, or download the model and name its folder"
    return ""


def _first_lines(error: BaseException) -> str:
    said, _, _ = str(error).partition("\nException raised from ")  # by PyTorch, before the frames of its stack
    text = " ".join(said.split()) or type(error).__name__
    return text[:300] + ("…" if len(text) > 300 else "." if not text.endswith(".") else "")
