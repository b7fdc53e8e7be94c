"""Fuzzes the readers of other people's files: any bytes are read, or refused with a `UsageError` in one line.

    pip install --require-hashes -r requirements-fuzz.lock    # Python 3.11 to 3.13, Linux
    python -m dev.fuzz gguf --seconds 120

libFuzzer mutates valid files. A run ends with an exit code other than 0, and keeps the input in `--artifacts`, where a
reader raises anything else, takes 20 s or 2 GiB. `--list` prints the targets.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

_SECONDS, _TIMEOUT_S, _MIB, _LENGTH = 120, 20, 2048, 1 << 16


def _direction(path: Path) -> object:
    from capvec.directions.direction import Direction  # noqa: PLC0415

    return Direction.read(path)


def _traces(path: Path) -> object:
    from capvec.traces import read_traces  # noqa: PLC0415

    return read_traces(path)


def _settings(path: Path) -> object:
    from capvec.reading import SETTINGS, read_text  # noqa: PLC0415
    from capvec.tasks.config import parse_settings  # noqa: PLC0415

    return parse_settings(read_text(path, SETTINGS), file=str(path), host_env={})


def _ledger(path: Path) -> object:
    from capvec.results.ledger import Ledger  # noqa: PLC0415

    return Ledger(path).read()


def _json(path: Path) -> object:
    from capvec.parsing import read_json  # noqa: PLC0415

    return read_json(path)


TARGETS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "gguf": ("v.gguf", _direction),
    "safetensors": ("v.safetensors", _direction),
    "pt": ("v.pt", _direction),
    "toml": ("task.toml", _settings),
    "traces": ("traces.json", _traces),
    "ledger": ("trials.jsonl", _ledger),
    "json": ("x.json", _json),
}
"""Name → the name of the file, and what reads it."""


def seeds(target: str) -> Iterator[bytes]:
    """Files to begin from, most of them valid."""
    repository = Path(__file__).resolve().parent.parent
    if target in {"gguf", "safetensors", "pt"}:
        yield from _directions(target)
    elif target == "toml":
        yield from (file.read_bytes() for file in sorted(repository.glob("capvec/tasks/bundled/*/task.toml"))[:5])
        yield b'[environment]\nmemory = "4G"\ncpus = 0.5\n[[steps]]\nname = "a"\n[metadata]\nx = 1979-05-27T07:32:00Z\n'
    elif target == "traces":
        yield from (
            file.read_bytes()[:_LENGTH] for file in sorted(repository.glob("capvec/models/traces/*/*.json"))[:3]
        )
        chat = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
        yield json.dumps({"messages": chat, "reward": 1.0, "task": "t"}).encode()
        yield b"\n".join(json.dumps({"messages": chat, "score": number}).encode() for number in range(2))
        yield b"PK\x03\x04" + b"\0" * 40
    else:
        lines = (repository / "reports" / "example" / "trials.jsonl").read_bytes().splitlines(keepends=True)
        yield b"".join(lines[:2])
        yield b'{"a": [1, 2.5e3, null, "\\ud83d\\ude00"]}'


def _directions(target: str) -> Iterator[bytes]:
    import numpy as np  # noqa: PLC0415

    from capvec.directions.direction import Direction, save_all  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as folder:
        save_all(Direction(np.arange(1, 13, dtype=np.float32).reshape(3, 4), np.ones(3)), Path(folder))
        yield (Path(folder) / f"dir.{target}").read_bytes()


def main(arguments: list[str] | None = None) -> int:
    """Fuzz one target; libFuzzer ends the process."""
    parser = argparse.ArgumentParser(prog="python -m dev.fuzz", description="Fuzz a reader of other people's files.")
    parser.add_argument("target", nargs="?", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=_SECONDS)
    parser.add_argument("--artifacts", type=Path, default=Path("fuzz"), help="where an input that fails is kept")
    parser.add_argument("--list", action="store_true", help="print the targets")
    options = parser.parse_args(arguments)
    if options.list:
        print("\n".join(TARGETS))
        return 0
    if options.target is None or importlib.util.find_spec("atheris") is None:
        parser.error("name a target" if options.target is None else "atheris is missing: make fuzz")
    _fuzz(options.target, options.seconds, options.artifacts)
    return 0


def _fuzz(target: str, seconds: int, artifacts: Path) -> None:
    import atheris  # noqa: PLC0415

    with atheris.instrument_imports(include=["capvec", "tomllib", "zipfile", "pickletools"]):
        from capvec.errors import UsageError  # noqa: PLC0415

        name, read = TARGETS[target]
        scratch = Path(tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
        corpus = scratch / "corpus"
        corpus.mkdir()
        for number, seed in enumerate(seeds(target)):
            (corpus / str(number)).write_bytes(seed)
        _once(read, scratch / name, (corpus / "0").read_bytes(), UsageError)  # imports what it needs, instrumented

    def test_one(data: bytes) -> None:
        _once(read, scratch / name, data, UsageError)

    artifacts.mkdir(parents=True, exist_ok=True)
    limits = [f"-max_total_time={seconds}", f"-timeout={_TIMEOUT_S}", f"-rss_limit_mb={_MIB}", f"-max_len={_LENGTH}"]
    atheris.Setup(["fuzz", *limits, f"-artifact_prefix={artifacts}/{target}-", str(corpus)], test_one)
    atheris.Fuzz()


def _once(read: Callable[[Path], Any], path: Path, data: bytes, refusal: type[Exception]) -> None:
    path.write_bytes(data)
    try:
        read(path)
    except refusal as error:
        if not str(error).isprintable():
            raise AssertionError(f"not one line: {error!s:.200}") from error


if __name__ == "__main__":
    sys.exit(main())
