"""Picking the bundled corpora: by a rule that looks at outcomes and order, and at nothing else."""

import json

import pytest

from capvec.records import Trace
from dev.agent import corpora
from dev.agent.corpora import main, select

pytestmark = pytest.mark.unit


def trace(name, task, *, model="pocket", reward=0.0, steps=20, parse_fail=0):
    return Trace(name, task, model, (), reward, steps, parse_fail, 0)


def names(traces):
    return [one.id for one in traces]


OWN = [
    trace("a1", "a", reward=1.0, steps=2),
    trace("a2", "a"),
    trace("b1", "b", reward=1.0, steps=2),
    trace("b2", "b", reward=1.0, steps=2),
    trace("c1", "c"),
    trace("c2", "c"),
    trace("c3", "c", steps=3),
    trace("c4", "c", parse_fail=1),
]


def test_negatives_come_from_the_tasks_in_turn():
    assert names(select("same-model", OWN, [])[1]) == ["a2", "c1", "c2"]


def test_positives_from_tasks_that_have_negatives_come_first():
    assert names(select("same-model", OWN, [])[0]) == ["a1", "b1", "b2"]


def test_other_models_take_turns():
    others = [[trace(f"{model}{task}", task, model=model) for task in "ab"] for model in ("base", "early")]
    assert names(select("cross-model", OWN, others)[1]) == ["basea", "earlya", "baseb", "earlyb"]


def test_there_are_at_most_so_many(monkeypatch):
    monkeypatch.setitem(corpora.POSITIVES, "same-model", 1)
    monkeypatch.setitem(corpora.NEGATIVES, "same-model", 2)
    assert [names(side) for side in select("same-model", OWN, [])] == [["a1"], ["a2", "c1"]]


def test_a_run_without_trajectories_is_refused(tmp_path, capsys):
    (tmp_path / "trajectories").mkdir()
    runs = str(tmp_path)
    assert main(["--out", str(tmp_path / "out"), "--pocket", runs, "--other", runs]) == 2
    assert "ATIF" in capsys.readouterr().err


def test_what_is_bundled_is_what_its_provenance_lists():
    traces = corpora.BUNDLED
    provenance = json.loads((traces / "PROVENANCE.json").read_text())
    for contrast in ("same-model", "cross-model"):
        listed = {name for side in ("positives", "negatives") for name in provenance[contrast][side]}
        assert listed == {path.name for path in (traces / contrast).glob("*.json")}
