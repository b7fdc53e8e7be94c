"""Direction files: what is read, what is refused and why, and what other programs make of ours."""

from __future__ import annotations

import ast
import io
import json
import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import capvec
from capvec.directions.direction import Direction, save_all
from capvec.directions.files import FORMATS
from capvec.directions.metadata import LAYER_CONVENTION, Metadata
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


def read(path, content=None):
    """The direction in a file, for a model of N layers of width D; `content` is written to the file first."""
    if content is not None:
        path.write_bytes(content)
    return Direction.read(path, N, D)


def saved(torch, content):
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def random_vectors(seed=0):
    return np.random.default_rng(seed).standard_normal((N, D)).astype(np.float32)


# ------------------------------------------------------------------------------------------------ there and back


finite = st.just(0.0) | st.floats(2.0**-62, 2.0**60, width=32) | st.floats(-(2.0**60), -(2.0**-62), width=32)
lengths = st.floats(0, 1e6, width=32)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 3), st.integers(1, 4), st.booleans(), st.data())
def test_a_direction_comes_through_every_format_with_its_hash_and_what_is_known_of_it(n_layers, d_model, ambient, data):
    size = n_layers * d_model
    values = data.draw(st.lists(finite, min_size=size, max_size=size).filter(any))
    norms = data.draw(st.lists(lengths, min_size=n_layers, max_size=n_layers)) if ambient else None
    known = Metadata(data.draw(st.text("aZ/ü.", max_size=5)), layer=data.draw(st.none() | st.integers(0, n_layers - 1)))
    direction = Direction(np.reshape(values, (n_layers, d_model)), norms, known)
    with tempfile.TemporaryDirectory() as folder:
        save_all(direction, Path(folder))
        for suffix in FORMATS:
            back = Direction.read(Path(folder) / f"dir.{suffix}", n_layers, d_model)
            assert back.hash == direction.hash
            assert (back.ambient_norm is None) == (norms is None)
            assert norms is None or back.ambient_norm.tolist() == norms
            assert back.metadata == known


def test_every_field_of_the_metadata_survives_and_a_file_without_any_says_nothing(torch, tmp_path):
    save_all(Direction(random_vectors(), metadata=KNOWN), tmp_path)
    assert [Direction.read(tmp_path / f"dir.{suffix}").metadata for suffix in FORMATS] == [KNOWN] * len(FORMATS)
    assert read(tmp_path / "bare.pt", saved(torch, torch.ones(N, D))).metadata == Metadata()


def test_the_safetensors_header_holds_the_fields_as_text_for_anyone_to_read():
    vectors = np.zeros((N, D))
    vectors[1, :2] = 3, 4
    data = Direction(vectors, metadata=KNOWN).to_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    assert header["model"] == "org/model"
    assert header["layer"] == "2"
    assert header["layer_convention"] == "output of decoder block L, counted from 0"
    assert json.loads(header["norms"]) == [0, 5, 0]  # √(3² + 4²)


def test_a_pt_file_loads_with_weights_only(torch, tmp_path):
    direction = Direction(random_vectors(), np.ones(N), KNOWN)
    direction.save(tmp_path / "dir.pt")
    content = torch.load(tmp_path / "dir.pt", weights_only=True)
    assert content["directions"].numpy().tobytes() == direction.vectors.tobytes()
    assert content["layer"] == KNOWN.layer


def test_only_pt_files_need_torch(tmp_path):
    save_all(Direction(random_vectors()), tmp_path)
    program = """if True:
        import sys
        from capvec.directions.direction import Direction
        for suffix in ("safetensors", "gguf", "pt"):
            Direction.read(sys.argv[1] + "/dir." + suffix).save(sys.argv[1] + "/again." + suffix)
            print("torch" in sys.modules)
    """
    said = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["False", "False", "True"]


# ------------------------------------------------------------------------------------------------ what is recognised


def test_the_common_shapes_of_pt_files_all_read_as_the_same_direction(torch, tmp_path):
    vectors = random_vectors()
    whole = torch.from_numpy(vectors)
    for content in (
        whole,
        whole.double(),
        torch.nn.Parameter(whole),
        {"directions": whole},
        {"dir": whole, "meta": 3},
        {"dir": whole, "layer": 2},
        list(whole),
        {layer: whole[layer] for layer in range(N)},
        {f"layer_{layer}": whole[layer] for layer in range(N)},
        {"vectors": {f"model.layers.{layer}": whole[layer] for layer in range(N)}},
    ):
        assert read(tmp_path / "v.pt", saved(torch, content)).vectors.tolist() == vectors.tolist()
        assert Direction.read(tmp_path / "v.pt").vectors.tolist() == vectors.tolist()


@pytest.mark.parametrize("kind", ["bfloat16", "float16", "float64"])
@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_other_precisions_are_read_as_the_float32_of_the_same_value(torch, tmp_path, kind, suffix):
    import safetensors.torch

    # 1.5 and −0.25 are whole sixteenths, so all types hold them exactly.
    whole = torch.full((N, D), 1.5)
    whole[0, 0] = -0.25
    other = {"directions": whole.to(getattr(torch, kind))}
    data = saved(torch, other) if suffix == "pt" else safetensors.torch.save(other)
    vectors = read(tmp_path / f"v.{suffix}", data).vectors
    assert vectors.dtype == np.float32
    assert vectors.tolist() == whole.tolist()


def test_one_vector_beside_its_layer_steers_there_and_nowhere_else_and_the_layer_is_named(torch, tmp_path):
    for vector, layer in ((torch.ones(D), 1), (torch.ones(1, D), torch.tensor(1)), (torch.ones(D), "1")):
        direction = read(tmp_path / "v.pt", saved(torch, {"dir": vector, "layer": layer, "model": "org/model"}))
        assert direction.vectors.tolist() == [[0] * D, [1] * D, [0] * D]
        assert direction.metadata == Metadata(model="org/model", layer=1)


def test_a_layer_beside_the_vector_of_a_safetensors_file_is_read_as_well(tmp_path):
    import safetensors.numpy

    data = safetensors.numpy.save({"dir": np.ones(D, np.float32), "layer": np.array([1])})
    assert read(tmp_path / "v.safetensors", data).vectors.tolist() == [[0] * D, [1] * D, [0] * D]


@pytest.mark.parametrize("layers", [[0], [22], [29], [20, 22]])
def test_a_file_of_single_layers_is_known_by_one_hash_with_the_model_and_without(torch, tmp_path, layers):
    (tmp_path / "dir.pt").write_bytes(saved(torch, {f"layer_{layer}": torch.ones(8) for layer in layers}))
    alone, fitted = Direction.read(tmp_path / "dir.pt"), Direction.read(tmp_path / "dir.pt", 30, 8)
    assert (alone.n_layers, fitted.n_layers) == (max(layers) + 1, 30)
    assert alone.hash == alone.trimmed_hash == fitted.trimmed_hash
    assert (fitted.hash == fitted.trimmed_hash) == (29 in layers)


def test_a_file_of_single_layers_ends_at_its_last_layer_where_the_model_is_not_known(torch, tmp_path):
    for content in ({"dir": torch.ones(D), "layer": 1}, {"layer_1": torch.ones(D)}):
        (tmp_path / "v.pt").write_bytes(saved(torch, content))
        assert Direction.read(tmp_path / "v.pt").vectors.tolist() == [[0] * D, [1] * D]
        assert Direction.read(tmp_path / "v.pt", n_layers=N).vectors.tolist() == [[0] * D, [1] * D, [0] * D]
        with pytest.raises(UsageError, match=rf"shape \[{D}\]"):
            Direction.read(tmp_path / "v.pt", d_model=D + 1)


def test_a_layer_beyond_any_model_is_refused_where_the_model_is_not_known(torch, tmp_path):
    for content in ({"dir": torch.ones(D), "layer": 10**9}, {f"layer_{10**9}": torch.ones(D)}):
        (tmp_path / "v.pt").write_bytes(saved(torch, content))
        with pytest.raises(UsageError, match="layer 1000000000"):
            Direction.read(tmp_path / "v.pt")


def test_a_layer_beside_a_whole_direction_is_the_authors_choice(torch, tmp_path):
    direction = read(tmp_path / "v.pt", saved(torch, {"dir": torch.ones(N, D), "layer": 2}))
    assert direction.vectors.tolist() == [[1] * D] * N
    assert direction.layer == 2


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


def test_layers_that_a_control_vector_leaves_out_are_zero(tmp_path):
    tensors = {"direction.1": np.arange(D, dtype=np.float32), "direction.2": np.ones(D, np.float16)}
    gguf_file(tmp_path / "v.gguf", tensors)
    assert read(tmp_path / "v.gguf").vectors.tolist() == [[0] * 4, [0, 1, 2, 3], [1] * 4]


def test_our_control_vector_is_what_llama_cpp_and_repeng_accept(tmp_path):
    # By their loaders (the module's docstring cites them): no tensor but direction.N with N ≥ 1, all F32 and of one
    # dimension; and for repeng a model_hint, and one tensor for every layer from 1 on.
    from gguf import GGMLQuantizationType, GGUFReader

    vectors = random_vectors()
    Direction(vectors, np.ones(N)).save(tmp_path / "dir.gguf", model_hint="llama")
    reader = GGUFReader(tmp_path / "dir.gguf")
    assert reader.fields["general.architecture"].contents() == "controlvector"
    assert reader.fields["controlvector.model_hint"].contents() == "llama"
    assert reader.fields["controlvector.layer_count"].contents() == N - 1
    assert {tensor.name for tensor in reader.tensors} == {f"direction.{layer}" for layer in range(1, N)}
    for tensor in reader.tensors:
        assert tensor.tensor_type == GGMLQuantizationType.F32
        assert tensor.shape.tolist() == [D]
        assert tensor.data.tolist() == vectors[int(tensor.name.removeprefix("direction."))].tolist()
    # v_0, which has no tensor, is not lost.
    assert reader.fields["capvec.direction_0"].contents() == vectors[0].tolist()


def test_a_gguf_that_holds_a_model_is_refused(tmp_path):
    gguf_file(tmp_path / "m.gguf", {"token_embd.weight": np.ones((N, D), np.float32)}, "llama")
    with pytest.raises(UsageError, match="architecture 'llama'; expected 'controlvector'"):
        read(tmp_path / "m.gguf")


# ------------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda torch: torch.ones(32, 2560), r"shape \[32, 2560\]; expected \[3, 4\], the model's layers and width"),
        (lambda torch: torch.ones(4, 4), r"shape \[4, 4\]; expected \[3, 4\].*row 0 is the embedding"),
        (lambda torch: torch.ones(4), r"shape \[4\] and names no layer; expected \[3, 4\]"),
        (lambda torch: {"dir": torch.ones(7), "layer": 1}, r"shape \[7\]; expected \[3, 4\]"),
        (lambda torch: {"dir": torch.ones(4), "layer": 3}, "names layer 3; the model has 3, 0 to 2"),
        (lambda torch: {"dir": torch.ones(4), "layer": -1}, "names layer '-1'"),
        (lambda torch: {5: torch.ones(4)}, "layer 5; expected"),
        (lambda torch: {1: torch.ones(7)}, r"key '1', of layer 1, has shape \[7\]"),
        (lambda torch: {"layer_1": torch.ones(4), "blocks.1": torch.ones(4)}, "two vectors for layer 1"),
        (lambda _: {"a": 1}, r"dict with the keys \['a'\]; .* keys that name it: 22, layer_22"),
        (lambda torch: torch.zeros(3, 4), "zero in every layer"),
        (lambda torch: torch.full((3, 4), float("inf")), "not finite"),
        (lambda torch: torch.full((3, 4), float("nan")), "values that are not finite numbers"),
        (lambda torch: torch.ones(3, 4, dtype=torch.int64), "holds int64; expected floating point"),
    ],
)
def test_what_does_not_fit_the_model_is_refused_with_shapes(torch, tmp_path, make, said):
    with pytest.raises(UsageError, match=said) as refusal:
        read(tmp_path / "v.pt", saved(torch, make(torch)))
    assert str(refusal.value).startswith(f"{tmp_path / 'v.pt'}: ")


class Payload:
    """Unpickled with code allowed, it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("archive", [True, False])
def test_a_pickle_that_would_run_code_is_refused_by_the_name_of_the_code_and_does_not_run(torch, tmp_path, archive):
    made = tmp_path / "made"
    content = {"dir": torch.ones(N, D), "x": Payload(made)}
    torch.save(content, tmp_path / "v.pt", _use_new_zipfile_serialization=archive)
    with pytest.raises(UsageError) as refusal:
        read(tmp_path / "v.pt")
    assert "it asks for posix.mkdir" in str(refusal.value)
    assert "weights_only=False" not in str(refusal.value)
    assert len(str(refusal.value).splitlines()) == 1
    assert not made.exists()
    # The payload is a real one: where code may run, it does.
    torch.load(tmp_path / "v.pt", weights_only=False)
    assert made.exists()


def test_a_bare_pickle_is_refused_without_advice_to_run_it(tmp_path):
    with pytest.raises(UsageError) as refused:
        read(tmp_path / "v.pt", pickle.dumps({"dir": Payload(tmp_path / "made")}))
    assert "weights_only=False" not in str(refused.value)
    assert "`weights_only`" not in str(refused.value)
    assert not (tmp_path / "made").exists()


def test_a_numpy_array_in_a_pt_file_counts_as_code_and_is_named(torch, tmp_path):
    with pytest.raises(UsageError, match=r"asks for numpy\..*_reconstruct"):
        read(tmp_path / "v.pt", saved(torch, {"dir": np.ones((N, D), np.float32)}))


@pytest.mark.parametrize("suffix", FORMATS)
def test_bytes_that_are_no_such_file_are_refused(tmp_path, suffix):
    for data, said in (
        (b"", "it is empty"),
        # What torch says of the second is no more than "101", the code of its first letter.
        (b"not a file of that kind", "it is text that begins 'not a file of that kind'"),
        (b"epsilon\n", r"it is text that begins 'epsilon\\n'"),
        (b"\x00\x01\xff", "it begins with the bytes 00 01 ff"),
    ):
        with pytest.raises(UsageError, match=f": not a.*: {said}$"):
            read(tmp_path / f"v.{suffix}", data)


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_file_of_another_format_and_one_that_was_cut_off_are_named_for_what_they_look_like(tmp_path, suffix):
    looks = {"pt": "like a zip archive", "safetensors": "like a safetensors file", "gguf": "like a GGUF file"}
    save_all(Direction(np.ones((N, D))), tmp_path)
    for name in FORMATS:
        whole = (tmp_path / f"dir.{name}").read_bytes()
        with pytest.raises(UsageError, match=looks[name]) as refusal:
            read(tmp_path / f"v.{suffix}", whole[:-20] if name == suffix else whole)
        assert len(str(refusal.value).splitlines()) == 1


def test_other_formats_and_missing_files_are_refused_by_name(tmp_path):
    with pytest.raises(UsageError, match=r"v\.npz: .*expected a \.pt, \.safetensors or \.gguf file"):
        read(tmp_path / "v.npz", b"")
    with pytest.raises(UsageError, match=r"v\.pt: no such file"):
        read(tmp_path / "v.pt")
    with pytest.raises(UsageError, match=r"v\.npz: .*\.gguf"):
        Direction(np.ones((N, D))).save(tmp_path / "v.npz")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"directions": np.ones((N, D), np.int64)}, "int64|I64"),
        ({"ambient_norm": np.full(N, -1, np.float32)}, "ambient norms"),
    ],
)
def test_a_safetensors_file_of_other_values_is_refused(tmp_path, changes, said):
    import safetensors.numpy

    data = safetensors.numpy.save({"directions": random_vectors()} | changes)
    with pytest.raises(UsageError, match=rf"v\.safetensors: .*({said})"):
        read(tmp_path / "v.safetensors", data)


@settings(max_examples=30)
@given(st.integers(1, 4), st.integers(1, 5), st.integers(0, 2**31))
def test_the_hash_changes_with_values_and_shape_and_not_with_memory_layout(rows, columns, seed):
    v = np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32)
    assert direction_hash(v) == direction_hash(np.asfortranarray(v))
    assert direction_hash(v) != direction_hash(np.nextafter(v, np.float32(9)))
    if rows != columns:
        assert direction_hash(v) != direction_hash(v.reshape(columns, rows))


@pytest.mark.parametrize("key", [-1, "x-1", "1.5", "layer_2_seed1"])
def test_a_key_that_is_no_layers_number_is_refused_and_never_taken_for_another(torch, tmp_path, key):
    with pytest.raises(UsageError, match="layer"):
        read(tmp_path / "v.pt", saved(torch, {key: torch.ones(D), "other": torch.ones(D)}))


def test_no_other_module_of_the_package_reads_or_writes_files_of_torch():
    """Who may import safetensors and gguf is in `ONLY_IN` of dev/architecture.py."""
    package = Path(capvec.__file__).parent
    found = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and ast.unparse(node) in {"torch.load", "torch.save"}
    }
    assert found == {"directions/pt_file.py"}
