"""The run folder of someone else: what is no file is refused by name, and damaged JSON in one sentence."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from support import hostile
from support.recorded_run import write_recorded

from capvec.commands.main import main
from capvec.errors import UsageError
from capvec.report.html.viewer import embed
from capvec.results.ledger import TRIALS as LEDGER
from capvec.results.provenance import PROVENANCE
from capvec.results.run_folder import read_run_folder
from capvec.studies.regenerate import report, results_of_run

pytestmark = pytest.mark.unit

NAN, INFINITE = float("nan"), float("inf")
NUMBERS = (1, -1, 2.5, 10**20, 10**200, NAN, INFINITE)
ODD = st.sampled_from((*NUMBERS, None, True, "x", "", "../x", "\ud800", "\x1b[31m", [], [1], {}, {"a": 1}))
FILES = ("provenance.json", "trials.jsonl", "summary.json", "vectors/ranking.csv", "trajectories/odd.json", ".lock")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "r"
    write_recorded(folder)
    return folder


@pytest.fixture
def run(whole, tmp_path):
    return Path(shutil.copytree(whole, tmp_path / "r"))


@pytest.mark.parametrize("kind", ["fifo", "socket", "link to a device", "link to itself"])
@pytest.mark.parametrize("name", FILES)
def test_what_is_no_file_is_refused_by_name_at_once(run, name, kind, capsys):
    hostile.put(run / name, kind)
    assert main(["report", str(run)]) == 2
    said = capsys.readouterr().err
    assert f"{name}: " in said or "no run there" in said
    assert len(said.splitlines()) == 1


def test_a_link_out_of_the_folder_is_refused_and_nothing_of_it_is_copied(run, tmp_path, capsys):
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("s3cret")
    (run / "vectors" / "more").symlink_to(secret)
    assert main(["report", str(run), "--out", str(tmp_path / "out")]) == 2
    assert "vectors/more: leads out of the folder, to" in capsys.readouterr().err
    assert not (tmp_path / "out" / "vectors").exists()


def test_families_of_an_earlier_run_are_read_and_short_lines_of_many_columns_are_refused_quickly(run):
    path = run / "provenance.json"
    provenance = json.loads(path.read_text())
    for task in provenance["tasks"].values():
        task.pop("family", None)
    path.write_text(json.dumps(provenance))
    name = next(iter(provenance["tasks"]))
    (run / "master_summary.csv").write_text(f"task,family\n{name},fruit\n\n")
    assert read_run_folder(run).plan.tasks[0].metadata["family"] == "fruit"
    (run / "master_summary.csv").write_text(",".join(f"c{n}" for n in range(100_000)) + ",task\n" + "a\n" * 100_000)
    began = time.process_time()
    with pytest.raises(UsageError, match="not what capvec writes"):
        read_run_folder(run)
    assert time.process_time() - began < 20


def test_a_trial_whose_name_is_a_path_is_refused(run):
    path = run / "provenance.json"
    path.write_text(path.read_text().replace("task0", "../../task0"))
    with pytest.raises(UsageError, match=r"provenance\.json: not what capvec writes .*a name that no file can have"):
        read_run_folder(run)


@pytest.mark.parametrize("name", ["/etc", "../../elsewhere", "..", "a\0b", "a\nb", 7])
def test_a_run_whose_name_is_a_path_is_refused(run, name):
    path = run / "provenance.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"run": name}))
    with pytest.raises(UsageError, match=r"provenance\.json: not what capvec writes \(the run has the name "):
        read_run_folder(run)


@pytest.mark.parametrize(
    "line", [b"[" * 100_000, b"\xff\xfe{", b'{"a": ' + b"9" * 5000 + b"}", b"\0", b"{}", b'"\x1b[31m"']
)
def test_a_line_of_the_ledger_that_is_no_outcome_is_named(run, line, capsys):
    path = run / "trials.jsonl"
    before = path.read_bytes()
    path.write_bytes(line + b"\n" + before)
    assert main(["report", str(run)]) == 2
    said = capsys.readouterr().err
    assert "trials.jsonl, line 1: " in said
    assert said.strip().isprintable()
    path.write_bytes(before + line)  # torn at the end, as by a crash
    assert read_run_folder(run).outcomes


@pytest.mark.parametrize("text", ["[" * 100_000, "a,b\n" + "x" * 200_000, '"', "layer\n" + "9" * 5000, "\0"])
def test_a_ranking_that_is_none_is_named(run, text, capsys):
    (run / "vectors" / "ranking.csv").write_text(text)
    assert main(["report", str(run)]) == 2
    said = capsys.readouterr().err
    assert "ranking.csv: not the ranking of a direction" in said
    assert len(said.splitlines()) == 1


@settings(max_examples=30, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(st.sampled_from((*FILES[:3], "trajectories")), ODD, st.data())
def test_anything_in_any_place_of_its_json_is_read_or_refused_in_one_sentence(whole, name, odd, data):
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(shutil.copytree(whole, Path(scratch) / "r"))
        path = folder / name if name != "trajectories" else sorted((folder / name).glob("*.json"))[0]
        line, *rest = path.read_text().split("\n", 1) if name == "trials.jsonl" else (path.read_text(),)
        value = changed(json.loads(line), odd, data)
        path.write_text("\n".join([json.dumps(value), *rest]))
        try:
            run = read_run_folder(folder)
            results, _ = results_of_run(run)
            embed(folder / "trajectories", results.outcomes)
        except UsageError as error:
            assert len(str(error)) < 1500  # noqa: PT017
            assert str(error).isprintable()  # noqa: PT017


@pytest.mark.parametrize("out", [False, True], ids=["in place", "--out"])
@pytest.mark.parametrize(
    ("name", "place", "value", "said"),
    [
        (LEDGER, ("wall_s",), INFINITE, "line 1: not a Outcome record: inf: expected a finite"),
        (LEDGER, ("sandbox_s",), -INFINITE, "-inf: expected a finite number @ Outcome.sandbox_s"),
        (LEDGER, ("alpha",), NAN, "nan: expected a finite number @ Outcome.alpha"),
        (LEDGER, ("measured",), "abc", "'abc': expected a list @ Outcome.measured"),
        (PROVENANCE, ("tasks", "task0", "image"), True, "True: expected a text @ provenance.tasks['task0'].image"),
        (PROVENANCE, ("earlier_sessions",), 10**29, "expected a list @ provenance.earlier_sessions"),
        (PROVENANCE, ("earlier_sessions",), 7, "7: expected a list @ provenance.earlier_sessions"),
        (PROVENANCE, ("earlier_sessions",), [{"tasks": 7}], "@ provenance.earlier_sessions[0].tasks"),
        (PROVENANCE, ("merged",), [{"sessions": "x"}], "'x': expected a list @ provenance.merged[0].sessions"),
        (PROVENANCE, ("model", "n_layers"), "\x1b[31m3", "expected a whole number @ provenance.model.n_layers"),
        (PROVENANCE, ("model", "n_layers"), NAN, "model.n_layers is nan; expected a finite number"),
        (PROVENANCE, ("model", "model"), {}, "{}: expected a text @ provenance.model.model"),
        (PROVENANCE, ("direction", "norms", 1), None, "None: expected a finite number @ provenance.direction.norms[1]"),
        (PROVENANCE, ("seeds", "task0-baseline-t1"), [1], "[1]: expected a whole number @ provenance.seeds['task0"),
        (PROVENANCE, ("options", "max_steps"), [1], "[1]: expected a whole number @ provenance.options.max_steps"),
        (PROVENANCE, ("options", "more", 0), INFINITE, "options.more[0] is inf; expected a finite number"),
    ],
)  # fmt: skip
def test_a_value_that_is_not_what_capvec_writes_is_named_with_its_file_and_field(
    run, tmp_path, capsys, out, name, place, value, said
):
    path = run / name
    line, *rest = path.read_text().split("\n", 1) if name == "trials.jsonl" else (path.read_text(),)
    record = inner = json.loads(line)
    record.get("options", {})["more"] = [0]
    for key in place[:-1]:
        inner = inner[key]
    assert isinstance(inner, list) or place[-1] in {*inner, "merged"}
    inner[place[-1]] = value
    path.write_text("\n".join([json.dumps(record), *rest]))
    assert main(["report", str(run), *(["--out", str(tmp_path / "o" / "o1")] if out else [])]) == 2
    told = capsys.readouterr().err
    assert name in told
    assert said in told
    assert told.strip().isprintable()
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("out", [False, True], ids=["in place", "--out"])
@settings(max_examples=15, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(name=st.sampled_from(FILES[:3]), odd=ODD, data=st.data())
def test_whatever_its_json_holds_a_report_is_made_or_refused_in_one_sentence(whole, out, name, odd, data):
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(shutil.copytree(whole, Path(scratch) / "r"))
        target = Path(scratch) / "out" if out else None
        path = folder / name
        line, *rest = path.read_text().split("\n", 1) if name == "trials.jsonl" else (path.read_text(),)
        path.write_text("\n".join([json.dumps(changed(json.loads(line), odd, data)), *rest]))
        try:
            report([folder], target)
            assert any(((target or folder) / made).is_file() for made in ("RESULTS.md", "BASELINE.md"))
        except UsageError as error:
            assert len(str(error)) < 1500  # noqa: PT017
            assert str(error).isprintable()  # noqa: PT017
            assert target is None or not target.exists()


def test_a_merged_run_whose_report_fails_leaves_nothing(run, tmp_path, capsys):
    (run / "vectors" / "ranking.csv").write_text("layer\n")
    for _ in range(2):  # the same folder can be named again
        assert main(["report", str(run), "--out", str(tmp_path / "o1")]) == 2
        assert "ranking.csv: not the ranking of a direction" in capsys.readouterr().err
        assert not (tmp_path / "o1").exists()


def changed(value, odd, data):
    """The value with something odd at a place that is drawn."""
    if isinstance(value, dict | list) and value and data.draw(st.integers(0, 5)):
        keys = list(value) if isinstance(value, dict) else range(len(value))
        key = data.draw(st.sampled_from(keys))
        if isinstance(value, dict) and data.draw(st.integers(0, 6)) == 0:
            return {name: one for name, one in value.items() if name != key}
        value[key] = changed(value[key], odd, data)
        return value
    return odd
