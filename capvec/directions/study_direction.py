"""The direction of a study: the vector, its source, its matched controls, and what the report says about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from capvec import __version__
from capvec.directions.activations import cut_in_words
from capvec.directions.build import BuiltDirection
from capvec.directions.direction import Direction
from capvec.directions.metadata import LAYER_CONVENTION, Metadata
from capvec.directions.ranking import Ranking
from capvec.directions.recipe import Recipe
from capvec.engines.protocol import EngineInfo


@dataclass(frozen=True)
class StudyDirection:
    """The direction of a study, its matched controls, and what the report says about it."""

    direction: Direction
    source: str
    """Where the direction came from, in the user's words: a file, a folder of traces."""
    built: BuiltDirection | None = None
    """None if the direction was read from a file."""
    controls: Mapping[str, Sequence[Direction]] = field(default_factory=dict)
    """Kind of matched control, such as `random`, to its directions, each as long in every layer as the real one."""
    steered: EngineInfo | None = None
    """The engine whose model the direction steers."""

    @property
    def ranking(self) -> Ranking | None:
        return self.built.ranking if self.built is not None else None

    @property
    def flags(self) -> tuple[str, ...]:
        """Names of the flagged confounds of the contrast."""
        return self.built.audit.flags if self.built is not None else ()

    def describe(self) -> str:
        """One or two sentences for the report."""
        if self.built is None:
            return f"Loaded from `{self.source}`.{_from_metadata(self.direction.metadata)}"
        contrast = self.built.contrast
        dropped = ", ".join(f"{count} {reason}" for reason, count in contrast.dropped.items() if count) or "none"
        return (
            f"The {self.built.ranking.estimator} of the residual, pooling `{self.built.activations.pooling}`, "
            f"contrast `{contrast.name}`: "
            f"{len(contrast.positives)} positive and {len(contrast.negatives)} negative traces from `{self.source}` "
            f"(dropped: {dropped})."
        )

    def caveats(self) -> list[str]:
        """Reasons for caution that come from the direction itself, as sentences."""
        if self.built is None:
            return [
                "The direction came from a file, so the traces that it was built from are not known.",
                *_mismatches(self.direction.metadata, self.steered),
            ]
        caveats = []
        if not self.built.ranking.found():
            caveats.append(f"{self.built.ranking.verdict()}.")
        caveats += self.built.warnings()
        names = [trace.id for trace in self.built.contrast.traces]
        if cut := cut_in_words(names, self.built.activations):
            caveats.append("; ".join([cut[0].removesuffix("."), *cut[1:]]) + ".")
        return caveats

    def provenance(self) -> dict[str, Any]:
        """Hash, source and contrast, for `provenance.json`."""
        built = self.built
        return {
            "hash": self.direction.hash,
            "trimmed_hash": self.direction.trimmed_hash,
            "source": self.source,
            "description": self.describe(),
            "caveats": self.caveats(),
            "ranking": self.ranking.words() if self.ranking is not None else None,
            "metadata": self.direction.metadata.to_json(),
            "norms": [float(norm) for norm in self.direction.norms],
            "contrast": built.contrast.record().to_json() if built else None,
            "audit": built.audit.to_json() if built else None,
            "pooling": built.activations.pooling if built else None,
            "controls": {kind: [one.hash for one in directions] for kind, directions in self.controls.items()},
        }


def with_metadata(built: BuiltDirection, recipe: Recipe, health: EngineInfo) -> BuiltDirection:
    """Add the metadata for the direction's files; `health` is of the engine that captured the residuals."""
    metadata = Metadata(
        model=health.model,
        revision=health.revision or "",
        layer_convention=LAYER_CONVENTION,
        layer=built.ranking.best.layer,
        contrast=built.contrast.name,
        contrast_hash=built.contrast.hash,
        estimator=recipe.estimator,
        pooling=built.activations.pooling,
        capvec=__version__,
        thresholds=" ".join(f"{name}={value:g}" for name, value in recipe.thresholds.items()),
    )
    return replace(built, direction=replace(built.direction, metadata=metadata))


def _from_metadata(metadata: Metadata) -> str:
    """A sentence on what a direction's file says about it; empty if it says nothing."""
    names = {"model": "model", "revision": "revision", "contrast": "contrast", "estimator": "estimator"}
    known = [f"{title} `{value}`" for name, title in names.items() if (value := getattr(metadata, name))]
    return f" Its file says: {', '.join(known)}." if known else ""


def _mismatches(metadata: Metadata, steered: EngineInfo | None) -> list[str]:
    """Sentences on how the metadata of a direction differ from the model that it steers."""
    caveats = []
    if steered is not None and metadata.model not in {"", steered.model}:
        caveats.append(
            f"The direction's file says that it was built from the model {metadata.model}, and {steered.model} was "
            "steered: the layers of two models need not correspond."
        )
    elif steered is not None and steered.revision and metadata.revision not in {"", steered.revision}:
        caveats.append(
            f"The direction's file says that it was built from revision {metadata.revision} of the model, and "
            f"{steered.revision} was steered."
        )
    if metadata.layer_convention not in {"", LAYER_CONVENTION}:
        caveats.append(
            f"The direction's file counts layers as {metadata.layer_convention!r}; here row L was added to the "
            f"{LAYER_CONVENTION}."
        )
    return caveats
