"""What others put among traces is read, passed over by its kind, or refused in one line, at once."""

from __future__ import annotations

import json
import os
import tempfile
import time
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import hostile
from support.traces import chat, put

from capvec.errors import UsageError
from capvec.traces import read_traces

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("kind", ["fifo", "socket", "link to a device", "link to itself"])
def test_what_is_no_file_is_passed_over_by_name(tmp_path, kind):
    put(tmp_path / "a.json", chat())
    hostile.put(tmp_path / "odd.json", kind)
    said = []
    assert len(read_traces(tmp_path, say=said.append)) == 1
    assert len(said) == 1
    assert "odd.json" in said[0]
    with pytest.raises(UsageError, match=r"odd\.json"):
        read_traces(tmp_path / "odd.json")


def test_a_link_out_of_the_folder_is_passed_over_and_one_inside_is_its_file_again(tmp_path):
    outside = put(tmp_path / "elsewhere" / "secret.json", chat(id="secret"))
    put(tmp_path / "traces" / "a.json", chat(id="a"))
    (tmp_path / "traces" / "b.json").symlink_to("a.json")
    (tmp_path / "traces" / "c.json").symlink_to(outside)
    (tmp_path / "traces" / "root").symlink_to("/")
    said = []
    traces = read_traces(tmp_path / "traces", say=said.append)
    assert [trace.id for trace in traces] == ["a"]
    assert "2: c.json, root" in said[0]
    assert "a link out of the folder" in said[0]
    assert "passed over: the same run as in another file (1: b.json)" in said[1]
    # A path that the user names may be a link.
    assert read_traces(tmp_path / "traces" / "c.json")[0].id == "secret"


@pytest.mark.parametrize("name", [b"bad\n\x1b[31mred\xff.json", b"tab\there.json"])
def test_names_are_shown_on_one_line_without_escapes(tmp_path, name):
    put(tmp_path / "a.json", chat())
    with open(os.fsencode(tmp_path) + b"/" + name, "wb") as file:
        file.write(b"{")
    said = []
    read_traces(tmp_path, say=said.append)
    assert all(line.isprintable() for line in said)
    with open(os.fsencode(tmp_path) + b"/" + name, "wb") as file:
        file.write(json.dumps({"messages": 1}).encode())
    with pytest.raises(UsageError) as refusal:
        read_traces(tmp_path / os.fsdecode(name))
    assert str(refusal.value).isprintable()


DEEP = [
    "[" * 100_000,
    '{"messages":' + "[" * 100_000,
    '{"messages": ' + "[" * 500 + "]" * 500 + "}",
    '{"reward": ' + "9" * 5000 + "}",
    '{"messages": [], "x": ' + "9" * 400 + "}",
    '{"messages": [' + "{}," * 4_000_000 + "{}]}",
    "{}\n" * 2_000_000,
    "[]\n" + "1\n" * 2_000_000,
    "\ufeff" + "[" * 200,
]


@pytest.mark.parametrize("text", DEEP, ids=range(len(DEEP)))
def test_nesting_numbers_and_density_beyond_any_trace_are_refused_quickly(tmp_path, text):
    path = tmp_path / "t.json"
    path.write_text(text)
    start = time.monotonic()
    with pytest.raises(UsageError, match=r"t\.json") as refusal:
        read_traces(path)
    assert str(refusal.value).isprintable()
    assert len(str(refusal.value)) < 700
    assert time.monotonic() - start < 20


def test_arguments_that_a_model_nested_stay_the_text_that_it_wrote(tmp_path):
    call = {"function": {"name": "f", "arguments": "[" * 900 + "]" * 900}}
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "tool_calls": [call]}]
    (trace,) = read_traces(put(tmp_path / "t.json", {"messages": messages}))
    assert "[" * 900 in trace.messages[1]["content"]


def test_a_zip_bomb_is_passed_over_by_what_it_would_unpack_to(tmp_path):
    put(tmp_path / "a.json", chat())
    with zipfile.ZipFile(tmp_path / "bomb.eval", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("header.json", b"{" + b" " * (300 << 20))
    with zipfile.ZipFile(tmp_path / "many.eval", "w") as archive:
        for number in range(60_000):
            archive.writestr(f"{number}", b"")
    said = []
    read_traces(tmp_path, say=said.append)
    assert any("unpacks to 300 MiB; expected at most 256 MiB (1: bomb.eval)" in line for line in said)
    assert any("60,000 members; expected at most 50,000 (1: many.eval)" in line for line in said)


@pytest.mark.parametrize("damage", [b"", bytes(50)], ids=["dense", "damaged"])
def test_a_zip_file_is_passed_over_by_what_its_json_would_take_and_by_a_member_that_cannot_be_read(tmp_path, damage):
    put(tmp_path / "a.json", chat())
    with zipfile.ZipFile(tmp_path / "b.eval", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("header.json", b"[" + b"{}," * 1_000_000 + b"{}]")
    with (tmp_path / "b.eval").open("r+b") as file:
        file.seek(100)
        file.write(damage)
    said = []
    read_traces(tmp_path, say=said.append)
    why = "a member that cannot be read" if damage else "more than 10 times its size"
    assert any(why in line and "(1: b.eval)" in line for line in said), said


def test_a_file_without_end_is_refused_unread(tmp_path):
    path = tmp_path / "big.json"
    with path.open("wb") as file:
        file.write(b"[")
        file.truncate(1 << 42)
    with pytest.raises(UsageError, match=r"big\.json: has 4096 GiB; expected at most 4 GiB"):
        read_traces(tmp_path)


def test_harbors_result_that_is_no_file_or_no_json_is_refused_or_left_alone(tmp_path):
    put(tmp_path / "trial" / "agent" / "t.json", chat())
    os.mkfifo(tmp_path / "trial" / "result.json")
    assert len(read_traces(tmp_path)) == 1
    (tmp_path / "trial" / "result.json").unlink()
    (tmp_path / "trial" / "result.json").write_text("[" * 100_000)
    with pytest.raises(UsageError, match=r"result\.json: not JSON \(.*\); expected Harbor's result"):
        read_traces(tmp_path / "trial" / "agent" / "t.json")


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200) | st.text('{}[]",:\\mesgroctnaui0123e. \n', max_size=200).map(str.encode))
def test_any_bytes_are_traces_or_a_usage_error_on_one_line(data):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.json"
        path.write_bytes(data)
        with pytest.raises(UsageError) as refusal:
            read_traces(path)
        assert str(refusal.value).isprintable()


def test_a_file_may_begin_with_blanks(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(" \n" * 1000 + json.dumps(chat()))
    assert len(read_traces(path)) == 1
    for blanks, said in (("", "empty"), (" " * 100, "empty"), (" " * (2 << 20), "blank for more than 1 MiB")):
        path.write_text(blanks)
        with pytest.raises(UsageError, match=said):
            read_traces(path)


def tokens(count):
    """Log probabilities as OpenAI gives them, of one reply."""
    one = [{"token": " a", "logprob": -0.25 - place, "bytes": [32, 97], "top_logprobs": []} for place in range(count)]
    return {"logprobs": {"content": one}}


SOUND = {
    "log probabilities": lambda: [tokens(10_000)] * 8,
    "token ids and masks": lambda: [{"ids": [*range(1000, 31_000)], "mask": [0, 1] * 30_000}] * 25,
    "texts between": lambda: [{"text": "word, " * 1000, **tokens(1000)}] * 70,
}
"""Name → makes what stands beside the messages of each trace, 64 MiB and more in memory, or nearly."""


@pytest.mark.parametrize("name", SOUND)
@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")], ids=["compact", "spaced"])
def test_what_is_large_and_sound_is_read(tmp_path, name, separators):
    traces = [chat(id=str(number), **beside) for number, beside in enumerate(SOUND[name]())]
    text = "\n".join(json.dumps(trace, separators=separators) for trace in traces)
    (tmp_path / "a.jsonl").write_text(text)
    assert len(read_traces(tmp_path / "a.jsonl")) == len(traces)


def test_dense_lines_are_weighed_together(tmp_path):
    """None of them is dense enough alone to matter."""
    line = json.dumps({"messages": [], "x": [[]] * 50_000}, separators=(",", ":"))
    (tmp_path / "a.jsonl").write_text(f"{line}\n" * 30)
    with pytest.raises(UsageError, match="take more than 10 times its size"):
        read_traces(tmp_path / "a.jsonl")
