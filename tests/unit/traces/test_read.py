"""Finding traces: at any depth of a folder, line by line, among other files."""

from __future__ import annotations

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.recorded_run import write_recorded
from support.traces import chat, foreign, lines, put

from capvec.commands.main import main
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


@given(ids=st.lists(st.sampled_from(["x", "x#2", "x#2#2", "x#3", "y"]), min_size=1, max_size=8))
def test_ids_are_unique_and_the_first_trace_of_an_id_keeps_it(tmp_path_factory, ids):
    file = lines(tmp_path_factory.getbasetemp() / "ids.jsonl", *(chat(id=name) for name in ids))
    names = [trace.id for trace in read_traces(file)]
    assert len(set(names)) == len(names)
    assert all(names[ids.index(name)] == name for name in ids)


def test_a_copied_file_holds_no_further_runs(tmp_path):
    runs = [chat(id="a"), chat(id="b"), chat(id="b")]  # two alike in one file are two
    lines(tmp_path / "first" / "runs.jsonl", *runs)
    once, said = read_traces(tmp_path), []
    lines(tmp_path / "second" / "renamed.jsonl", *reversed(runs), chat(id="c"))
    put(tmp_path / "third.json", chat(id="a") | {"reward": 0.5})  # of the same name and not the same
    traces = read_traces(tmp_path, say=said.append)
    assert [trace.id for trace in once] == ["a", "b", "b#2"]
    assert [trace.id for trace in traces] == ["a", "b", "b#2", "c", "a#2"]
    (line,) = said
    assert "passed over: the same run as in another file (3: second/renamed.jsonl, line 1, " in line


def test_the_trajectories_of_a_merged_run_are_those_of_the_runs_beside_it(tmp_path):
    reports = tmp_path / "reports"
    write_recorded(reports / "a", keep=lambda spec: spec.attempt == 1)
    write_recorded(reports / "b", keep=lambda spec: spec.attempt == 2)
    apart = read_traces(reports)
    assert main(["report", str(reports / "a"), str(reports / "b"), "--out", str(reports / "merged")]) == 0
    assert len(list((reports / "merged" / "trajectories").iterdir())) == len(apart)
    assert read_traces(reports) == apart


def test_a_jsonl_line_that_is_not_json_is_named_by_its_number(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text(json.dumps(foreign()) + "\n{broken\n")
    with pytest.raises(UsageError, match="line 2"):
        read_traces(file)


def test_nothing_to_read_is_an_error(tmp_path):
    with pytest.raises(UsageError, match="absent"):
        read_traces(tmp_path / "absent")
    with pytest.raises(UsageError, match="holds no trace: it is empty"):
        read_traces(tmp_path)


def test_a_folder_gives_its_chats_and_says_what_it_passes_over(tmp_path):
    put(tmp_path / "a.json", foreign())
    lines(tmp_path / "b.jsonl", chat(id="x"), chat(id="y"))
    put(tmp_path / "deep" / "chat", chat(id="z"))  # no suffix
    lines(tmp_path / "trials.jsonl", {"trial": "t", "steps": 3})
    (tmp_path / "torn.jsonl").write_text('{"trial": "t"}\n{"tri')
    (tmp_path / "agent.log").write_text("[INFO] started")
    (tmp_path / "run.json.gz").write_bytes(gzip.compress(b"{}"))
    (tmp_path / "none.json").write_text(" \n")
    lines(tmp_path / "prompts.jsonl", *({"messages": [{"role": "user", "content": "Go."}]} for _ in range(5)))
    said = []
    assert [trace.id for trace in read_traces(tmp_path, None, said.append)] == ["s1", "x", "y", "z"]
    told = "\n".join(said)
    assert "JSON without a conversation (2: torn.jsonl, trials.jsonl)" in told
    assert "compressed (gzip): unpack it first (1: run.json.gz)" in told
    assert "empty (1: none.json)" in told
    assert (
        "without a reply of the model (5: prompts.jsonl, line 1, prompts.jsonl, line 2, prompts.jsonl, line 3, …)"
        in told
    )
    assert "agent.log" in told
    assert all(line.startswith(f"--traces {tmp_path}: passed over: ") for line in said)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"{broken", "not JSON"),
        (b'{"messages": [' + b"[" * 100_000, "not JSON"),
        (b'{"reward": ' + b"9" * 5_000 + b"}", "not JSON"),
        (b'{"a": "\xff"}', "not text"),
        (b"plain words", "not JSON"),
        (b"PK\x03\x04broken", "a broken zip file"),
        (b"", "empty"),
    ],
)
def test_a_file_that_is_not_json_is_one_sentence(tmp_path, data, reason):
    file = tmp_path / "a.json"
    file.write_bytes(data)
    with pytest.raises(UsageError, match=f"a.json: holds no trace: {reason}") as refusal:
        read_traces(file)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_json_is_read_in_the_encodings_that_mark_their_bytes(tmp_path, encoding):
    (tmp_path / "one").write_bytes(json.dumps(chat(id="é")).encode(encoding))
    (tmp_path / "two.jsonl").write_bytes("\n".join(json.dumps(chat(id=name)) for name in "ab").encode(encoding))
    assert [trace.id for trace in read_traces(tmp_path)] == ["é", "a", "b"]


def test_a_file_may_be_one_conversation_or_a_list_of_runs(tmp_path):
    talk = chat()["messages"]
    put(tmp_path / "1.json", talk)
    lines(tmp_path / "2.jsonl", *talk[:-1], {"role": "assistant", "content": "Other."})
    put(tmp_path / "3.json", [chat(id="x"), chat(id="y"), foreign()])
    assert [len(trace.messages) for trace in read_traces(tmp_path)] == [5, 5, 5, 5, 4]
    with pytest.raises(UsageError, match=r"4\.json, entry 2"):
        read_traces(put(tmp_path / "4.json", [chat(), {"reward": 1}]))


@pytest.mark.parametrize(
    ("messages", "named"),
    [
        ([], "trace 'c1': has an empty conversation"),
        (
            [{"role": "system", "content": "x"}, {"role": "assistant", "content": "y"}],
            "trace 'c1': the assistant speaks first",
        ),
        (
            [{"role": "user", "content": "a\ud83d"}, {"role": "assistant", "content": "y"}],
            "trace 'c1': message 1 .* U\\+D83D",
        ),
    ],
)
def test_a_conversation_that_no_model_can_be_given_is_named_by_file_and_trace(tmp_path, messages, named):
    file = lines(tmp_path / "a.jsonl", chat(), chat(id="c1", messages=messages))
    with pytest.raises(UsageError, match=f"a.jsonl, line 2: {named}"):
        read_traces(file)


@pytest.mark.parametrize("field", ["id", "task", "model"])
def test_a_lone_surrogate_in_a_name_is_refused_too(tmp_path, field):
    with pytest.raises(UsageError, match=r"its id, task or model holds the lone surrogate U\+DC80"):
        read_traces(put(tmp_path / "a.json", chat(**{field: "x\udc80"})))
