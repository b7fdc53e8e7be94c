"""What reading a hostile file costs: less than 10 times its size in memory, or 128 MiB, and seconds.

Each file is read in a process of its own, which may take 16 GiB and no more.
"""

from __future__ import annotations

import io
import os
import zipfile

import pytest
from support.hostile import FLOOR, assert_cheap, cost_of
from support.lying_files import GGUFS, PTS, SAFETENSORS

pytestmark = pytest.mark.siege

READ_DIRECTION = "from capvec.directions.direction import Direction"


@pytest.fixture(scope="module")
def torch():
    import torch

    return torch


@pytest.mark.parametrize("name", GGUFS)
def test_a_gguf_file_whose_lengths_lie(tmp_path, name):
    path = tmp_path / "v.gguf"
    path.write_bytes(GGUFS[name]())
    refused_cheaply(READ_DIRECTION, "Direction.read(path)", path)


@pytest.mark.parametrize("name", SAFETENSORS)
def test_a_safetensors_file_whose_lengths_lie(tmp_path, name):
    path = tmp_path / "v.safetensors"
    path.write_bytes(SAFETENSORS[name]())
    refused_cheaply(READ_DIRECTION, "Direction.read(path)", path)


@pytest.mark.parametrize("name", PTS)
def test_a_pt_file_that_asks_for_more_than_it_holds(tmp_path, torch, name):
    path = tmp_path / "v.pt"
    path.write_bytes(PTS[name](torch))
    refused_cheaply(READ_DIRECTION, "Direction.read(path)", path)


def zipped(**members):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, size in members.items():
            archive.writestr(name.replace("_", "."), b"{" + bytes(size))
    return out.getvalue()


def many_members():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for number in range(200_000):
            archive.writestr(str(number), b"")
    return out.getvalue()


TRACES = {
    "brackets": lambda: b"[" * 100_000,
    "more brackets": lambda: b"[" * 50_000_000,
    "empty objects": lambda: b'{"messages":[' + b"{}," * 10_000_000 + b"{}]}",
    "objects of one key": lambda: b'{"messages":[' + b'{"":0},' * 5_000_000 + b"{}]}",
    "short lines": lambda: b"{}\n" * 10_000_000,
    "one wide letter": lambda: b'{"x": "' + b"a" * 50_000_000 + "😀".encode() + b'"}',
    "a wide letter in lines": lambda: (b'{"x": "' + b"a" * 500 + "😀".encode() + b'"}\n') * 50_000,
    "not UTF-8": lambda: b'{"x": "' + b"\xff" * 10_000_000,
    "a number": lambda: b'{"x": ' + b"9" * 10_000_000 + b"}",
    "a zip bomb": lambda: zipped(header_json=600 << 20),
    "a zip of many members": many_members,
}
"""Name → makes the bytes of a file of traces."""


@pytest.mark.parametrize("name", TRACES)
def test_a_file_of_traces(tmp_path, name):
    path = tmp_path / "t.json"
    path.write_bytes(TRACES[name]())
    cost = cost_of("from capvec.traces import read_traces", "read_traces(path)", path)
    assert cost.said.startswith(f"--traces {path}: ") or cost.said.startswith(str(path)), cost.said
    assert_cheap(cost, path)
    assert cost.seconds < 30
    print(f"{path.stat().st_size:,} bytes, {cost.memory >> 20} MiB, {cost.seconds:.1f} s")


TOML = {
    "brackets": "x = " + "[" * 1_000_000,
    "tables in tables": "x = " + "{a=" * 300_000,
    "a dotted key": "a" + ".a" * 500_000 + " = 1",
    "a quoted one": '"a"' + '."a"' * 250_000 + " = 1",
    "a dotted header": "[a" + ".a" * 500_000 + "]",
    "numbers": "x = [" + "1," * 500_000 + "]",
    "a number": "x = " + "9" * 1_000_000,
    "one of base 16": "x = 0x" + "F" * 1_000_000,
    "keys": "".join(f"a{number}=1\n" for number in range(80_000)),
    "headers": "".join(f"[a{number}]\n" for number in range(80_000)),
    "letters": 'x = "' + "\\u0041" * 150_000 + '"',
}
"""Name → a `task.toml` of at most 1 MiB."""


@pytest.mark.parametrize("name", TOML)
def test_the_settings_of_a_task(tmp_path, name):
    path = tmp_path / "task.toml"
    path.write_text(TOML[name])
    imports = "from capvec.reading import SETTINGS, read_text\nfrom capvec.tasks.config import parse_settings"
    cost = cost_of(imports, "parse_settings(read_text(path, SETTINGS), file=str(path))", path)
    assert_cheap(cost, path)
    assert cost.seconds < 30
    print(f"{path.stat().st_size:,} bytes, {cost.memory >> 20} MiB, {cost.seconds:.1f} s")


@pytest.mark.slow
def test_a_folder_of_many_files(tmp_path):
    """The search ends at its bound, however many more there are."""
    folder = tmp_path / "greet"
    for part in range(21):
        (folder / str(part)).mkdir(parents=True)
        for number in range(10_000):
            os.close(os.open(folder / str(part) / str(number), os.O_CREAT, 0o600))
    for imports, expression in (
        ("from capvec.tasks.loader import load_task", "load_task(path)"),
        ("from capvec.traces import read_traces", "read_traces(path)"),
    ):
        cost = cost_of(imports, expression, folder)
        assert "holds more than 200,000 files" in cost.said
        assert cost.memory < FLOOR
        assert cost.seconds < 60
        print(f"210,000 files, {cost.memory >> 20} MiB, {cost.seconds:.1f} s")


def refused_cheaply(imports, expression, path):
    cost = cost_of(imports, expression, path)
    assert cost.said.startswith(str(path)), cost.said
    assert_cheap(cost, path)
    assert cost.seconds < 20
    print(f"{path.stat().st_size:,} bytes, {cost.memory >> 20} MiB, {cost.seconds:.1f} s")
