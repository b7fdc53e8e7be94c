"""The ranking of layers: what `ranking.csv` holds, and what it says in words."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from capvec.errors import UsageError

LEVEL = 0.05
"""Of the tests that the words go by."""


@dataclass(frozen=True)
class LayerRank:
    """One layer's numbers, as in `ranking.csv`; None, an empty field there, where a number cannot be had."""

    layer: int
    auc: float
    """In sample: the traces that the direction was built from, projected on it. Means nothing without its null."""
    margin: float
    """mean(pos·d) − mean(neg·d) = ‖v_L‖."""
    ambient_norm: float
    margin_ratio: float
    """Margin over ambient norm: the dose that α = 1 of the stored vector means here."""
    n_pos: int
    n_neg: int
    auc_null_p95: float
    """95 % of label permutations, each with its own refitted direction, have an in-sample AUC up to this."""
    cv_auc: float | None
    """Cross-fitted: each trace projected on the direction fitted without its task."""
    cv_auc_low: float | None
    """The 95 % interval of `cv_auc`, for traces that come in tasks."""
    cv_auc_high: float | None
    cv_auc_null_p95: float | None
    """95 % of label permutations, cross-fitted in the same way, have a `cv_auc` up to this."""
    cv_p_value: float | None
    """Share of labellings, the observed one included, whose `cv_auc` is at least the observed one; of this layer."""
    p_value: float
    """The same for the margin; of this layer."""
    p_corrected: float
    """The same for the margin, corrected over layers by the maximum statistic."""
    stability_min: float | None
    """Cosine of the direction with the one refitted without a task, the least over tasks."""
    stability_mean: float | None
    """Their mean."""
    reference_cosine: float | None
    """Cosine with the reference direction."""

    def dose(self, alpha: float) -> float:
        """|α|·‖v_L‖ / ambient norm, for α in stored units."""
        return abs(alpha) * self.margin_ratio


@dataclass(frozen=True)
class Ranking:
    """All layers, best first.

    In order of the corrected p, then of the layer's own p, of the cross-fitted AUC, and of margin over ambient norm.
    Never of the in-sample AUC: in a wide residual stream it is 1 for pure noise too, so it cannot order anything.
    """

    rows: tuple[LayerRank, ...]
    estimator: str
    """In words."""
    null: str
    """How the labels were permuted, in words."""
    folds: str
    """How tasks were held out, or why they could not be, in words."""

    @property
    def best(self) -> LayerRank:
        return self.rows[0]

    def row(self, layer: int) -> LayerRank:
        """One layer's numbers."""
        return next(row for row in self.rows if row.layer == layer)

    def found(self, layer: int | None = None) -> bool:
        """Whether the direction of a layer (None: the best) is distinguishable from chance, corrected over layers."""
        return (self.best if layer is None else self.row(layer)).p_corrected <= LEVEL

    def verdict(self, layer: int | None = None) -> str:
        """What can be said of the direction of a layer; None takes the best."""
        row = self.best if layer is None else self.row(layer)
        word = "distinguishable" if self.found(row.layer) else "not distinguishable"
        corrected = f", corrected over {len(self.rows)} layers p = {row.p_corrected:.3g}" if len(self.rows) > 1 else ""
        said = (
            f"Layer {row.layer} is {word} from chance: AUC {row.auc:.3f} in sample, where 95 % of label permutations "
            f"reach up to {row.auc_null_p95:.3f}; p = {row.p_value:.3g}{corrected}; "
        )
        if row.cv_auc is None or row.cv_p_value is None:
            return f"{said}{self.folds}"
        said += (
            f"on tasks left out AUC {row.cv_auc:.3f} ({row.cv_auc_low:.2f} to {row.cv_auc_high:.2f}), "
            f"p = {row.cv_p_value:.3g}"
        )
        if self.found(row.layer) and row.cv_p_value > LEVEL:
            said += ": the classes differ, but the direction does not tell them apart on other tasks"
        return said

    def words(self) -> dict[str, str]:
        """What `ranking.csv` does not hold, by name."""
        return {"estimator": self.estimator, "null": self.null, "folds": self.folds}

    @classmethod
    def read_csv(cls, path: Path, *, estimator: str, null: str, folds: str) -> Self:
        """What `write_csv` wrote, with the `words` of the ranking.

        Raises:
            UsageError: not a `ranking.csv` of this version.
        """
        with path.open(newline="", encoding="utf-8") as file:
            lines = [{name: text for name, text in row.items() if name != "flags"} for row in csv.DictReader(file)]
        try:
            rows = tuple(_rank_of(line) for line in lines)
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"{path}: not the ranking of a direction by this version of capvec ({error!r})") from error
        return cls(rows, estimator, null, folds)

    def write_csv(self, path: Path, flags: Sequence[str] = ()) -> None:
        """Write `ranking.csv`.

        Args:
            path: of the file.
            flags: confounds that explain the contrast, in the column `flags` of every row: they are the contrast's.
        """
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [*LayerRank.__dataclass_fields__, "flags"], lineterminator="\n")
            writer.writeheader()
            writer.writerows({**asdict(row), "flags": ";".join(flags)} for row in self.rows)


def _rank_of(line: dict[str, str]) -> LayerRank:
    counts = {"layer", "n_pos", "n_neg"}
    values = {name: int(text) if name in counts else float(text) if text else None for name, text in line.items()}
    return LayerRank(**values)  # type: ignore[arg-type]
