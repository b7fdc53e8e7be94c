"""Finding traces: at any depth of a folder, line by line, among other files."""

from __future__ import annotations

import json

import pytest
from support.traces import chat, foreign, lines, put

from capvec.errors import UsageError
from capvec.traces import read_traces

pytestmark = pytest.mark.unit


def test_a_folder_is_read_at_any_depth_in_order_and_reports_are_passed_over(tmp_path):
    put(tmp_path / "b.json", foreign(session_id="b"))
    put(tmp_path / "a" / "x.json", foreign(session_id="ax"))
    put(tmp_path / "summary.json", {"steps": 3})
    assert [trace.id for trace in read_traces(tmp_path)] == ["ax", "b"]


def test_a_jsonl_holds_one_trajectory_a_line_and_shared_ids_are_told_apart(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text("\n".join([json.dumps(foreign(extra={"reward": 0})), "", json.dumps(foreign())]))
    put(tmp_path / "result.json", {"task_name": "t9", "verifier_result": {"rewards": {"reward": 1.0}}})
    traces = read_traces(file)
    assert [(trace.id, trace.reward) for trace in traces] == [("s1", 0.0), ("s1#2", None)]


def test_a_jsonl_line_that_is_not_json_is_named_by_its_number(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text(json.dumps(foreign()) + "\n{broken\n")
    with pytest.raises(UsageError, match="line 2"):
        read_traces(file)


def test_nothing_to_read_is_an_error(tmp_path):
    with pytest.raises(UsageError, match="absent"):
        read_traces(tmp_path / "absent")
    with pytest.raises(UsageError, match="holds no ATIF trajectory"):
        read_traces(tmp_path)


def test_a_folder_gives_its_chats_and_passes_over_other_logs(tmp_path):
    put(tmp_path / "a.json", foreign())
    lines(tmp_path / "b.jsonl", chat(id="x"), chat(id="y"))
    lines(tmp_path / "trials.jsonl", {"trial": "t", "steps": 3})
    (tmp_path / "torn.jsonl").write_text('{"trial": "t"}\n{"tri')
    put(tmp_path / "chat.json", chat())  # a JSON file of a folder is read as a trajectory only
    assert [trace.id for trace in read_traces(tmp_path)] == ["s1", "x", "y"]
