"""The ranking of layers: the rows of `ranking.csv`, and the verdict in words."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

from capvec.errors import UsageError
from capvec.reading import RECORD, read_text, shown
from capvec.storage import write_text

LEVEL = 0.05
"""Significance level of the verdict."""


@dataclass(frozen=True)
class LayerRank:
    """The numbers of one layer, as in `ranking.csv`; None (there an empty field) where a number is not defined."""

    layer: int
    auc: float
    """In-sample AUC of the projections of the traces that the direction was built from. Read it against its null."""
    margin: float
    """mean(pos·d) − mean(neg·d) = ‖v_L‖."""
    ambient_norm: float
    """Mean ‖h_L‖ over the traces."""
    margin_ratio: float
    """Margin over ambient norm: the dose of α = 1 in stored units. Read it against its null and against noise."""
    margin_ratio_null_mean: float | None = field(default=None, kw_only=True)
    """Mean of `margin_ratio` over the label permutations, each with a refitted direction; None in older rankings, as
    for the next two."""
    margin_ratio_null_p95: float | None = field(default=None, kw_only=True)
    """95 % of the label permutations have a `margin_ratio` of at most this."""
    margin_ratio_noise: float | None = field(default=None, kw_only=True)
    """`margin_ratio` of a mean difference between classes that differ by noise alone, with as many traces and the same
    spread (`noise_margin` has the formula); None where each class has one trace."""
    n_pos: int
    n_neg: int
    auc_null_p95: float
    """95 % of label permutations, each with a refitted direction, have an in-sample AUC of at most this."""
    cv_auc: float | None
    """Cross-fitted AUC: each trace is projected on the direction fitted without its task."""
    cv_auc_low: float | None
    """Lower end of the 95 % interval of `cv_auc`, with tasks as clusters."""
    cv_auc_high: float | None
    """Upper end of that interval."""
    cv_auc_null_p95: float | None
    """95 % of label permutations, cross-fitted in the same way, have a `cv_auc` of at most this."""
    cv_p_value: float | None
    """Share of labellings, the observed one included, whose `cv_auc` is at least the observed one, for this layer."""
    p_value: float
    """The same for the margin, for this layer."""
    p_corrected: float
    """The same for the margin, corrected over layers by the maximum statistic."""
    stability_min: float | None
    """Cosine of the direction with the one refitted without a task, least over tasks."""
    stability_mean: float | None
    """The same cosine, mean over tasks."""
    reference_cosine: float | None
    """Cosine with the reference direction."""

    def dose(self, alpha: float) -> float:
        """|α|·‖v_L‖ / ambient norm, for α in stored units, a multiple of the stored vector."""
        return abs(alpha) * self.margin_ratio

    def margin_in_words(self) -> str:
        """The margin over ambient norm beside its null and beside noise."""
        said = f"margin {self.margin_ratio:.2f} of the ambient norm"
        if self.margin_ratio_null_mean is None:
            return f"{said} (its null is not on record)"
        said += f", where label permutations give {self.margin_ratio_null_mean:.2f} on average"
        said += f" and 95 % of them at most {self.margin_ratio_null_p95:.2f}"
        return said if self.margin_ratio_noise is None else f"{said}, and noise {self.margin_ratio_noise:.2f}"


@dataclass(frozen=True)
class Ranking:
    """All layers, best first.

    Layers are sorted by the corrected p, then by the layer's own p, by the cross-fitted AUC, and by the margin over the
    ambient norm. The in-sample AUC is not used: in a wide residual stream it is 1 for pure noise as well.
    """

    rows: tuple[LayerRank, ...]
    estimator: str
    """The estimator, in words."""
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
        """A sentence without its full stop on the direction of a layer; None takes the best layer."""
        row = self.best if layer is None else self.row(layer)
        word = "distinguishable" if self.found(row.layer) else "not distinguishable"
        corrected = f", corrected over {len(self.rows)} layers p = {row.p_corrected:.3g}" if len(self.rows) > 1 else ""
        said = (
            f"Layer {row.layer} is {word} from chance: p = {row.p_value:.3g}{corrected}; {row.margin_in_words()}; "
            f"AUC {row.auc:.3f} in sample, where 95 % of label permutations reach at most {row.auc_null_p95:.3f}; "
        )
        if row.cv_auc is None or row.cv_p_value is None:
            return f"{said}{self.folds}"
        said += (
            f"on tasks left out AUC {row.cv_auc:.3f} ({row.cv_auc_low:.2f} to {row.cv_auc_high:.2f}), "
            f"p = {row.cv_p_value:.3g}"
        )
        if self.found(row.layer) and row.cv_p_value > LEVEL:
            said += "; the classes differ, but on other tasks the direction does not tell them apart"
        return said

    def words(self) -> dict[str, str]:
        """The fields that `ranking.csv` does not hold, by name."""
        return {"estimator": self.estimator, "null": self.null, "folds": self.folds}

    @classmethod
    def read_csv(cls, path: Path, *, estimator: str, null: str, folds: str) -> Self:
        """Read what `write_csv` wrote; the texts are those of `words`.

        Raises:
            UsageError: the file is not a `ranking.csv` of this version.
        """
        text = read_text(path, RECORD)
        try:
            lines = csv.DictReader(io.StringIO(text, newline=""))
            rows = tuple(_rank_of({name: one for name, one in line.items() if name != "flags"}) for line in lines)
            if not rows:
                raise ValueError("no rows")
        except (KeyError, TypeError, ValueError, csv.Error) as error:
            raise UsageError(
                f"{shown(path)}: not the ranking of a direction by this version of capvec ({error!r:.200})"
            ) from error
        return cls(rows, estimator, null, folds)

    def write_csv(self, path: Path, flags: Sequence[str] = ()) -> None:
        """Write `ranking.csv`, with the names of the flagged confounds in the column `flags` of every row."""
        text = io.StringIO()
        writer = csv.DictWriter(text, [*LayerRank.__dataclass_fields__, "flags"], lineterminator="\n")
        writer.writeheader()
        writer.writerows({**asdict(row), "flags": ";".join(flags)} for row in self.rows)
        write_text(path, text.getvalue())


def _rank_of(line: dict[str, str]) -> LayerRank:
    counts = {"layer", "n_pos", "n_neg"}
    values = {name: int(text) if name in counts else float(text) if text else None for name, text in line.items()}
    return LayerRank(**values)  # type: ignore[arg-type]
