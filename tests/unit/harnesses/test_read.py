"""Which tool wrote a path."""

from __future__ import annotations

import json
import os
import shutil

import pytest
from support import REPOSITORY
from support.judged import RESULTS

from capvec.errors import UsageError
from capvec.harnesses import Reading, read_source

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("text", "said"),
    [(None, "no such file"), ("", "empty"), ("hello", "not JSON"), ('{"a": 1}', "no tool"), ("[1]", "an object")],
)
def test_what_is_no_result_is_refused(tmp_path, text, said):
    file = tmp_path / "file.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UsageError, match=said):
        read_source(file, Reading())


def test_a_folder_of_two_tools_is_refused(tmp_path):
    shutil.copytree(RESULTS / "swe_bench", tmp_path / "one")
    shutil.copytree(RESULTS / "lm_eval", tmp_path / "two")
    with pytest.raises(UsageError, match="lm-evaluation-harness and reports of SWE-bench"):
        read_source(tmp_path, Reading())


def test_an_empty_folder_and_a_pipe_are_refused_at_once(tmp_path):
    with pytest.raises(UsageError, match="holds no results"):
        read_source(tmp_path, Reading())
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(UsageError, match="pipe"):
        read_source(tmp_path / "pipe.csv", Reading())


def test_a_run_of_capvec_is_sent_to_its_own_command():
    with pytest.raises(UsageError, match="capvec report"):
        read_source(REPOSITORY / "reports" / "example", Reading())


def test_a_file_of_capvecs_trials_is_a_table(tmp_path):
    line = (REPOSITORY / "reports" / "example" / "trials.jsonl").read_text().splitlines()[0]
    (tmp_path / "trials.jsonl").write_text(f"{line}\n{line.replace(json.loads(line)['task'], 'other')}\n")
    assert read_source(tmp_path / "trials.jsonl", Reading()).tool.startswith("capvec")


def test_a_job_of_harbor_beside_results_of_another_tool_is_refused(tmp_path):
    shutil.copytree(RESULTS / "harbor", tmp_path / "one")
    trial = next((tmp_path / "one" / "both").glob("*__*"))
    report = next((RESULTS / "swe_bench").glob("*.json"))
    shutil.copy(report, trial / "own.json")  # what an agent or a verifier leaves in a trial is no result
    assert read_source(tmp_path, Reading()).tool == "Harbor"
    shutil.copy(report, tmp_path / "two.json")
    with pytest.raises(UsageError, match="holds a job of Harbor and reports of SWE-bench; name those to judge"):
        read_source(tmp_path, Reading())


def test_a_table_of_csv_without_its_ending_is_refused_with_the_endings(tmp_path):
    (tmp_path / "trials.txt").write_text("task,config,outcome\na,baseline,solved\n")
    with pytest.raises(UsageError, match=r"not JSON; expected a file with a table of trials \(\.csv, \.tsv, JSON"):
        read_source(tmp_path / "trials.txt", Reading())
