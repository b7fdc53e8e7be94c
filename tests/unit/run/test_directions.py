"""Obtaining a sweep's direction, as far as it needs no engine."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from capvec.directions.direction import Direction
from capvec.errors import UsageError
from capvec.plan.options import SweepOptions
from capvec.run.directions import layers_known_before

pytestmark = pytest.mark.unit


@pytest.fixture
def saved(tmp_path):
    """Saves a direction of four layers, with metadata that name a layer or none."""

    def saved(layer=None):
        direction = Direction(np.ones((4, 8), dtype=np.float32))
        named = replace(direction, metadata=replace(direction.metadata, layer=layer))
        named.save(tmp_path / "dir.safetensors")
        return str(tmp_path / "dir.safetensors")

    return saved


@pytest.mark.parametrize(
    ("asked", "named", "expected"),
    [
        (((3,), (1, 2), (1,)), None, (1, 2, 3)),
        (((2,),), 3, (2,)),
        (None, 3, (3,)),
        (None, None, ()),  # refused once the engine has started
        (((9,),), None, ()),
    ],
)
def test_a_direction_in_a_file_tells_the_layers_before_the_engine_starts(saved, asked, named, expected):
    assert layers_known_before(SweepOptions(direction=saved(named), layers=asked)) == expected


def test_a_direction_from_traces_needs_every_layer():
    assert layers_known_before(SweepOptions(layers=((3,),))) == ()


def test_a_file_that_is_no_direction_is_refused_by_the_name_of_its_option(tmp_path):
    (tmp_path / "dir.pt").write_bytes(b"none")
    with pytest.raises(UsageError, match="--direction"):
        layers_known_before(SweepOptions(direction=str(tmp_path / "dir.pt"), layers=((3,),)))
