"""`capvec export`: a finished run as a folder that is ready to publish, in the layout of the seed study."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, cast

from capvec.directions.direction import Direction
from capvec.directions.files import LARGEST_FILE
from capvec.errors import UsageError
from capvec.publish.card import model_card
from capvec.publish.usage import check_names
from capvec.reading import RECORD, shown
from capvec.report.files import write_documents
from capvec.report.html.viewer import embed
from capvec.results.lock import LOCK, locked_new
from capvec.results.preregistration import PREREGISTRATION
from capvec.results.results import Results
from capvec.results.run_folder import RunFolder, read_run_folder
from capvec.results.shards import absent_shards
from capvec.storage import copy_file, whole_or_empty, write_text, writing
from capvec.studies.regenerate import results_of_run

_VECTORS = ("dir.pt", "dir.safetensors", "dir.gguf")
_PATHS = ("direction", "traces", "reference", "tasks", "selection", "chosen")
"""Options that may name a place on this machine."""
_ABSOLUTE = re.compile(r"""(?<![\w:/.…-])/(?:[^\s/`'"|,;:()<>\[\]]+/)+([^\s/`'"|,;:()<>\[\]]*)""")
_Value = TypeVar("_Value")


def export(run: Path, out: Path, *, license_id: str, say: Callable[[str], None]) -> None:
    """Write `vectors/`, `RESULTS.md`, `report.html` with `plots/`, `results/<run>/master_summary.csv` and a model card.

    Args:
        run: folder of a finished sweep, such as `reports/latest`.
        out: the folder to make; may exist, if it is empty.
        license_id: for the card, as the Hugging Face hub names licenses.
        say: prints one line.

    Raises:
        UsageError: no finished sweep of this version there, its model has a name that is none, or `out` is in use.
    """
    finished = read_run_folder(run)
    _check_that_it_finished(finished)
    _check_vectors(finished)
    check_names(finished.engine)
    results, _ = results_of_run(finished)
    _check_that_all_ran(results)
    with locked_new(out, "--out"), whole_or_empty(out), writing(out):
        _write(finished, results, out, license_id)
    say(f"{out}: read README.md before you publish it; its license is {license_id} (--license names another)")


def _write(finished: RunFolder, results: Results, out: Path, license_id: str) -> None:
    run, table = finished.folder, out / "results" / results.plan.run / "master_summary.csv"
    for folder in (out / "vectors", table.parent):
        folder.mkdir(parents=True, exist_ok=True)
    for name in (*_VECTORS, *(["ranking.csv"] if results.direction.ranking else ())):
        copy_file(run / "vectors" / name, out / "vectors" / name, LARGEST_FILE)
    if results.comparison is not None:
        copy_file(run / PREREGISTRATION, out / PREREGISTRATION, RECORD)
    places = _places(finished.provenance)
    private = [place for place in (*places, str(run.resolve().parent), str(Path.home())) if place.count("/") > 1]
    clean = rewritten(results, lambda text: without_paths(text, places))
    # Absolute paths of trajectories are a container's, so nothing but what is private is taken from them.
    trials = rewritten(embed(run / "trajectories", results.outcomes), lambda text: without_private(text, private))
    write_documents(clean, trials, out, table)
    card = model_card(clean, finished.engine, license_id)
    write_text(out / "README.md", without_paths(card, places))
    _check_that_nothing_leaks(out, private)


def _check_that_it_finished(run: RunFolder) -> None:
    """Refuse a run without its reports or vectors.

    Raises:
        UsageError: not a sweep, or a file is missing.
    """
    folder, study = run.folder, run.plan.study
    if study != "sweep":
        raise UsageError(f"{folder}: a {study}; expected a sweep, which has one direction to publish")
    if run.plan.shard is not None:
        raise UsageError(f"{folder}: {run.plan.shard.in_words}; expected the whole sweep: merge it with capvec report")
    if not (folder / "summary.json").is_file():
        raise UsageError(f"{folder}: the run did not finish (no summary.json); {_again(folder)}")
    if absent := [f"vectors/{name}" for name in _VECTORS if not (folder / "vectors" / name).is_file()]:
        raise UsageError(f"{folder}: no {', '.join(absent)}; {_again(folder)}, which writes its files anew")


def _check_vectors(run: RunFolder) -> None:
    """Refuse vectors that are not those of the run's trials.

    Raises:
        UsageError: a file cannot be read, or holds another direction.
    """
    measured = run.provenance["direction"]["hash"]
    for path in (run.folder / "vectors" / name for name in _VECTORS):
        if (found := Direction.read(path).hash) != measured:
            raise UsageError(
                f"{shown(path)}: holds the direction {found}, and the trials are of {measured} (provenance.json); put "
                f"that run's file back, or {_again(run.folder)}, which writes it anew"
            )


def _check_that_all_ran(results: Results) -> None:
    """Refuse a run without all of its trials.

    Raises:
        UsageError: trials are missing.
    """
    if missing := results.completeness.missing:
        folder = results.plan.folder
        if absent := next(absent_shards(results.plan.dealing), None):
            raise UsageError(f"{folder}: {absent} Merge it with them: capvec report {folder} SHARD… --out DIR")
        raise UsageError(f"{folder}: {len(missing)} trials were not run, {missing[0]} first; {_again(folder)}")


def _again(folder: Path) -> str:
    return f"finish it with pytest -m sweep --run {folder.resolve().name} --resume"


def without_paths(text: str, places: Iterable[str]) -> str:
    """A text in which absolute paths, and the `places`, are no more than their last part.

    Args:
        text: to publish.
        places: paths as the user typed them, relative ones too.
    """
    for place in sorted(places, key=len, reverse=True):
        text = text.replace(place, Path(place).name)
    return _ABSOLUTE.sub(r"…/\1", text)


def without_private(text: str, private: Iterable[str]) -> str:
    """A text without places on this machine."""
    for place in sorted(private, key=len, reverse=True):
        text = text.replace(place, "…")
    return text


def rewritten(value: _Value, change: Callable[[str], str]) -> _Value:
    """A value of dataclasses, tuples, lists and mappings with every text in it changed; keys stay."""
    new: Any = value
    if isinstance(value, str):
        new = change(value)
    elif isinstance(value, Mapping):
        new = {key: rewritten(one, change) for key, one in value.items()}
    elif isinstance(value, tuple | list):
        new = type(value)(rewritten(one, change) for one in value)
    elif is_dataclass(value) and not isinstance(value, type):
        new = replace(
            value, **{one.name: rewritten(getattr(value, one.name), change) for one in fields(value) if one.init}
        )
    return cast(_Value, new)


def _places(provenance: Mapping[str, Any]) -> tuple[str, ...]:
    options = provenance["options"]
    given = (options.get(name) for name in _PATHS)
    return tuple(place for place in given if place and "/" in place)


def _check_that_nothing_leaks(out: Path, private: Sequence[str]) -> None:
    """The vectors are copied as they are, so what they say of themselves is looked at too.

    Raises:
        UsageError: a file names a place on this machine.
    """
    for path in sorted(file for file in out.rglob("*") if file.is_file() and file != out / LOCK):
        data = path.read_bytes()
        if found := next((place for place in private if place.encode() in data), None):
            raise UsageError(
                f"{path} names {found}, a place on this machine; do not publish it: serve the model under a name that "
                "is not a path, and run the sweep again"
            )
