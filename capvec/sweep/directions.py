"""Where a sweep's direction comes from: a file, or traces through the engine's captured residuals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from capvec.cache import cache_root
from capvec.directions.activations import Activations, cut_in_words
from capvec.directions.build import BuiltDirection, build_direction
from capvec.directions.ranking import Ranking
from capvec.directions.record import Direction, random_twin
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
            return f"Loaded from `{self.source}`."
        contrast = self.built.contrast
        dropped = ", ".join(f"{count} {reason}" for reason, count in contrast.dropped.items() if count) or "none"
        return (
            f"Mean difference of the residual, pooling `{self.built.activations.pooling}`, contrast `{contrast.name}`: "
            f"{len(contrast.positives)} positive and {len(contrast.negatives)} negative traces from `{self.source}` "
            f"(dropped: {dropped})."
        )

    def caveats(self) -> list[str]:
        """What the contrast itself warns of."""
        if self.built is None:
            return ["The direction came from a file, so nothing is known here about the traces it was built from."]
        best = self.built.ranking.best
        caveats = []
        if best.p_value > 0.05:
            caveats.append(
                f"The direction is not distinguishable from chance at its best layer ({best.layer}): "
                f"AUC {best.auc:.3f} in sample, label-permutation p = {best.p_value:.2g}."
            )
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
        obtained = _load(Path(options.direction), client, vectors)
    else:
        obtained = _build(options, client, health, say)
        obtained.direction.save(vectors / "dir.safetensors")
        if obtained.ranking is not None:
            obtained.ranking.write_csv(vectors / "ranking.csv", obtained.flags)
    obtained = replace(obtained, twins=_twins(options, obtained))
    for direction in (obtained.direction, *(twin for twins in obtained.twins.values() for twin in twins)):
        hand_over(direction, client)
    (vectors / "dir.pt").write_bytes(client.get_direction(obtained.direction.hash, "pt"))
    return obtained


def _load(path: Path, client: EngineClient, vectors: Path) -> SweepDirection:
    if not path.is_file():
        raise UsageError(
            f"--direction {path}: no such file; expected a {', '.join(f'.{name}' for name in FORMATS)} file"
        )
    try:
        info = client.put_direction(path.read_bytes(), path.suffix.removeprefix("."))
    except UsageError as error:
        raise UsageError(f"--direction {path}: {error}") from error
    target = vectors / "dir.safetensors"
    target.write_bytes(client.get_direction(info.hash, "safetensors"))
    return SweepDirection(Direction.load(target), str(path))


def _build(options: SweepOptions, client: EngineClient, health: Health, say: Callable[[str], None]) -> SweepDirection:
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
    )
    return SweepDirection(built.direction, source, built)


def hand_over(direction: Direction, client: EngineClient) -> None:
    """Give a direction to the engine, and make sure that it understood it.

    Raises:
        EngineUnavailable: the engine holds another direction than the one that was sent.
    """
    info = client.put_direction(direction.to_bytes(), "safetensors")
    if info.hash != direction.hash:
        raise EngineUnavailable(f"sent direction {direction.hash}, and the engine holds {info.hash}: is it capvec's?")


def _twins(options: SweepOptions, obtained: SweepDirection) -> dict[str, Sequence[Direction]]:
    """The directions that `random:K` and `shuffled:K` steer with, each layer as long as the real one."""
    twins: dict[str, Sequence[Direction]] = {}
    if count := _count(options, "random"):
        twins["random"] = [random_twin(obtained.direction, options.seed + number) for number in range(count)]
    if _count(options, "shuffled"):
        if obtained.built is None:
            raise UsageError(
                "--controls shuffled needs the traces to shuffle, and --direction brings none: use --traces"
            )
        twins["shuffled"] = obtained.built.shuffled
    return twins


def _count(options: SweepOptions, kind: str) -> int:
    return next((control.count for control in options.controls if control.kind == kind), 0)
