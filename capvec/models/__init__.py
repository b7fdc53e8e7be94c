"""The bundled model, the bundled traces, and the names that `--model` accepts."""

from __future__ import annotations

from capvec.models.source import POCKET, bundled_traces, resolve_model
from capvec.models.weights import base_folder, ensure_base, ensure_pocket, pocket_folder

__all__ = [
    "POCKET",
    "base_folder",
    "bundled_traces",
    "ensure_base",
    "ensure_pocket",
    "pocket_folder",
    "resolve_model",
]
