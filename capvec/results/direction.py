"""What reports say of a sweep's direction: the same from the sweep that has it as from what a run left on disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from capvec.directions.audit import Audit
from capvec.directions.contrast import ContrastRecord
from capvec.directions.ranking import Ranking
from capvec.directions.study_direction import StudyDirection


@dataclass(frozen=True)
class DirectionSummary:
    """All of a direction but its vectors."""

    hash: str
    description: str
    """One or two sentences."""
    caveats: tuple[str, ...] = ()
    ranking: Ranking | None = None
    contrast: ContrastRecord | None = None
    """None for a direction that was not built from traces here, as the next one is."""
    audit: Audit | None = None

    @classmethod
    def of(cls, direction: StudyDirection) -> Self:
        """Of a direction at hand."""
        built = direction.built
        return cls(
            hash=direction.direction.hash,
            description=direction.describe(),
            caveats=tuple(direction.caveats()),
            ranking=direction.ranking,
            contrast=built.contrast.record() if built else None,
            audit=built.audit if built else None,
        )

    @classmethod
    def read(cls, folder: Path, provenance: Mapping[str, Any]) -> Self:
        """From `provenance.json` and `vectors/ranking.csv`.

        What a run of an earlier capvec did not write down is left out, and a caveat says so.

        Args:
            folder: the run folder.
            provenance: what its `provenance.json` holds.
        """
        told = provenance["direction"]
        words, path = told.get("ranking"), folder / "vectors" / "ranking.csv"
        ranking = Ranking.read_csv(path, **words) if words and path.is_file() else None
        caveats = list(told.get("caveats", ()))
        if "caveats" not in told or (words and ranking is None):
            caveats.append(
                "This report was made again without all that the first one knew of the direction: "
                + ("vectors/ranking.csv is missing." if words else "the run is of an earlier capvec.")
            )
        has_contrast = bool(told.get("audit") and told.get("contrast"))
        return cls(
            hash=told["hash"],
            description=told.get("description", f"From {_quoted(told['source'])}."),
            caveats=tuple(caveats),
            ranking=ranking,
            contrast=ContrastRecord.from_json(told["contrast"]) if has_contrast else None,
            audit=Audit.from_json(told["audit"]) if has_contrast else None,
        )


def _quoted(source: str) -> str:
    """As `code`, which cannot hold code itself."""
    return source if "`" in source else f"`{source}`"
