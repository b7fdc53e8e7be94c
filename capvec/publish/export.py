"""`capvec export`: a finished run as a folder that is ready to publish, in the layout of the seed study."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import escape

from capvec.errors import UsageError
from capvec.publish.card import model_card
from capvec.results.results import Results
from capvec.results.run_folder import RunFolder, read_run_folder
from capvec.studies.regenerate import results_of_run

_VECTORS = ("dir.pt", "dir.safetensors", "dir.gguf")
_TEXTS = ("RESULTS.md", "master_summary.csv")
_PAGE, _PLOTS = "report.html", "plots"
"""Which a run of an earlier capvec does not have."""
_PATHS = ("direction", "traces", "reference", "tasks", "selection", "chosen")
"""Options that may name a place on this machine."""
_ABSOLUTE = re.compile(r"""(?<![\w:/.…-])/(?:[^\s/`'"|,;:()<>\[\]]+/)+([^\s/`'"|,;:()<>\[\]]*)""")
_NOT_TEXT = re.compile(r"(<(?:script|style)\b.*?</(?:script|style)>)", re.DOTALL)
"""Of a page: programs, whose digests it names, and trajectories, whose paths are those of a container."""


def export(run: Path, out: Path, *, license_id: str, say: Callable[[str], None]) -> None:
    """Write `vectors/`, `RESULTS.md`, `report.html` with `plots/`, `results/<run>/master_summary.csv` and a model card.

    Args:
        run: folder of a finished sweep, such as `reports/latest`.
        out: the folder to make; may exist, if it is empty.
        license_id: for the card, as the Hugging Face hub names licenses.
        say: prints one line.

    Raises:
        UsageError: no finished sweep of this version there, or `out` is in use.
    """
    finished = read_run_folder(run)
    _check_that_it_finished(finished)
    results, _ = results_of_run(finished)
    _check_that_all_ran(results)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"--out {out}: exists and is not an empty folder; choose another")
    table = out / "results" / results.plan.run / "master_summary.csv"
    for folder in (out / "vectors", table.parent):
        folder.mkdir(parents=True, exist_ok=True)
    for name in (*_VECTORS, *(["ranking.csv"] if results.direction.ranking else ())):
        shutil.copyfile(run / "vectors" / name, out / "vectors" / name)
    places = _places(finished.provenance)
    here = (*places, str(run.resolve().parent), str(Path.home()))
    private = [place for place in here if place.count("/") > 1]
    pages = [page.relative_to(run) for page in (run / _PAGE, *sorted((run / _PLOTS).glob("*.svg"))) if page.is_file()]
    kinds = {page.parts[0] for page in pages}
    texts = {
        out / "RESULTS.md": (run / "RESULTS.md").read_text(encoding="utf-8"),
        table: (run / "master_summary.csv").read_text(encoding="utf-8"),
        out / "README.md": model_card(results, finished.engine, license_id, kinds),
    }
    for path, text in texts.items():
        path.write_text(without_paths(text, places), encoding="utf-8")
    for page in pages:
        (out / page).parent.mkdir(exist_ok=True)
        text = (run / page).read_text(encoding="utf-8")
        (out / page).write_text(page_without_paths(text, places, private), encoding="utf-8")
    _check_that_nothing_leaks(out, private)
    say(f"{out}: read README.md before you publish it; its license is {license_id} (--license names another)")


def _check_that_it_finished(run: RunFolder) -> None:
    """Refuse a run without its reports or vectors.

    Raises:
        UsageError: not a sweep, or a file is missing.
    """
    folder, study = run.folder, run.plan.study
    if study != "sweep":
        raise UsageError(f"{folder}: a {study}; expected a sweep, which has one direction to publish")
    if not (folder / "summary.json").is_file():
        raise UsageError(f"{folder}: the run did not finish (no summary.json); {_again(folder)}")
    needed = (*(Path("vectors") / name for name in _VECTORS), *map(Path, _TEXTS))
    if absent := [str(name) for name in needed if not (folder / name).is_file()]:
        raise UsageError(f"{folder}: no {', '.join(absent)}; {_again(folder)}, which writes its files anew")


def _check_that_all_ran(results: Results) -> None:
    """Refuse a run without all of its trials.

    Raises:
        UsageError: trials are missing.
    """
    if missing := results.completeness.missing:
        folder = results.plan.folder
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


def page_without_paths(page: str, places: Iterable[str], private: Iterable[str]) -> str:
    """HTML or SVG in which what is shown is as in `without_paths`.

    Of programs and trajectories nothing is taken but `private`: absolute paths there are a container's.

    Args:
        page: to publish.
        places: paths as the user typed them.
        private: places on this machine.
    """
    parts = _NOT_TEXT.split(page)
    typed = [str(escape(place)) for place in places]
    page = "".join(part if number % 2 else without_paths(part, typed) for number, part in enumerate(parts))
    for place in sorted(private, key=len, reverse=True):
        for form in (place, str(escape(place)), json.dumps(place)[1:-1]):
            page = page.replace(form, "…")
    return page


def _places(provenance: Mapping[str, Any]) -> tuple[str, ...]:
    options = provenance["options"]
    given = (options.get(name) for name in _PATHS)
    return tuple(place for place in given if place and "/" in place)


def _check_that_nothing_leaks(out: Path, private: Sequence[str]) -> None:
    """The vectors are copied as they are, so what they say of themselves is looked at too.

    Raises:
        UsageError: a file names a place on this machine.
    """
    for path in sorted(file for file in out.rglob("*") if file.is_file()):
        data = path.read_bytes()
        if found := next((place for place in private if place.encode() in data), None):
            raise UsageError(
                f"{path} names {found}, a place on this machine; do not publish it: serve the model under a name that "
                "is not a path, and run the sweep again"
            )
