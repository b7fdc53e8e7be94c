"""`selection.json`: the layer and strength of each direction, the grid that they were selected from, and the rules."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from capvec.errors import UsageError
from capvec.parsing import read_json
from capvec.plan.plan import Settings
from capvec.serial import Record
from capvec.storage import write_text

BUNDLED = Path(__file__).parent / "selection.json"
FORMAT_MARGIN = 0.10
"""How far below the baseline's pass rate a strength of the format direction may be."""


@dataclass(frozen=True)
class GridPoint(Record):
    """One config of the grid on the dev split: a direction at one layer and strength, or the baseline."""

    mode: str
    """`skill`, `format` or `baseline`."""
    layer: int | None
    """None for the baseline, as are the next three."""
    alpha: float | None
    """In stored units: α = 1 adds the whole difference."""
    norm: float | None
    """‖v_L‖."""
    dose: float | None
    """|α|·‖v_L‖ / ambient norm."""
    n: int
    """Valid trials."""
    solved: int
    errors: int
    parse_fail_per_run: float
    no_cmd_per_run: float

    @property
    def pass_rate(self) -> float:
        """0 where there is no valid trial."""
        return self.solved / self.n if self.n else 0.0

    @property
    def place(self) -> tuple[int, float]:
        """Layer and α.

        Raises:
            UsageError: it is the baseline.
        """
        if self.layer is None or self.alpha is None:
            raise UsageError(f"a grid point of mode {self.mode!r} without layer and alpha; expected a steered one")
        return self.layer, self.alpha


@dataclass(frozen=True)
class Selection(Record):
    """The selected grid points, the grid, and the data that they were selected on."""

    model: str
    revision: str | None
    tasks: str
    """As `--tasks` named them."""
    dev_families: tuple[str, ...]
    """The families that the selection was made on; no result is reported on them."""
    contrast_tasks: tuple[str, ...]
    """The tasks whose instructions the directions were built from; of dev families only."""
    attempts: int
    seed: int
    settings: Settings
    rules: tuple[str, ...]
    baseline: GridPoint
    skill: GridPoint
    format: GridPoint
    grid: tuple[GridPoint, ...]

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """As for every record; also reads the key `tune_families`, which `dev_families` was called before."""
        return super().from_json({{"tune_families": "dev_families"}.get(key, key): one for key, one in data.items()})

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        write_text(path, json.dumps(self.to_json(), indent=1, allow_nan=False) + "\n")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            UsageError: no such file, or it holds no selection.
        """
        try:
            if not path.exists():
                raise FileNotFoundError
            return cls.from_json(read_json(path))
        except FileNotFoundError:
            raise UsageError(f"{path}: no such file; `python -m capvec.studies.calibration.select` writes it") from None
        except (OSError, ValueError, UsageError) as error:
            raise UsageError(f"{path} is not what capvec.studies.calibration.select writes: {error}") from error


SKILL_RULE = (
    "skill: of the grid points whose pass rate is within one standard error of the difference from the best one's, "
    "that of the smallest dose"
)
FORMAT_RULE = (
    f"format: of the grid points whose pass rate is at most {FORMAT_MARGIN:g} below the baseline's, "
    "that of the most parse_fail per run; of equals, that of the smallest dose"
)


def select_skill(points: Sequence[GridPoint]) -> GridPoint:
    """The smallest dose that does as well as the best, as far as the trials can tell.

    A large dose in any direction breaks the model, so that the random controls of a needlessly strong steer would be
    detected for that alone. "As well" is the one-standard-error rule of Breiman et al., Classification and Regression
    Trees (1984), §3.4.3, with the variance of each rate taken at (s + 1) / (n + 2): 20 of 20 is no certainty.

    Raises:
        ValueError: no point with a valid trial.
    """
    tried = _tried(points)
    best = max(tried, key=lambda point: (point.pass_rate, -_dose(point)))
    enough = [point for point in tried if best.pass_rate - point.pass_rate <= math.hypot(_error(best), _error(point))]
    return min(enough, key=lambda point: (_dose(point), -point.pass_rate))


def select_format(points: Sequence[GridPoint], baseline: GridPoint) -> GridPoint:
    """The most parse_fail per run among those whose pass rate is not more than `FORMAT_MARGIN` below the baseline's.

    Where every point is, the one that loses least: it will not pass as harmless, and the calibration says so.

    Raises:
        ValueError: no point with a valid trial.
    """
    tried = _tried(points)
    least = baseline.pass_rate - FORMAT_MARGIN - 1e-9
    harmless = [point for point in tried if point.pass_rate >= least]
    if not harmless:
        return max(tried, key=lambda point: (point.pass_rate, -_dose(point)))
    return max(harmless, key=lambda point: (point.parse_fail_per_run, -_dose(point)))


def _tried(points: Sequence[GridPoint]) -> list[GridPoint]:
    tried = [point for point in points if point.n]
    if not tried:
        raise ValueError(f"{len(points)} grid points, none with a valid trial: there is nothing to select from")
    return tried


def _dose(point: GridPoint) -> float:
    return math.inf if point.dose is None else point.dose


def _error(point: GridPoint) -> float:
    """Standard error of a pass rate."""
    rate = (point.solved + 1) / (point.n + 2)
    return math.sqrt(rate * (1 - rate) / point.n)
