"""What reading a hostile file costs: less than 10 times its size in memory, or 128 MiB, and seconds.

Each file is read in a process of its own, which may take 16 GiB and no more.
"""

from __future__ import annotations

import pytest
from support.hostile import assert_cheap, cost_of
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
    refused_cheaply(f"import torch\n{READ_DIRECTION}", "Direction.read(path)", path)


def refused_cheaply(imports, expression, path):
    cost = cost_of(imports, expression, path)
    assert cost.said.startswith(str(path)), cost.said
    assert_cheap(cost, path)
    assert cost.seconds < 20
    print(f"{path.stat().st_size:,} bytes, {cost.memory >> 20} MiB, {cost.seconds:.1f} s")
