"""Direction files that lie or cannot steer are refused in one sentence, at once."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.hostile import NO_FILES, put
from support.lying_files import GGUFS, PTS, SAFETENSORS

from capvec.directions.direction import Direction, save_all
from capvec.directions.files import FORMATS
from capvec.errors import UsageError

pytestmark = pytest.mark.unit

N, D = 3, 4


@pytest.fixture(scope="module")
def torch():
    import torch

    return torch


def refused(path, said=None, *, fits=True):
    """The one sentence that refuses a file, which begins with its name."""
    with pytest.raises(UsageError, match=said) as refusal:
        Direction.read(path, *((N, D) if fits else ()))
    message = str(refusal.value)
    assert message.startswith(f"{path}: ")
    assert len(message.splitlines()) == 1
    assert len(message) < 600 + len(str(path))
    return message


def saved(torch, path, content, **more):
    torch.save(content, path, **more)
    return path


# ------------------------------------------------------------------------------------------------ cannot steer


ODD = {
    "infinite": (lambda torch: torch.full((D,), float("inf")), "not finite"),
    "NaN": (lambda torch: torch.tensor([1.0, float("nan"), 1, 1]), "not finite"),
    "beyond float32": (lambda torch: torch.full((D,), 1e300, dtype=torch.float64), "not finite"),
    "a norm beyond float32": (lambda torch: torch.full((D,), 2e38), r"norm of 4e\+38"),
    "a square beyond float32": (lambda torch: torch.full((D,), 1e19), r"norm of 2e\+19"),
    "denormal": (lambda torch: torch.full((D,), 1e-42), "norm of 2e-42"),
    "zero in float32 alone": (lambda torch: torch.full((D,), 1e-160, dtype=torch.float64), "norm of 2e-160"),
    "a square below float32": (lambda torch: torch.full((D,), 1e-25), "norm of 2e-25"),
    "sparse": (lambda torch: torch.ones(D).to_sparse(), "sparse"),
    "compressed rows": (lambda torch: torch.ones(2, 2).to_sparse_csr(), "sparse"),
    "meta": (lambda torch: torch.empty(D, device="meta"), "a meta tensor, which has no values"),
    "quantized": (lambda torch: torch.quantize_per_tensor(torch.ones(D), 0.1, 0, torch.quint8), "quantized tensor"),
    "complex": (lambda torch: torch.ones(D, dtype=torch.complex64), "complex64"),
    "whole numbers": (lambda torch: torch.ones(D, dtype=torch.int32), "int32; expected floating point"),
    "bits": (lambda torch: torch.ones(D, dtype=torch.bool), "bool; expected floating point"),
    "a number": (lambda _: 1.5, "type float"),
    "a text": (lambda _: "v", "type str"),
    "an empty tensor": (lambda torch: torch.ones(0), r"shape \[0\]"),
    "wider": (lambda torch: torch.ones(D + 1), r"shape \[5\]"),
}


@pytest.mark.filterwarnings("ignore:Sparse CSR", "ignore:.*[qQ]uantiz")
@pytest.mark.parametrize("name", ODD)
def test_a_vector_that_cannot_steer_is_refused_with_the_key_that_holds_it(torch, tmp_path, name):
    make, said = ODD[name]
    value = make(torch)
    path = saved(torch, tmp_path / "v.pt", {"layer_0": torch.ones(D), "layer_2": value})
    message = refused(path, said)
    assert "key 'layer_2'" in message
    refused(saved(torch, path, {"directions": value}))
    refused(saved(torch, path, [torch.ones(D), value, torch.ones(D)]), "entry 1 of the list")


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize(("value", "said"), [(np.inf, "not finite"), (np.nan, "not finite"), (1e-30, "norm of 2e-30")])
def test_every_format_names_the_row_that_cannot_steer(tmp_path, suffix, value, said):
    save_all(Direction(np.full((N, D), 0.25)), tmp_path)
    path = tmp_path / f"dir.{suffix}"
    whole, quarter = path.read_bytes(), np.full(D, 0.25, "<f4").tobytes()
    assert quarter in whole
    at = whole.rindex(quarter)
    path.write_bytes(whole[:at] + np.full(D, value, "<f4").tobytes() + whole[at + len(quarter) :])
    if suffix == "pt":  # its archive has a checksum of the values
        import torch

        torch.save({"directions": torch.from_numpy(np.vstack([np.ones((2, D)), np.full(D, value)]))}, path)
    message = refused(path, said)
    assert "row 2" in message or "'direction.2'" in message


def test_a_direction_made_in_memory_is_held_to_the_same():
    for value in (1e-30, 1e19):
        with pytest.raises(UsageError, match="at layer 0, has a norm of"):
            Direction(np.full((1, D), value))


@pytest.mark.parametrize(("dtype", "most"), [("float16", 65504), ("bfloat16", 3.4e38), ("float32", 3.4e38)])
def test_an_alpha_beyond_what_the_models_dtype_holds_is_refused(dtype, most):
    direction = Direction(np.array([[2.0, -1.0]]))
    direction.check_strength(most / 2, 0, dtype)
    direction.check_strength(-most / 2, 0, dtype)
    for alpha in (most / 1.9, -most / 1.9, float("inf")):
        with pytest.raises(UsageError, match=f"{dtype} holds none beyond"):
            direction.check_strength(alpha, 0, dtype)


def test_a_small_view_of_a_large_storage_is_read_as_it_is(torch, tmp_path):
    storage = torch.arange(1_000_000.0)
    view = storage[: N * D * 2 : 2].view(N, D).requires_grad_()
    path = saved(torch, tmp_path / "v.pt", {"directions": view})
    assert Direction.read(path, N, D).vectors.tolist() == view.tolist()


# ------------------------------------------------------------------------------------------------ names of layers


@pytest.mark.parametrize(
    "key",
    [
        *("2", "layer_2", "layer2", "Layer_2", "layers.2", "model.layers.2", "block_2", "transformer.blocks.2"),
        *("direction.2", "direction_2", "transformer.h.2", "h.2", "L2", "l2", "my_layer_2", "steering.layer.2"),
    ],
)
def test_these_keys_name_layer_2(torch, tmp_path, key):
    path = saved(torch, tmp_path / "v.pt", {key: torch.ones(D)})
    assert Direction.read(path, N, D).layer == 2


@pytest.mark.parametrize(
    "key",
    [
        *("happy_v2", "v2", "happy2", "qwen2", "a.b2", "seed_2", "layer_2_seed1", "2b", "happy_l2", "graph2"),
        *("layer_-2", "layer_٢", "layer_2.5", "layer 2", "", "layer_" + "9" * 5000),
    ],
)
def test_these_keys_name_no_layer_and_the_ones_that_do_are_listed(torch, tmp_path, key):
    path = saved(torch, tmp_path / "v.pt", {key: torch.ones(D), "other": torch.ones(D)})
    assert "layer_22, layers.22" in refused(path)
    path = saved(torch, path, {key: torch.ones(D), "layer_1": torch.full((D,), 2.0)})
    assert Direction.read(path, N, D).vectors.tolist() == [[0] * D, [2] * D, [0] * D]


def test_a_vector_of_any_name_beside_its_layer_is_that_layers(torch, tmp_path):
    path = saved(torch, tmp_path / "v.pt", {"happy_v2": torch.ones(D), "layer": 1})
    assert Direction.read(path, N, D).vectors.tolist() == [[0] * D, [1] * D, [0] * D]


@pytest.mark.parametrize("layer", ["9" * 5000, "٣", "²", "-1", "1.5"])
def test_a_layer_in_the_metadata_that_is_no_number_is_refused(torch, tmp_path, layer):
    path = saved(torch, tmp_path / "v.pt", {"dir": torch.ones(D), "layer": layer})
    refused(path, "names layer")


# ------------------------------------------------------------------------------------------------ no files


@pytest.mark.parametrize("kind", NO_FILES)
@pytest.mark.parametrize("suffix", FORMATS)
def test_what_is_no_file_is_refused_at_once(tmp_path, suffix, kind):
    put(tmp_path / f"v.{suffix}", kind)
    refused(tmp_path / f"v.{suffix}")


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_file_beyond_the_bound_is_refused_unread(tmp_path, suffix):
    path = tmp_path / f"v.{suffix}"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    refused(path, "has 1024 GiB; expected at most 1 GiB")


# ------------------------------------------------------------------------------------------------ lengths that lie
# What each costs in memory is measured in tests/siege.


@pytest.mark.parametrize("name", GGUFS)
def test_a_gguf_file_whose_lengths_lie_is_refused(tmp_path, name):
    path = tmp_path / "v.gguf"
    path.write_bytes(GGUFS[name]())
    refused(path, fits=False)


@pytest.mark.filterwarnings("ignore:.*TypedStorage")
@pytest.mark.parametrize("name", PTS)
def test_a_pt_file_that_asks_for_more_than_it_holds_is_refused(torch, tmp_path, name):
    path = tmp_path / "v.pt"
    path.write_bytes(PTS[name](torch))
    refused(path, fits=False)


@pytest.mark.parametrize("name", SAFETENSORS)
def test_a_safetensors_file_whose_lengths_lie_is_refused(tmp_path, name):
    path = tmp_path / "v.safetensors"
    path.write_bytes(SAFETENSORS[name]())
    refused(path, fits=False)


# ------------------------------------------------------------------------------------------------ any bytes


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A valid file of each format."""
    folder = tmp_path_factory.mktemp("whole")
    save_all(Direction(np.arange(1, 1 + N * D).reshape(N, D), np.ones(N)), folder)
    return {suffix: (folder / f"dir.{suffix}").read_bytes() for suffix in FORMATS}


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(FORMATS), st.data())
@example("gguf", None)
def test_a_file_with_any_bytes_changed_is_a_direction_or_a_usage_error(whole, suffix, data):
    content = bytearray(whole[suffix])
    for _ in range(data.draw(st.integers(1, 4)) if data else 0):
        at = data.draw(st.integers(0, len(content) - 1))
        piece = data.draw(st.binary(min_size=1, max_size=9))
        content[at : at + data.draw(st.integers(0, 9))] = piece
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"v.{suffix}"
        path.write_bytes(content)
        try:
            read = Direction.read(path)
        except UsageError as error:
            assert str(error).startswith(f"{path}: ")  # noqa: PT017
        else:
            assert np.isfinite(read.norms).all()


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(FORMATS), st.binary(max_size=200), st.booleans())
def test_any_bytes_are_refused_as_no_such_file(suffix, data, marked):
    marks = {"gguf": b"GGUF\x03\0\0\0", "pt": b"PK\x03\x04", "safetensors": b"\x40\0\0\0\0\0\0\0{"}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"v.{suffix}"
        path.write_bytes(marks[suffix] + data if marked else data)
        with pytest.raises(UsageError, match=r"v\.\w+: "):
            Direction.read(path)
