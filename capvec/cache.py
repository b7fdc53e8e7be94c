"""The folder of files that are kept between runs."""

from __future__ import annotations

import os
from pathlib import Path


def cache_root() -> Path:
    """`$CAPVEC_CACHE`, or else `capvec` in `$XDG_CACHE_HOME` or `~/.cache`. It is not created."""
    if own := os.environ.get("CAPVEC_CACHE"):
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "capvec"
