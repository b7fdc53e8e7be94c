"""What the report says that the numbers do not show."""

import json

import pytest
from support.recorded_run import write_recorded

from capvec.records import ONLY_HERE
from capvec.studies.regenerate import report

pytestmark = pytest.mark.unit


def test_the_caveat_on_several_configs_names_what_is_corrected(tmp_path):
    write_recorded(tmp_path / "r")
    caveats = json.loads((tmp_path / "r" / "summary.json").read_text())["caveats"]
    (said,) = [caveat for caveat in caveats if "configs were compared" in caveat]
    assert said.startswith("9 configs")
    assert "after Holm" in said
    assert f"- {said}" in (tmp_path / "r" / "RESULTS.md").read_text()


def test_trials_whose_verifier_failed_only_on_what_the_agent_left_are_counted(tmp_path):
    write_recorded(tmp_path / "r", finished=False)
    ledger = tmp_path / "r" / "trials.jsonl"
    first, *rest = ledger.read_text().splitlines(keepends=True)
    doubted = json.loads(first) | {"note": f"one thing; {ONLY_HERE}: the network cannot be reached"}
    ledger.write_text("".join([json.dumps(doubted) + "\n", *rest]))
    report([tmp_path / "r"], None)
    caveats = json.loads((tmp_path / "r" / "summary.json").read_text())["caveats"]
    (said,) = [caveat for caveat in caveats if "the verifier failed on what the agent left" in caveat]
    assert said.startswith(f"In 1 of {len([first, *rest])} trials ")
