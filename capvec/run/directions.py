"""Obtaining a sweep's direction: from a file, or from traces whose residuals the engine captures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from capvec.cache import cache_root
from capvec.directions.activations import Activations
from capvec.directions.build import build_direction
from capvec.directions.capture import capture_traces, engine_identity
from capvec.directions.direction import Direction, named_direction, orthogonal_controls, random_control, save_all
from capvec.directions.study_direction import StudyDirection, with_metadata
from capvec.engines.client import EngineClient
from capvec.engines.protocol import EngineInfo
from capvec.errors import EngineUnavailable, UsageError
from capvec.models import bundled_traces
from capvec.plan.options import SweepOptions
from capvec.records import Trace
from capvec.storage import make_folder
from capvec.traces import read_traces


def obtain_direction(
    options: SweepOptions, client: EngineClient, health: EngineInfo, folder: Path, say: Callable[[str], None]
) -> StudyDirection:
    """Load or build the sweep's direction, send it and its matched controls to the engine, and write `vectors/`.

    Raises:
        UsageError: the file, the traces or the contrast cannot be used; the message names the option.
        EngineUnavailable: the engine holds another direction than the one that was sent.
    """
    vectors = folder / "vectors"
    make_folder(vectors)
    if options.direction is not None:
        loaded = named_direction("--direction", options.direction, health.n_layers, health.d_model)
        obtained = StudyDirection(loaded, options.direction)
    else:
        obtained = _build(options, client, health, say)
        if obtained.ranking is not None:
            obtained.ranking.write_csv(vectors / "ranking.csv", obtained.flags)
    obtained = replace(obtained, controls=_matched_controls(options, obtained), steered=health)
    for direction in (obtained.direction, *(one for kind in obtained.controls.values() for one in kind)):
        send_direction(direction, client)
    save_all(obtained.direction, vectors, model_hint=health.model_type or "unknown")
    return obtained


def layers_known_before(options: SweepOptions) -> tuple[int, ...]:
    """The layers that a sweep steers, where they are known before its engine starts; else empty.

    They are where the direction is in a file. Traces have to be captured, at every layer.

    Raises:
        UsageError: the file cannot be read.
    """
    if options.direction is None:
        return ()
    direction = named_direction("--direction", options.direction)
    layers = {layer for group in options.layers or () for layer in group}
    if options.layers is None and direction.layer is not None:
        layers = {direction.layer}
    return tuple(sorted(layers)) if max(layers, default=0) < direction.n_layers else ()


def _build(
    options: SweepOptions, client: EngineClient, health: EngineInfo, say: Callable[[str], None]
) -> StudyDirection:
    reference = None
    if options.reference is not None:
        reference = named_direction("--reference", options.reference, health.n_layers, health.d_model).vectors
    source = f"the bundled {options.recipe.contrast} traces" if options.traces is None else options.traces
    traces = read_traces(
        bundled_traces(options.recipe.contrast) if options.traces is None else Path(options.traces),
        options.recipe.trace_fields,
        None if options.traces is None else say,
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
    return StudyDirection(built.direction, source, built)


def send_direction(direction: Direction, client: EngineClient) -> None:
    """Send a direction to the engine, and check that the engine understood it.

    Raises:
        EngineUnavailable: the engine holds another direction than the one that was sent.
    """
    info = client.put_direction(direction.to_bytes())
    if info.hash != direction.hash:
        raise EngineUnavailable(f"sent direction {direction.hash}, and the engine holds {info.hash}: is it capvec's?")


def _matched_controls(options: SweepOptions, obtained: StudyDirection) -> dict[str, Sequence[Direction]]:
    """The directions of `--controls random:K`, `orthogonal:K` and `shuffled:K`, each layer as long as the real one."""
    controls: dict[str, Sequence[Direction]] = {}
    if count := _count(options, "random"):
        controls["random"] = [random_control(obtained.direction, options.seed + number) for number in range(count)]
    if count := _count(options, "orthogonal"):
        controls["orthogonal"] = orthogonal_controls(obtained.direction, count, options.seed)
    if _count(options, "shuffled"):
        if obtained.built is None:
            raise UsageError(
                "--controls shuffled needs the traces whose labels it shuffles, and --direction has none; use --traces"
            )
        controls["shuffled"] = obtained.built.shuffled
    return controls


def _count(options: SweepOptions, kind: str) -> int:
    return next((control.count for control in options.controls if control.kind == kind), 0)
