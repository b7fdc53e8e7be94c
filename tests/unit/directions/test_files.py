"""Direction files: what is read, what is refused with which words, and what other programs make of ours."""

from __future__ import annotations

import io
import json
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capvec.directions.direction import Direction
from capvec.directions.metadata import LAYER_CONVENTION, Metadata
from capvec.engines.protocol import FORMATS
from capvec.errors import UsageError
from capvec.steering import direction_hash

pytestmark = pytest.mark.unit
N, D = 3, 4
KNOWN = Metadata(
    "org/model",
    "abc123",
    LAYER_CONVENTION,
    2,
    "same-model",
    "f00d",
    "mean-difference",
    "last",
    "0.1.0",
    "confound-p=0.05",
)


@pytest.fixture(scope="module")
def vectors():
    from capvec.directions import files as vectors

    return vectors


def read(vectors, data, suffix="pt"):
    return vectors.read_vectors(data, suffix, n_layers=N, d_model=D)


def saved(torch, content):
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


# ------------------------------------------------------------------------------------------------ there and back


finite = st.floats(width=32, allow_nan=False, allow_infinity=False)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 3), st.integers(1, 4), st.booleans(), st.data())
def test_a_direction_comes_through_every_format_with_its_hash_and_what_is_known_of_it(n_layers, d_model, ambient, data):
    import torch

    from capvec.directions.files import read_metadata, read_vectors, write_vectors

    size = n_layers * d_model
    values = data.draw(st.lists(finite, min_size=size, max_size=size).filter(any))
    whole = torch.tensor(values, dtype=torch.float32).reshape(n_layers, d_model)
    tensors = {"directions": whole} | ({"ambient_norm": torch.rand(n_layers)} if ambient else {})
    known = Metadata(data.draw(st.text("aZ/ü.", max_size=5)), layer=data.draw(st.none() | st.integers(0, n_layers - 1)))
    for suffix in FORMATS:
        file = write_vectors(tensors, suffix, known)
        back = read_vectors(file, suffix, n_layers=n_layers, d_model=d_model)
        assert direction_hash(back["directions"].numpy()) == direction_hash(whole.numpy())
        assert back.keys() == tensors.keys()
        assert all(torch.equal(back[name], tensors[name]) for name in tensors)
        assert read_metadata(file, suffix) == known


def test_every_field_of_the_metadata_survives_and_a_file_without_any_says_nothing(torch, vectors):
    whole = torch.randn(N, D)
    for suffix in FORMATS:
        assert vectors.read_metadata(vectors.write_vectors({"directions": whole}, suffix, KNOWN), suffix) == KNOWN
    assert vectors.read_metadata(saved(torch, whole), "pt") == Metadata()


def test_the_safetensors_header_holds_the_fields_as_text_for_anyone_to_read(torch, vectors):
    whole = torch.zeros(N, D)
    whole[1, 0], whole[1, 1] = 3, 4
    data = vectors.write_vectors({"directions": whole}, "safetensors", KNOWN)
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    assert header["model"] == "org/model"
    assert header["layer"] == "2"
    assert header["layer_convention"] == "output of decoder block L, counted from 0"
    assert json.loads(header["norms"]) == [0, 5, 0]  # √(3² + 4²)


def test_what_the_controller_writes_the_engine_reads_and_the_other_way_round(vectors):
    direction = Direction(np.arange(12, dtype=np.float32).reshape(N, D), np.ones(N), KNOWN)
    data = direction.to_bytes()
    assert direction_hash(read(vectors, data, "safetensors")["directions"].numpy()) == direction.hash
    assert vectors.read_metadata(data, "safetensors") == KNOWN
    back = Direction.from_bytes(vectors.write_vectors(read(vectors, data, "safetensors"), "safetensors", KNOWN))
    assert (back.hash, back.metadata) == (direction.hash, KNOWN)


# ------------------------------------------------------------------------------------------------ what is recognised


def test_the_common_shapes_of_pt_files_all_read_as_the_same_direction(torch, vectors):
    whole = torch.randn(N, D)
    for content in (
        whole,
        whole.double(),
        {"directions": whole},
        {"dir": whole, "meta": 3},
        {"dir": whole, "layer": 2},
        list(whole),
        {layer: whole[layer] for layer in range(N)},
        {f"layer_{layer}": whole[layer] for layer in range(N)},
        {"vectors": {f"model.layers.{layer}": whole[layer] for layer in range(N)}},
    ):
        assert torch.equal(read(vectors, saved(torch, content))["directions"], whole)


@pytest.mark.parametrize("kind", ["bfloat16", "float16"])
@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_half_precision_is_read_as_the_float32_of_the_same_value(torch, vectors, kind, suffix):
    import safetensors.torch

    # 1.5 and −0.25 are whole sixteenths, so both types hold them exactly.
    whole = torch.full((N, D), 1.5)
    whole[0, 0] = -0.25
    half = {"directions": whole.to(getattr(torch, kind))}
    data = saved(torch, half) if suffix == "pt" else safetensors.torch.save(half)
    got = read(vectors, data, suffix)["directions"]
    assert got.dtype == torch.float32
    assert torch.equal(got, whole)


def test_one_vector_beside_its_layer_steers_there_and_nowhere_else_and_the_layer_is_named(torch, vectors):
    for vector, layer in ((torch.ones(D), 1), (torch.ones(1, D), torch.tensor(1)), (torch.ones(D), "1")):
        data = saved(torch, {"dir": vector, "layer": layer, "model": "org/model"})
        assert read(vectors, data)["directions"].tolist() == [[0] * D, [1] * D, [0] * D]
        assert vectors.read_metadata(data, "pt") == Metadata(model="org/model", layer=1)


def test_a_layer_beside_a_whole_direction_is_the_authors_choice(torch, vectors):
    data = saved(torch, {"dir": torch.ones(N, D), "layer": 2})
    assert read(vectors, data)["directions"].tolist() == [[1] * D] * N
    assert vectors.read_metadata(data, "pt").layer == 2


def test_a_direction_stands_for_the_layer_that_it_names_or_the_only_one_it_steers():
    alone = np.zeros((N, D), np.float32)
    alone[1] = 1
    assert Direction(alone).layer == 1
    assert Direction(alone, metadata=Metadata(layer=2)).layer == 2
    assert Direction(np.ones((N, D), np.float32)).layer is None


# ------------------------------------------------------------------------------------------------ GGUF


def gguf_file(path, tensors, architecture="controlvector"):
    """A control vector as others write it."""
    from gguf import GGUFWriter

    writer = GGUFWriter(path, architecture)
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


def test_layers_that_a_control_vector_leaves_out_are_zero(vectors, tmp_path):
    tensors = {"direction.1": np.arange(D, dtype=np.float32), "direction.2": np.ones(D, np.float16)}
    got = read(vectors, gguf_file(tmp_path / "v.gguf", tensors), "gguf")["directions"]
    assert got.tolist() == [[0] * 4, [0, 1, 2, 3], [1] * 4]


def test_our_control_vector_is_what_llama_cpp_and_repeng_accept(torch, vectors, tmp_path):
    # By their loaders (the module's docstring cites them): no tensor but direction.N with N ≥ 1, all F32 and of one
    # dimension; and for repeng a model_hint, and one tensor for every layer from 1 on.
    from gguf import GGMLQuantizationType, GGUFReader

    whole = torch.randn(N, D)
    data = vectors.write_vectors({"directions": whole, "ambient_norm": torch.rand(N)}, "gguf", model_hint="llama")
    (tmp_path / "dir.gguf").write_bytes(data)
    reader = GGUFReader(tmp_path / "dir.gguf")
    assert reader.fields["general.architecture"].contents() == "controlvector"
    assert reader.fields["controlvector.model_hint"].contents() == "llama"
    assert reader.fields["controlvector.layer_count"].contents() == N - 1
    assert {tensor.name for tensor in reader.tensors} == {f"direction.{layer}" for layer in range(1, N)}
    for tensor in reader.tensors:
        assert tensor.tensor_type == GGMLQuantizationType.F32
        assert tensor.shape.tolist() == [D]
        assert tensor.data.tolist() == whole[int(tensor.name.removeprefix("direction."))].tolist()
    # v_0, which has no tensor, is not lost.
    assert reader.fields["capvec.direction_0"].contents() == whole[0].tolist()


def test_a_gguf_that_holds_a_model_is_refused(vectors, tmp_path):
    data = gguf_file(tmp_path / "m.gguf", {"token_embd.weight": np.ones((N, D), np.float32)}, "llama")
    with pytest.raises(UsageError, match="architecture 'llama'; expected 'controlvector'"):
        read(vectors, data, "gguf")


# ------------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda torch: torch.ones(32, 2560), r"shape \[32, 2560\]; expected \[3, 4\], the model's layers and width"),
        (lambda torch: torch.ones(4, 4), r"shape \[4, 4\]; expected \[3, 4\].*row 0 is the embedding"),
        (lambda torch: torch.ones(4), r"shape \[4\] and names no layer; expected \[3, 4\]"),
        (lambda torch: {"dir": torch.ones(7), "layer": 1}, r"shape \[7\]; expected \[3, 4\]"),
        (lambda torch: {"dir": torch.ones(4), "layer": 3}, "names layer 3; the model has 3, 0 to 2"),
        (lambda torch: {"dir": torch.ones(4), "layer": -1}, "names layer '-1'; expected a decoder block"),
        (lambda torch: {5: torch.ones(4)}, "layer 5; expected"),
        (lambda torch: {1: torch.ones(7)}, r"layer 1 has shape \[7\]"),
        (lambda torch: {"a1": torch.ones(4), "b1": torch.ones(4)}, "two vectors for layer 1"),
        (lambda _: {"a": 1}, r"dict with keys \['a'\]"),
        (lambda torch: torch.zeros(3, 4), "zero in every layer"),
        (lambda torch: torch.full((3, 4), float("inf")), "not finite"),
        (lambda torch: torch.full((3, 4), float("nan")), "values that are not finite numbers"),
        (lambda torch: torch.ones(3, 4, dtype=torch.int64), "holds int64; expected floating point"),
    ],
)
def test_what_does_not_fit_the_model_is_refused_with_shapes(torch, vectors, make, said):
    with pytest.raises(UsageError, match=said):
        read(vectors, saved(torch, make(torch)))


class Payload:
    """Unpickled with code allowed, it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("archive", [True, False])
def test_a_pickle_that_would_run_code_is_refused_by_the_name_of_the_code_and_does_not_run(
    torch, vectors, tmp_path, archive
):
    made = tmp_path / "made"
    buffer = io.BytesIO()
    torch.save({"dir": torch.ones(N, D), "x": Payload(made)}, buffer, _use_new_zipfile_serialization=archive)
    for attempt in (read, lambda vectors, data: vectors.read_metadata(data, "pt")):
        with pytest.raises(UsageError) as refusal:
            attempt(vectors, buffer.getvalue())
        assert "it asks for posix.mkdir" in str(refusal.value)
        assert "weights_only=False" not in str(refusal.value)
        assert len(str(refusal.value).splitlines()) == 1
    assert not made.exists()
    # The payload is a real one: where code may run, it does.
    buffer.seek(0)
    torch.load(buffer, weights_only=False)
    assert made.exists()


def test_a_numpy_array_in_a_pt_file_counts_as_code_and_is_named(torch, vectors):
    with pytest.raises(UsageError, match=r"asks for numpy\..*_reconstruct"):
        read(vectors, saved(torch, {"dir": np.ones((N, D), np.float32)}))


@pytest.mark.parametrize("suffix", FORMATS)
def test_bytes_that_are_no_such_file_are_refused(vectors, suffix):
    for data, said in (
        (b"", "it is empty"),
        # What torch says of the second is no more than "101", the code of its first letter.
        (b"not a file of that kind", "it is text that begins 'not a file of that kind'"),
        (b"epsilon\n", r"it is text that begins 'epsilon\\n'"),
        (b"\x00\x01\xff", "it begins with the bytes 00 01 ff"),
    ):
        with pytest.raises(UsageError, match=f"^not a.*: {said}$"):
            read(vectors, data, suffix)


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_file_of_another_format_and_one_that_was_cut_off_are_named_for_what_they_look_like(torch, vectors, suffix):
    looks = {"pt": "like a zip archive", "safetensors": "like a safetensors file", "gguf": "like a GGUF file"}
    whole = {name: vectors.write_vectors({"directions": torch.ones(N, D)}, name) for name in FORMATS}
    for name in FORMATS:
        data = whole[name][:-20] if name == suffix else whole[name]
        with pytest.raises(UsageError, match=looks[name]) as refusal:
            read(vectors, data, suffix)
        assert len(str(refusal.value).splitlines()) == 1


def test_other_formats_are_refused_by_name(torch, vectors):
    with pytest.raises(UsageError, match=r"'npz': expected one of \.pt, \.safetensors, \.gguf"):
        read(vectors, b"", "npz")
    with pytest.raises(UsageError, match="'npz': directions are written as"):
        vectors.write_vectors({"directions": torch.ones(N, D)}, "npz")


@settings(max_examples=30)
@given(st.integers(1, 4), st.integers(1, 5), st.integers(0, 2**31))
def test_the_hash_changes_with_values_and_shape_and_not_with_memory_layout(rows, columns, seed):
    v = np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32)
    assert direction_hash(v) == direction_hash(np.asfortranarray(v))
    assert direction_hash(v) != direction_hash(np.nextafter(v, np.float32(9)))
    if rows != columns:
        assert direction_hash(v) != direction_hash(v.reshape(columns, rows))


@pytest.mark.parametrize("key", [-1, "x-1", "1.5", "layer_2_seed1"])
def test_a_key_that_is_no_layers_number_is_refused_and_never_taken_for_another(torch, vectors, key):
    with pytest.raises(UsageError, match="layer"):
        read(vectors, saved(torch, {key: torch.ones(D), "other": torch.ones(D)}))


def test_a_bare_pickle_is_refused_without_advice_to_run_it(vectors, tmp_path):
    import pickle

    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "made"),))

    with pytest.raises(UsageError) as refused:
        read(vectors, pickle.dumps({"dir": Evil()}))
    assert "weights_only=False" not in str(refused.value)
    assert "`weights_only`" not in str(refused.value)
    assert not (tmp_path / "made").exists()
