"""Every report against its snapshot in `tests/data/snapshots`, sentence by sentence.

After an edit of a sentence, rewrite them and read the diff: `pytest tests/unit/report/test_snapshots.py
--rewrite-snapshots`.
"""

import re

import pytest
from support import REPOSITORY
from support.recorded_calibration import write_calibration_run
from support.recorded_collection import collection
from support.recorded_run import write_recorded

from capvec import __version__
from capvec.directions.direction import Direction
from capvec.publish.export import export
from capvec.report.baseline import write_baseline
from capvec.studies.regenerate import report

pytestmark = pytest.mark.unit

SNAPSHOTS = REPOSITORY / "tests" / "data" / "snapshots"


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """File name → text, without what differs between machines and versions, and without bulk."""
    root = tmp_path_factory.mktemp("snapshots")
    sweep, calibration, collected = root / "sweep", root / "calibration", root / "collection"
    write_recorded(sweep)
    for suffix in ("pt", "gguf"):
        Direction.read(sweep / "vectors" / "dir.safetensors").save(sweep / "vectors" / f"dir.{suffix}")
    export(sweep, root / "export", license_id="mit", say=lambda _: None)
    collected.mkdir()
    write_baseline(*collection(collected))
    texts = {
        "RESULTS.md": (sweep / "RESULTS.md").read_text(),
        "report.html": page_without_bulk((sweep / "report.html").read_text()),
        "sweep.txt": "\n".join(report([sweep], None).lines) + "\n",
        "card.md": (root / "export" / "README.md").read_text(),
        "calibration.txt": "\n".join(write_calibration_run(calibration)) + "\n",
        "CALIBRATION.md": (calibration / "CALIBRATION.md").read_text(),
        "BASELINE.md": (collected / "BASELINE.md").read_text(),
    }
    return {name: normalised(text.replace(f"{root}/", "")) for name, text in texts.items()}


def page_without_bulk(page):
    """Without scripts, styles, marks of charts, and all rows of a table but the first: `RESULTS.md` has the others."""
    for pattern, kept in (
        (r"(<(script|style)\b[^>]*>).*?(</\2>)", r"\1\3"),
        (r"(<svg\b[^>]*>)(<title.*?</title><desc.*?</desc>).*?(</svg>)", r"\1\2\3"),
        (r"(<tbody>\n<tr>.*?</tr>\n).*?(</tbody>)", r"\1\2"),
    ):
        page = re.sub(pattern, kept, page, flags=re.DOTALL)
    return page


def normalised(text):
    """Hashes and the version of capvec as placeholders."""
    text = re.sub(r"\b[0-9a-f]{16}\b|(?<=sha256-)[\w+/]+=", "HASH", text)
    return text.replace(f"capvec {__version__}", "capvec VERSION")


@pytest.mark.parametrize(
    "name", ["RESULTS.md", "report.html", "sweep.txt", "card.md", "calibration.txt", "CALIBRATION.md", "BASELINE.md"]
)
def test_a_report_is_as_its_snapshot(name, reports, pytestconfig):
    path = SNAPSHOTS / name
    if pytestconfig.getoption("--rewrite-snapshots"):
        path.write_text(reports[name], encoding="utf-8")
    assert reports[name].splitlines() == path.read_text(encoding="utf-8").splitlines()


def test_there_is_a_snapshot_of_each_report_and_none_of_another(reports):
    assert {path.name for path in SNAPSHOTS.iterdir()} == set(reports)
