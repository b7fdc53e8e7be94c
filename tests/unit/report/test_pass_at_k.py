"""What every document says of pass@k: of a run of capvec, and of results that were made elsewhere."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from support.recorded_run import report_texts, write_recorded

from capvec.commands.main import main
from capvec.report.pass_at_k import shown_ks

pytestmark = pytest.mark.unit


def rows(text):
    """The cells of the lines of a Markdown section's table, below its head."""
    lines = text.split("## pass@k\n", 1)[1].split("\n## ", 1)[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")][1:]


def test_a_run_with_two_attempts_has_it_in_every_document(tmp_path):
    folder = write_recorded(tmp_path / "r").folder
    configs = json.loads((folder / "summary.json").read_text())["pass_at_k"]
    table = rows((folder / "RESULTS.md").read_text())
    assert [row[:2] for row in table] == [[one["config"], str(k)] for one in configs for k in (1, 2)]
    for row, found in zip(table, (found for one in configs for found in one["by_k"]), strict=True):
        span = found["interval"]
        assert row[2:4] == [f"{found['estimate']:.2f}", f"{span['low']:.2f}–{span['high']:.2f}"]
        assert (row[4] == "–") == (row[5] == "–") == (found["difference"] is None)
        assert row[6] == str(found["tasks"])
    assert '<section id="pass-at-k"' in report_texts(folder)["report.html"]


def test_one_attempt_has_none(tmp_path):
    folder = write_recorded(tmp_path / "r", attempts=1).folder
    assert not any("pass@" in text for text in report_texts(folder).values())
    assert "pass_at_k" not in json.loads((folder / "summary.json").read_text())


def test_results_that_were_made_elsewhere_have_it(tmp_path, capsys):
    solved = {"baseline": ["100", "000"], "ours": ["110", "001"]}
    frame = pd.DataFrame(
        [
            {"task": f"t{k}", "config": config, "outcome": "solved" if letter == "1" else "unsolved"}
            for config, tasks in solved.items()
            for k, letters in enumerate(tasks)
            for letter in letters
        ]
    )
    frame.to_csv(tmp_path / "results.csv", index=False)
    assert main(["judge", str(tmp_path / "results.csv"), "--out", str(tmp_path / "report")]) == 0
    table = rows((tmp_path / "report" / "RESULTS.md").read_text())
    # By hand: of 2 of 3 attempts one or both are solved in 2 of 3 choices where one is, in all where two are.
    assert [row[:3] for row in table] == [
        ["baseline", "1", "0.17"],
        ["baseline", "2", "0.33"],
        ["baseline", "3", "0.50"],
        ["ours", "1", "0.50"],
        ["ours", "2", "0.83"],
        ["ours", "3", "1.00"],
    ]
    assert [row[4] for row in table[3:]] == ["+0.33", "+0.50", "+0.50"]
    said = [line.split()[:3] for line in capsys.readouterr().out.splitlines()]
    assert ["config", "k", "pass@k"] in said
    assert ["ours", "3", "1.00"] in said  # of the largest k alone
    assert ["ours", "2", "0.83"] not in said


def test_only_pass_at_the_same_k_stands_side_by_side(tmp_path, capsys):
    """The baseline has five attempts at a task and the other config three, as where a run was stopped."""
    frame = pd.DataFrame(
        {"task": f"t{task}", "config": config, "passed": (task + attempt) % 3 == 0}
        for config, attempts in (("baseline", 5), ("ours", 3))
        for task in range(4)
        for attempt in range(attempts)
    )
    frame.to_csv(tmp_path / "results.csv", index=False)
    assert main(["judge", str(tmp_path / "results.csv"), "--out", str(tmp_path / "report")]) == 0
    lines = iter(capsys.readouterr().out.splitlines())
    next(line for line in lines if line.split()[:3] == ["config", "k", "pass@k"])
    assert [next(lines).split()[:2] for _ in range(2)] == [["baseline", "3"], ["ours", "3"]]
    # In the report each k of one config has its counterpart in every other that has as many attempts.
    table = [row[:2] for row in rows((tmp_path / "report" / "RESULTS.md").read_text())]
    assert table == [["baseline", k] for k in "12345"] + [["ours", k] for k in "123"]


def test_the_powers_of_two_and_the_largest_k_are_shown():
    assert [shown_ks(most) for most in (1, 2, 3, 5, 8)] == [[1], [1, 2], [1, 2, 3], [1, 2, 4, 5], [1, 2, 4, 8]]
