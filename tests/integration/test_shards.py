"""Two shards of a sweep, merged, are the unsharded sweep trial for trial: a real model, real containers."""

from __future__ import annotations

import json

import pytest
from support.real_sweeps import ledger

from capvec.commands.main import main

pytestmark = pytest.mark.integration
pytest_plugins = ("pytester",)
NOT_COMPARED = dict.fromkeys(("run", "session", "started", "worker", "model_s", "sandbox_s", "wall_s", "measured"))
"""What may differ between two runs of the same trials."""


def replies(folder, trial):
    steps = json.loads((folder / "trajectories" / f"{trial}.json").read_text())["steps"]
    return [step["message"] for step in steps]


def test_merged_shards_are_the_unsharded_sweep_trial_for_trial(sweep, pytester):
    asked = ("--attempts", "2", "--controls", "random:1", "--gate", "improves(steered-L1-a4)", "-n", "2")
    assert sweep(*asked, "--run", "whole").ret == pytest.ExitCode.TESTS_FAILED  # its gate is not met
    for number in (1, 2):
        result = sweep(*asked, "--run", f"s{number}", "--shard", f"{number}/2")
        assert result.ret == pytest.ExitCode.OK  # gates are judged when shards are merged
        result.stdout.fnmatch_lines(["capvec: 6 trials: shard * of 2, 3 configs × 2 of 4 (task, attempt) pairs"])
    refused = sweep(*asked, "--run", "s1", "--shard", "2/2", "--resume")
    refused.stderr.fnmatch_lines(["*holds another run (--shard was shard 1 of 2 and is shard 2 of 2)*"])
    folder = pytester.path / "reports"
    parts = [ledger(folder / f"s{number}") for number in (1, 2)]
    assert not parts[0].keys() & parts[1].keys()
    assert main(["report", str(folder / "s1"), str(folder / "s2"), "--out", str(folder / "all")]) == 1  # the gate

    merged, whole = ledger(folder / "all"), ledger(folder / "whole")
    assert list(merged) == [
        str(trial) for trial in json.loads((folder / "whole" / "provenance.json").read_text())["seeds"]
    ]
    assert len(merged) == 12
    for trial, outcome in whole.items():
        assert {**merged[trial], **NOT_COMPARED} == {**outcome, **NOT_COMPARED}
        assert replies(folder / "all", trial) == replies(folder / "whole", trial)
        # What a receipt shows is rounded as its batch is.
        assert [one["mean"] for one in merged[trial]["measured"]] == pytest.approx(
            [one["mean"] for one in outcome["measured"]], rel=1e-6
        )
