"""Inspect's own library in a process with bounds. Logs are forged from one that it wrote."""

from __future__ import annotations

import json
import resource
import time
import zipfile

import pytest
from support import REPOSITORY

from capvec.errors import UsageError
from capvec.traces import inspect_library, read_traces

pytestmark = pytest.mark.unit

WRITTEN = REPOSITORY / "tests" / "data" / "traces" / "inspect" / "files.eval"


@pytest.fixture(scope="module")
def inspect_log():
    return pytest.importorskip("inspect_ai.log", reason="Inspect: pip install 'capvec[inspect]'")


@pytest.fixture(scope="module")
def plain(inspect_log, tmp_path_factory):
    """A log as JSON."""
    file = tmp_path_factory.mktemp("log") / "plain.json"
    inspect_log.write_eval_log(inspect_log.read_eval_log(str(WRITTEN)), str(file), format="json")
    return file


def with_references(sample):
    """A call of the model refers to the same messages time and again."""
    count = 20_000
    call = next(event for event in sample["events"] if event["event"] == "model")
    sample["events_data"] = {"messages": [{"role": "user", "content": "x"}] * count, "calls": []}
    call["input"], call["input_refs"] = [], [[0, count]] * count


def with_attachments(sample):
    """Every message is the same long attachment."""
    name = "a" * 32
    sample["attachments"] = {name: "y" * 1_000_000}
    sample["messages"] = [{"role": "user", "content": f"attachment://{name}", "id": str(n)} for n in range(5_000)]


@pytest.mark.parametrize("forge", [with_references, with_attachments])
def test_a_log_that_refers_to_more_than_it_holds_is_refused_within_bounds(plain, tmp_path, forge):
    log = json.loads(plain.read_text())
    forge(log["samples"][0])
    file = tmp_path / "forged.json"
    file.write_text(json.dumps(log))
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with pytest.raises(
        UsageError, match=r"forged\.json: Inspect's library cannot read this log of .* within .* memory"
    ):
        read_traces(file)
    assert time.monotonic() - began < 100
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 128 << 10
    assert len(read_traces(plain)) == 2  # by a program that was started again


def test_members_that_unpack_to_more_than_they_say_are_refused_within_bounds(inspect_log, tmp_path, monkeypatch):
    assert inspect_log  # which teaches zipfile to pack with Zstandard
    monkeypatch.setattr(inspect_library, "LARGEST", 8 << 20)
    file = tmp_path / "forged.eval"
    with zipfile.ZipFile(WRITTEN) as source, zipfile.ZipFile(file, "w") as target:
        for member in source.infolist():
            data = source.read(member)
            if member.filename.startswith("samples/"):
                sample = json.loads(data)
                sample["metadata"] = {"x": ["y" * 20_000_000] * 8}
                data = json.dumps(sample).encode()
            target.writestr(member.filename, data, compress_type=93)
    data = bytearray(file.read_bytes())
    for mark, place in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):  # they say that they unpack to 1,000 bytes
        at = -1
        while (at := data.find(mark, at + 1)) >= 0:
            data[at + place : at + place + 4] = (1_000).to_bytes(4, "little")
    file.write_bytes(data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UsageError, match=r"forged\.eval: "):
        read_traces(file)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 128 << 10


def test_a_program_that_takes_too_long_is_ended(plain, inspect_log, monkeypatch):
    assert inspect_log
    monkeypatch.setattr(inspect_library, "START_S", 0.01)
    monkeypatch.setattr(inspect_library, "S_PER_MIB", 0.0)
    inspect_library.LIBRARY.close()
    with pytest.raises(UsageError, match="cannot read this log"):
        read_traces(plain)
    monkeypatch.undo()
    assert len(read_traces(plain)) == 2
