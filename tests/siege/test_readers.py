"""What reading a hostile file costs: less than 10 times its size in memory, or 128 MiB, and seconds.

Each file is read in a process of its own, which may take 16 GiB and no more.
"""

from __future__ import annotations

import io
import os
import re
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


def zip_of(data):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("header.json", data)
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
    "a zip of empty objects": lambda: zip_of(b"[" + b"{}," * 5_000_000 + b"{}]"),
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


NAMES = ",".join(["task", "outcome", *(f"c{number}" for number in range(998))])
TABLES = {
    "short rows": (
        "a.csv",
        lambda: f"{NAMES}\n" + ("a,1" + "," * 998 + "\n") * 2 + "a\n" * 200_000,
        r"row 3 \(line 4\): 1 cell; expected 1000",
    ),
    "a first line of quotes": ("a.csv", lambda: "task," + ',"a' * 21_000 + "\nx,y\n", "not a table"),
    "one row": ("a.csv", lambda: "task,outcome\n" + "," * 100_000_000, "a row has more than 4,194,304 characters"),
    "one row of many lines": (
        "a.csv",
        lambda: 'task,outcome\n"' + '\n","' * 10_000_000 + '"',
        "a row has more than 4,194,304 characters",
    ),
    "one cell of many lines": ("a.csv", lambda: 'task,outcome\n"' + "\n" * 50_000_000, "field larger than field limit"),
    "many empty cells": ("a.csv", lambda: f"{NAMES}\n" + ("a,1" + "," * 998 + "\n") * 20_000, "read"),
    "keys of their own": (
        "a.jsonl",
        lambda: "".join(f'{{"task": "t{n}", "outcome": 1, "c{n % 988}": 1}}\n' for n in range(20_000)),
        "read",
    ),
}
"""Name → a file's name, its content, and what reading it says."""


@pytest.mark.parametrize("name", TABLES)
def test_a_table_that_is_small_on_disk(tmp_path, name):
    file, content, said = TABLES[name]
    path = tmp_path / file
    path.write_text(content())
    read_cheaply(path, said)


N = 200_000
PARQUETS = {
    "rows": (lambda pa: {"task": texts(pa, "a", 3_000_000), "outcome": pa.repeat(1, 3_000_000)}, "3,000,000 rows in"),
    "as many rows as may be": (lambda pa: {"task": texts(pa, "a", N), "outcome": pa.repeat(1, N)}, "read"),
    "columns that nothing uses": (
        lambda pa: (
            {"task": texts(pa, "a", N), "outcome": pa.repeat(1, N)}
            | {f"c{number}": pa.repeat(number, N) for number in range(100)}
        ),
        "read",
    ),
    "a long text in each row": (
        lambda pa: {"task": texts(pa, " " + "a" * 1_000_000, N), "outcome": pa.repeat(1, N)},
        "read",
    ),
    "long texts": (
        lambda pa: {"task": pa.array([f"{n}" + "a" * 1_000_000 for n in range(300)]), "outcome": pa.repeat(1, 300)},
        r"unpacks to 28\d\.\d+ MiB; expected at most 64 MiB",
    ),
    "a long list in each row": (
        lambda pa: {"task": pa.array([["a"] * 1000] * 1000), "outcome": pa.repeat(1, 1000)},
        "column task is of type list",
    ),
}
"""Name → the columns of a Parquet file, and what reading it says."""


def texts(pa, text, count):
    """A column of one text, which a file holds once."""
    return pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int32()), count), pa.array([text]))


@pytest.mark.parametrize("name", PARQUETS)
def test_a_parquet_file_that_is_small_on_disk(tmp_path, name):
    pa = pytest.importorskip("pyarrow", reason="Parquet: pip install 'capvec[parquet]'")
    parquet = pytest.importorskip("pyarrow.parquet", reason="Parquet: pip install 'capvec[parquet]'")
    columns, said = PARQUETS[name]
    path = tmp_path / "a.parquet"
    parquet.write_table(pa.table(columns(pa)), path, compression="zstd")
    read_cheaply(path, said)


def read_cheaply(path, said):
    cost = cost_of("from capvec.harnesses import Reading, read_source", "read_source(path, Reading())", path)
    assert re.search(said, cost.said), cost.said
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
