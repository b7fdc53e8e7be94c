"""What every benchmark shares: sizes, two sides by turns, the machine, a table on the terminal, and a JSON file."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import pytest


class Benchmark:
    """One run of one benchmark."""

    def __init__(
        self, name: str, *, small: bool, changes: Sequence[str], aloud: Callable[[], AbstractContextManager[None]]
    ) -> None:
        """Begin.

        Args:
            name: of the test.
            small: whether it is to show only that it works.
            changes: `NAME=VALUE` of `--bench-set`.
            aloud: in its context, what is printed is seen.
        """
        self.name, self.small, self._changes, self._aloud = name, small, changes, aloud
        self._sizes: dict[str, Any] = {}
        self._rows: list[dict[str, Any]] = []
        self._before = machine()

    def sizes(self, full: Mapping[str, Any], small: Mapping[str, Any]) -> SimpleNamespace:
        """What the benchmark runs with: `full`, or with `--bench-small` what `small` has instead; then `--bench-set`.

        Raises:
            pytest.UsageError: `--bench-set` names a size that this benchmark does not have, or its value is none.
        """
        self._sizes = dict(full) | (dict(small) if self.small else {})
        for change in self._changes:
            name, _, text = change.partition("=")
            if name not in self._sizes:
                raise pytest.UsageError(f"--bench-set {change}: {self.name} has {', '.join(self._sizes)}")
            try:
                self._sizes[name] = _like(full[name], text)
            except ValueError as error:
                raise pytest.UsageError(f"--bench-set {change}: expected a value such as {full[name]!r}") from error
        return SimpleNamespace(**self._sizes)

    def say(self, line: str) -> None:
        """Print a line."""
        with self._aloud():
            print(line, flush=True)

    def add(self, line: str, **values: Any) -> None:
        """Print a line, and keep its values for the JSON file."""
        self.keep(**values)
        self.say(line)

    def keep(self, **values: Any) -> None:
        """Keep values for the JSON file."""
        self._rows.append(values)

    def write(self, folder: Path) -> Path:
        """Write `NAME.json`.

        Returns:
            Its path.
        """
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name}.json"
        content = {
            "benchmark": self.name,
            "small": self.small,
            "ended": datetime.now(UTC).isoformat(timespec="seconds"),
            "sizes": self._sizes,
            "machine": self._before | {"load_after": os.getloadavg()[0]},
            "rows": self._rows,
        }
        path.write_text(json.dumps(content, indent=1) + "\n")
        return path


def _like(example: Any, text: str) -> Any:
    """The text as a value of the example's type; parts of a tuple are separated by commas."""
    if isinstance(example, tuple):
        return tuple(_like(example[0], part) for part in text.split(","))
    return json.loads(text) if isinstance(example, dict) else type(example)(text)


def machine() -> dict[str, Any]:
    """The device, the cores that this process may use, and how much else they have to do."""
    torch = sys.modules.get("torch")
    cuda = torch is not None and torch.cuda.is_available()
    versions = {
        name: sys.modules[name].__version__ for name in ("numpy", "torch", "transformers") if name in sys.modules
    }
    return {
        "device": torch.cuda.get_device_name() if cuda else _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "python": platform.python_version(),
        "versions": versions,
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


def by_turns(rounds: int, sides: Mapping[str, Callable[[], float]]) -> dict[str, list[float]]:
    """What each side measures in each round. Every other round goes backwards, so that other work falls on all."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(rounds):
        for name in list(sides)[:: -1 if turn % 2 else 1]:
            found[name].append(sides[name]())
    return found


def ratio(one: Sequence[float], other: Sequence[float]) -> float:
    """The median of the rounds' ratios."""
    return median(left / right for left, right in zip(one, other, strict=True))


def read_bandwidth(device: str = "cpu", megabytes: int = 512) -> float:
    """Bytes a second that a sum over a large array reads, at best of five: the bound of decoding few rows."""
    import torch

    values = torch.ones(megabytes * 250_000, dtype=torch.float32, device=device)

    def seconds() -> float:
        started = time.perf_counter()
        values.sum().item()
        return time.perf_counter() - started

    seconds()
    return 4 * len(values) / min(seconds() for _ in range(5))
