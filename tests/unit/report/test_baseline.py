"""What a collection says about a model without a direction."""

from dataclasses import replace
from pathlib import Path

import pytest
from support.recorded_collection import collection
from support.sections import cells, words

from capvec.engines.protocol import ChatTemplateInfo
from capvec.plan.options import SweepOptions
from capvec.report.baseline import baseline_report, write_baseline
from capvec.results import provenance
from capvec.results.ledger import Ledger
from capvec.studies.regenerate import report

pytestmark = pytest.mark.unit


def test_rates_are_of_valid_trials_and_faults_of_replies():
    method, rates = baseline_report(*collection(Path("r"))).sections
    # 1 of 3 valid trials; 10 replies, of which 1 did not parse and 2 were without a command.
    found = cells(rates)
    assert found[0] == ["all", "all", "1/3", "0.33", "0.06–0.79", "1", "3.3", "0.100", "0.200"]
    assert ["trained", "all", "1/2", "0.50"] in [row[:4] for row in found]
    assert ["held-out", "b", "0/1", "0.00"] in [row[:4] for row in found]
    assert "2 tasks, 2 attempts each" in words(method)


def test_the_method_says_how_many_trials_a_stopped_collection_has():
    plan, outcomes = collection(Path("r"))
    method, _ = baseline_report(plan, outcomes[:1]).sections
    assert "The collection was stopped: 1 of 4 trials are on record." in words(method)
    assert "stopped" not in words(baseline_report(plan, outcomes).sections[0])


def test_partial_rewards_have_a_column_and_a_threshold_of_its_own_is_stated():
    plan, outcomes = collection(Path("r"))
    partial = [replace(one, reward=reward) for one, reward in zip(outcomes, (0.75, 0.5, 0.1, None), strict=True)]
    asked = replace(plan, settings=replace(plan.settings, solved_at=0.75))
    method, rates = baseline_report(asked, partial).sections
    # (0.75 + 0.5 + 0.1)/3; the error has no reward.
    assert [row[-1] for row in cells(rates)] == ["0.45", "0.62", "0.10", "0.62", "0.10"]
    assert "A trial is solved from a reward of 0.75." in words(method)


def test_a_threshold_just_below_1_is_stated_with_all_its_digits():
    plan, outcomes = collection(Path("r"))
    asked = replace(plan, settings=replace(plan.settings, solved_at=0.9999999))
    assert "A trial is solved from a reward of 0.9999999." in words(baseline_report(asked, outcomes).sections[0])


def test_the_method_says_what_the_chat_template_did_otherwise():
    plan, outcomes = collection(Path("r"))
    method, _ = baseline_report(replace(plan, template=ChatTemplateInfo(system="refused")), outcomes).sections
    assert "refuses a system prompt: it begins the first user message." in words(method)


def test_the_method_says_what_was_left_out_unproved_and_allowed():
    plan, outcomes = collection(Path("r"))
    settings = replace(plan.settings, capabilities="default", allow_network=True, keep_processes=True)
    known = {"left_out": {"gpu": "it asks for a GPU"}, "unproved": {"a1": "it has no solution"}}
    method, _ = baseline_report(replace(plan, settings=settings, **known), outcomes).sections
    for said in ("--capabilities default", "--allow-network", "--keep-processes", "1 task did not run:"):
        assert said in words(method)
    assert "1 task unproved, since it has no solution: a1." in words(method)


def test_capvec_report_makes_a_collections_report_again(tmp_path):
    plan, outcomes = collection(tmp_path)
    health = {"model": "m", "revision": None, "dtype": "float32"}
    images = {one.name: "sha256:0" for one in plan.tasks}
    about = {"plan": plan, "health": health, "direction": None, "images": images}
    provenance.write(tmp_path, command_line=[], options=SweepOptions().to_json(), **about)
    ledger = Ledger(tmp_path / "trials.jsonl")
    for one in reversed(outcomes):  # as they finished
        ledger.append(one)
    write_baseline(plan, outcomes)
    before = (tmp_path / "BASELINE.md").read_text()
    (tmp_path / "BASELINE.md").unlink()
    assert report([tmp_path], None).lines == (f"report: {tmp_path / 'BASELINE.md'}",)
    assert (tmp_path / "BASELINE.md").read_text() == before
    assert not (tmp_path / "RESULTS.md").exists()
