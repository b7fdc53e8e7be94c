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
from capvec.results.run_folder import read_run_folder
from capvec.studies.regenerate import results_of_run

pytestmark = pytest.mark.unit

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


ODD = st.sampled_from([None, 1, -1, 2.5, "x", "", [], {}, True, [1], {"a": 1}, 10**20, "../x", "\ud800", float("nan")])


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
