"""The part of the report on rewards that are more than 0 and 1, from the ledger to every document."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace

import pytest
from support.recorded_run import report_texts, write_recorded

from capvec.errors import UsageError
from capvec.report.rewards import reward
from capvec.results.ledger import Ledger
from capvec.results.table import read_run
from capvec.studies.regenerate import report

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A finished run whose rewards are 0 and 1."""
    return write_recorded(tmp_path_factory.mktemp("reports") / "r").folder


@pytest.fixture
def folder(recorded, tmp_path):
    """The same run to change; reports of it are made again."""
    return shutil.copytree(recorded, tmp_path / "r")


def change(folder, change_outcome, **settings):
    """Change the valid outcomes and the settings of a run, and make its reports again.

    Returns:
        The lines of the terminal.
    """
    ledger = folder / "trials.jsonl"
    outcomes = [one if one.outcome == "error" else change_outcome(one) for one in Ledger(ledger).read()]
    ledger.write_text("".join(json.dumps(one.to_json()) + "\n" for one in outcomes))
    set_up(folder, **settings)
    return report([folder], None).lines


def set_up(folder, **settings):
    """Change the settings of a run."""
    provenance = json.loads((folder / "provenance.json").read_text())
    provenance["settings"] |= settings
    (folder / "provenance.json").write_text(json.dumps(provenance))


def halved(outcome):
    return replace(outcome, reward=outcome.reward / 2, rewards={"reward": outcome.reward / 2}, outcome="unsolved")


def named(outcome):
    return replace(outcome, rewards={"reward": outcome.reward, "a|b <i>": 12_345.0, "*cost*": 0.001})


def test_rewards_of_0_and_1_add_nothing_to_any_report(folder):
    before = report_texts(folder)
    change(folder, lambda outcome: replace(outcome, rewards={"reward": outcome.reward}))
    assert report_texts(folder) == before
    assert "Rewards" not in before["RESULTS.md"]


def test_partial_rewards_have_a_table_in_every_report_beside_an_unchanged_verdict(folder):
    lines = "\n".join(change(folder, halved, solved_at=0.5))
    data = json.loads((folder / "summary.json").read_text())["rewards"]
    assert data["partial"]
    assert [row["named"] for row in data["configs"]] == [{}] * len(data["configs"])
    for text in (lines, (folder / "RESULTS.md").read_text(), (folder / "report.html").read_text()):
        assert "mean reward" in text
        assert "A trial is solved from a reward of 0.5." in text
    results = (folder / "RESULTS.md").read_text()
    assert "the verdict is on the pass rate" in results
    assert results.count("from a reward of 0.5") == 2  # in the method, since it was asked for, and beside the rewards
    steered = next(row for row in data["configs"] if row["effect"] and row["effect"]["holm"] is not None)
    effect = steered["effect"]
    assert f"| {steered['config']} | {steered['mean']:.2f} |" in results
    assert (effect["metric"], effect["value"] - effect["baseline"]) == ("reward", pytest.approx(effect["difference"]))


def test_named_rewards_have_a_mean_each_and_a_column_each_and_their_names_are_no_markup(folder):
    lines = "\n".join(change(folder, named))
    results, page = (folder / "RESULTS.md").read_text(), (folder / "report.html").read_text()
    assert "### Every reward by name" in results
    assert r"| a\|b \<i> | 12345.00 |".replace("12345.00", "1.23e+04") in results
    assert r"| \*cost\* | 0.001 |" in results
    assert "a|b &lt;i&gt;" in page
    assert "mean reward" not in results  # the rewards that count are 0 and 1
    assert "Every reward" not in lines
    with (folder / "master_summary.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["reward.a|b <i>"] for row in rows if row["outcome"] != "error"} == {"12345.0"}
    assert {row["reward.*cost*"] for row in rows if row["outcome"] == "error"} == {""}
    assert read_run(folder)["reward.reward"].sum() == read_run(folder)["reward"].sum()


def test_the_reward_that_was_asked_for_is_named_in_the_method(folder):
    change(folder, named, reward="accuracy")
    assert "A trial is solved from a reward named `accuracy` of 1." in (folder / "RESULTS.md").read_text()


def test_p_values_beside_interim_analyses_are_said_not_to_allow_for_them(folder):
    provenance = json.loads((folder / "provenance.json").read_text())
    provenance["options"]["sequential"] = True
    (folder / "provenance.json").write_text(json.dumps(provenance))
    change(folder, halved)
    assert "These p-values do not allow for interim analyses." in (folder / "RESULTS.md").read_text()


@pytest.mark.parametrize(
    ("changed", "said"), [({"solved_at": 0.5}, "settings.solved_at"), ({"reward": "a"}, "settings.reward")]
)
def test_runs_with_another_threshold_or_reward_are_not_merged(folder, recorded, tmp_path, changed, said):
    set_up(folder, **changed)
    with pytest.raises(UsageError, match=f"do not belong together: {said}"):
        report([recorded, folder], tmp_path / "merged")


@pytest.mark.parametrize(
    ("value", "sign", "said"),
    [
        (None, "", "–"), (0.0, "+", "+0.00"), (0.25, "", "0.25"), (-0.5, "+", "−0.50"), (0.00123, "", "0.00123"),
        (1e100, "", "1e+100"), (-12_345.6, "+", "−1.23e+04"), (100.0, "", "100.00"),
    ],
)  # fmt: skip
def test_a_reward_is_shown_at_its_own_scale(value, sign, said):
    assert reward(value, sign) == said
