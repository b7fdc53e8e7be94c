"""Where a sweep's direction comes from: a file, or traces through the engine's captured residuals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from capvec.cache import cache_root
from capvec.directions.activations import Activations
from capvec.directions.build import build_direction
from capvec.directions.capture import capture_traces, engine_identity
from capvec.directions.direction import Direction, orthogonal_controls, random_control
from capvec.directions.study_direction import StudyDirection, with_metadata
from capvec.engines.client import EngineClient
from capvec.engines.protocol import FORMATS, EngineInfo
from capvec.errors import EngineUnavailable, UsageError
from capvec.models import bundled_traces
from capvec.plan.options import SweepOptions
from capvec.records import Trace
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
    vectors.mkdir(parents=True, exist_ok=True)
    if options.direction is not None:
        loaded = load_direction("--direction", Path(options.direction), client)
        obtained = StudyDirection(loaded, options.direction)
    else:
        obtained = _build(options, client, health, say)
        if obtained.ranking is not None:
            obtained.ranking.write_csv(vectors / "ranking.csv", obtained.flags)
    obtained = replace(obtained, controls=_matched_controls(options, obtained), steered=health)
    for direction in (obtained.direction, *(one for kind in obtained.controls.values() for one in kind)):
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


def _build(
    options: SweepOptions, client: EngineClient, health: EngineInfo, say: Callable[[str], None]
) -> StudyDirection:
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
    return StudyDirection(built.direction, source, built)


def hand_over(direction: Direction, client: EngineClient) -> None:
    """Give a direction to the engine, and make sure that it understood it.

    Raises:
        EngineUnavailable: the engine holds another direction than the one that was sent.
    """
    info = client.put_direction(direction.to_bytes(), "safetensors")
    if info.hash != direction.hash:
        raise EngineUnavailable(f"sent direction {direction.hash}, and the engine holds {info.hash}: is it capvec's?")


def _matched_controls(options: SweepOptions, obtained: StudyDirection) -> dict[str, Sequence[Direction]]:
    """The directions that `random:K` and its like steer with, each layer as long as the real one."""
    controls: dict[str, Sequence[Direction]] = {}
    if count := _count(options, "random"):
        controls["random"] = [random_control(obtained.direction, options.seed + number) for number in range(count)]
    if count := _count(options, "orthogonal"):
        controls["orthogonal"] = orthogonal_controls(obtained.direction, count, options.seed)
    if _count(options, "shuffled"):
        if obtained.built is None:
            raise UsageError(
                "--controls shuffled needs the traces to shuffle, and --direction brings none: use --traces"
            )
        controls["shuffled"] = obtained.built.shuffled
    return controls


def _count(options: SweepOptions, kind: str) -> int:
    return next((control.count for control in options.controls if control.kind == kind), 0)
