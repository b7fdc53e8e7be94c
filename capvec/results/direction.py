"""What reports say about a run's direction, from the direction itself or from the run folder."""

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
    """A direction without its vectors."""

    hash: str
    description: str
    """One or two sentences."""
    caveats: tuple[str, ...] = ()
    ranking: Ranking | None = None
    contrast: ContrastRecord | None = None
    """None, as is `audit`, for a direction that this run did not build from traces."""
    audit: Audit | None = None

    @classmethod
    def of(cls, direction: StudyDirection) -> Self:
        """Describe a direction."""
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
        """Read `provenance.json` and `vectors/ranking.csv`.

        A caveat says what is missing, for instance from the run of an earlier capvec.
        """
        data = provenance["direction"]
        words, path = data.get("ranking"), folder / "vectors" / "ranking.csv"
        ranking = Ranking.read_csv(path, **words) if words and path.is_file() else None
        caveats = list(data.get("caveats", ()))
        if "caveats" not in data or (words and ranking is None):
            caveats.append(
                "This report lacks some of what the run's first report said about the direction: "
                + ("vectors/ranking.csv is missing." if words else "an earlier capvec wrote the run folder.")
            )
        has_contrast = bool(data.get("audit") and data.get("contrast"))
        return cls(
            hash=data["hash"],
            description=data.get("description", f"From {_quoted(data['source'])}."),
            caveats=tuple(caveats),
            ranking=ranking,
            contrast=ContrastRecord.from_json(data["contrast"]) if has_contrast else None,
            audit=Audit.from_json(data["audit"]) if has_contrast else None,
        )


def _quoted(source: str) -> str:
    """As Markdown code; a source that contains code already is returned as it is."""
    return source if "`" in source else f"`{source}`"
