"""Where a sweep's direction comes from: a file, or traces through the engine's captured residuals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from capvec import __version__
from capvec.cache import cache_root
from capvec.directions.activations import Activations, cut_in_words
from capvec.directions.build import BuiltDirection, build_direction
from capvec.directions.metadata import LAYER_CONVENTION, Metadata
from capvec.directions.ranking import Ranking
from capvec.directions.recipe import Recipe
from capvec.directions.record import Direction, orthogonal_twins, random_twin
from capvec.engine.client import EngineClient
from capvec.engine.protocol import FORMATS, Health
from capvec.errors import EngineUnavailable, UsageError
from capvec.pocket import bundled_traces
from capvec.records import Trace
from capvec.sweep.captures import capture_traces, engine_identity
from capvec.sweep.options import SweepOptions
from capvec.traces import read_traces


@dataclass(frozen=True)
class SweepDirection:
    """The direction of a sweep, its twins for controls, and what there is to say about it."""

    direction: Direction
    source: str
    """Where it came from, as the user would name it."""
    built: BuiltDirection | None = None
    """None when it was loaded from a file."""
    twins: dict[str, Sequence[Direction]] = field(default_factory=dict)
    steered: Health | None = None
    """The engine whose model it steers."""

    @property
    def ranking(self) -> Ranking | None:
        return self.built.ranking if self.built is not None else None

    @property
    def flags(self) -> tuple[str, ...]:
        """Confounds that explain the contrast."""
        return self.built.audit.flags if self.built is not None else ()

    def describe(self) -> str:
        """One or two sentences for the report."""
        if self.built is None:
            return f"Loaded from `{self.source}`.{_told(self.direction.metadata)}"
        contrast = self.built.contrast
        dropped = ", ".join(f"{count} {reason}" for reason, count in contrast.dropped.items() if count) or "none"
        return (
            f"The {self.built.ranking.estimator} of the residual, pooling `{self.built.activations.pooling}`, "
            f"contrast `{contrast.name}`: "
            f"{len(contrast.positives)} positive and {len(contrast.negatives)} negative traces from `{self.source}` "
            f"(dropped: {dropped})."
        )

    def caveats(self) -> list[str]:
        """What the contrast itself warns of."""
        if self.built is None:
            return [
                "The direction came from a file, so nothing is known here about the traces it was built from.",
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
        return {
            "hash": self.direction.hash,
            "source": self.source,
            "description": self.describe(),
            "caveats": self.caveats(),
            "ranking": self.ranking.words() if self.ranking is not None else None,
            "metadata": self.direction.metadata.to_json(),
            "norms": [float(norm) for norm in self.direction.norms],
            "contrast": self.built.contrast.to_json() if self.built is not None else None,
            "audit": self.built.audit.to_json() if self.built is not None else None,
            "pooling": self.built.activations.pooling if self.built is not None else None,
            "twins": {kind: [twin.hash for twin in twins] for kind, twins in self.twins.items()},
        }


def obtain_direction(
    options: SweepOptions, client: EngineClient, health: Health, folder: Path, say: Callable[[str], None]
) -> SweepDirection:
    """Load or build the sweep's direction, give it and its twins to the engine, and write `vectors/` of the run folder.

    Raises:
        UsageError: the file, the traces or the contrast cannot be used; the message names the option.
        EngineUnavailable: the engine holds another direction than the one that was sent.
    """
    vectors = folder / "vectors"
    vectors.mkdir(parents=True, exist_ok=True)
    if options.direction is not None:
        loaded = load_direction("--direction", Path(options.direction), client)
        obtained = SweepDirection(loaded, options.direction)
    else:
        obtained = _build(options, client, health, say)
        if obtained.ranking is not None:
            obtained.ranking.write_csv(vectors / "ranking.csv", obtained.flags)
    obtained = replace(obtained, twins=_twins(options, obtained), steered=health)
    for direction in (obtained.direction, *(twin for twins in obtained.twins.values() for twin in twins)):
        hand_over(direction, client)
    write_files(obtained.direction, client, vectors, say)
    return obtained


def load_direction(option: str, path: Path, client: EngineClient) -> Direction:
    """Read a direction file of any format through the engine, which knows the model's shape and has torch.

    Args:
        option: that named the file.
        path: of the file.
        client: of the engine; it keeps the direction.

    Raises:
        UsageError: no such file, or not one of a direction for this model; the message names option and file.
    """
    check_file(option, path)
    try:
        info = client.put_direction(path.read_bytes(), path.suffix.removeprefix("."))
    except UsageError as error:
        raise UsageError(f"{option} {path}: {error}") from error
    return Direction.from_bytes(client.get_direction(info.hash, "safetensors"))


def check_file(option: str, path: Path) -> None:
    """What can be said of a direction's file without an engine.

    Raises:
        UsageError: no such file, or no format of directions; the message names option and file.
    """
    expected = f"expected a {', '.join(f'.{name}' for name in FORMATS)} file"
    if not path.is_file():
        raise UsageError(f"{option} {path}: no such file; {expected}")
    if path.suffix.removeprefix(".") not in FORMATS:
        raise UsageError(f"{option} {path}: not a direction's file by its name; {expected}")


def write_files(direction: Direction, client: EngineClient, vectors: Path, say: Callable[[str], None]) -> None:
    """Write `dir.safetensors`, `dir.pt` and `dir.gguf`, of a direction that the engine holds."""
    direction.save(vectors / "dir.safetensors")
    for suffix in ("pt", "gguf"):
        (vectors / f"dir.{suffix}").write_bytes(client.get_direction(direction.hash, suffix))
    if direction.norms[0] > 0:
        say("dir.gguf: llama.cpp takes no vector for layer 0; it is kept under capvec.direction_0, for capvec alone")


def _build(options: SweepOptions, client: EngineClient, health: Health, say: Callable[[str], None]) -> SweepDirection:
    reference = None
    if options.reference is not None:
        reference = load_direction("--reference", Path(options.reference), client).vectors
    source = f"the bundled {options.recipe.contrast} traces" if options.traces is None else options.traces
    traces = read_traces(
        bundled_traces(options.recipe.contrast) if options.traces is None else Path(options.traces),
        options.recipe.trace_fields,
    )

    def capture(chosen: Sequence[Trace]) -> Activations:
        return capture_traces(chosen, client, say, options.recipe.pooling)

    built = build_direction(
        traces,
        recipe=options.recipe,
        model=health.model,
        identity=engine_identity(health),
        capture=capture,
        cache=cache_root() / "activations",
        shuffled=_count(options, "shuffled"),
        seed=options.seed,
        reference=reference,
    )
    built = with_metadata(built, options.recipe, health)
    return SweepDirection(built.direction, source, built)


def with_metadata(built: BuiltDirection, recipe: Recipe, health: Health) -> BuiltDirection:
    """The same, with what the direction's files are to say of it.

    Args:
        built: from traces.
        recipe: by which it was built.
        health: of the engine that captured the residuals.
    """
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


def hand_over(direction: Direction, client: EngineClient) -> None:
    """Give a direction to the engine, and make sure that it understood it.

    Raises:
        EngineUnavailable: the engine holds another direction than the one that was sent.
    """
    info = client.put_direction(direction.to_bytes(), "safetensors")
    if info.hash != direction.hash:
        raise EngineUnavailable(f"sent direction {direction.hash}, and the engine holds {info.hash}: is it capvec's?")


def _twins(options: SweepOptions, obtained: SweepDirection) -> dict[str, Sequence[Direction]]:
    """The directions that `random:K` and its like steer with, each layer as long as the real one."""
    twins: dict[str, Sequence[Direction]] = {}
    if count := _count(options, "random"):
        twins["random"] = [random_twin(obtained.direction, options.seed + number) for number in range(count)]
    if count := _count(options, "orthogonal"):
        twins["orthogonal"] = orthogonal_twins(obtained.direction, count, options.seed)
    if _count(options, "shuffled"):
        if obtained.built is None:
            raise UsageError(
                "--controls shuffled needs the traces to shuffle, and --direction brings none: use --traces"
            )
        twins["shuffled"] = obtained.built.shuffled
    return twins


def _count(options: SweepOptions, kind: str) -> int:
    return next((control.count for control in options.controls if control.kind == kind), 0)


def _told(metadata: Metadata) -> str:
    """What a direction's file says about it, as a sentence; empty if it says nothing."""
    names = {"model": "model", "revision": "revision", "contrast": "contrast", "estimator": "estimator"}
    known = [f"{title} `{value}`" for name, title in names.items() if (value := getattr(metadata, name))]
    return f" Its file says: {', '.join(known)}." if known else ""


def _mismatches(metadata: Metadata, steered: Health | None) -> list[str]:
    """Where the file of a direction speaks of something else than what is steered."""
    caveats = []
    if steered is not None and metadata.model not in {"", steered.model}:
        caveats.append(
            f"The direction's file says that it was built from the model {metadata.model}, and {steered.model} was "
            "steered: layers of another model need not mean the same."
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
