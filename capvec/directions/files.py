"""Direction files: PyTorch `.pt`, safetensors, and control vectors in GGUF.

This module is the only one that reads or writes them. It imports torch for `.pt` alone, and gguf for `.gguf` alone.

Row L of a direction is added to the output of decoder block L, counted from 0. Tensor `direction.L` of a control vector
means the same in both programs that read GGUF:

* llama.cpp: `common_control_vector_load_one` (common/common.cpp) puts `direction.N` at offset (N − 1)·n_embd, and
  `llama_adapter_cvec::apply` (src/llama-adapter.cpp) fills layer il from offset (il − 1)·n_embd, so N is il. The graphs
  add it by `build_cvec(cur, il)` to what they then call `l_out-il`, the block's output. llama.cpp refuses a file with a
  tensor `direction.0`, with a tensor of another name, of another type than F32, or of another rank than 1. It reads no
  metadata.
* repeng: `ControlVector.import_gguf` (repeng/extract.py) requires the key `controlvector.model_hint` and uses N as the
  key of `directions`. `ControlModel` (repeng/control.py) adds `directions[N]` to the output of block N, and requires
  one for every layer that it wraps. Its own vectors cover layers 1 to n_layers − 1.

A capvec direction may have a v_0. GGUF files keep it under the key `capvec.direction_0`, and the ambient norms under
`capvec.ambient_norm`; both programs ignore these keys.
"""

from __future__ import annotations

import io
import json
import pickle
import re
import struct
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from capvec.directions.metadata import Metadata
from capvec.errors import UsageError
from capvec.storage import write_bytes, writing

FORMATS = ("pt", "safetensors", "gguf")
"""Direction file formats, named by their suffix."""

_LAYER_KEY = re.compile(r"(?:[A-Za-z_.]*[A-Za-z_.])?(\d+)")
"""A layer's number after letters, dots and underscores; `-1`, `1.5` and names with two numbers do not match."""
_NAMES = ("directions", "direction", "vectors", "dir", "v")
_DEEPEST = 1000
"""Most layers of a direction whose model is not known: a stray key must not allocate all memory."""
_NO_PT_FILE = (
    *(pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError, AttributeError, TypeError),
    struct.error,
)
"""What torch raises on bytes that are no .pt file."""
_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")
_ARCHITECTURE = "controlvector"
_FIRST = "capvec.direction_0"
_AMBIENT = "capvec.ambient_norm"
_SAFETENSORS_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}


class FileContents(NamedTuple):
    """What a direction file holds."""

    vectors: NDArray[np.float32]
    """float32 `[n_layers, d_model]`; finite, and not zero everywhere when it was read."""
    ambient_norm: NDArray[np.float64] | None
    """`[n_layers]`; None where the file does not hold it."""
    metadata: Metadata


class _Raw(NamedTuple):
    """A file's content before its shape is checked."""

    values: Any
    """An array, or arrays in a list or under names."""
    header: Mapping[str, str]


# ------------------------------------------------------------------------------------------------ public functions


def read_file(path: Path, n_layers: int | None, d_model: int | None) -> FileContents:
    """Read a direction file; `Direction.read` documents what is accepted.

    Raises:
        UsageError: as `Direction.read`, without the file's name.
        OSError: the file cannot be opened.
    """
    *others, last = (f".{name}" for name in FORMATS)
    expected = f"expected a {', '.join(others)} or {last} file"
    suffix = path.suffix.removeprefix(".")
    if not path.is_file():
        raise UsageError(f"no such file; {expected}")
    if suffix not in FORMATS:
        raise UsageError(f"not a direction's file by its name; {expected}")
    return _checked(_READERS[suffix](path), n_layers, d_model)


def write_file(path: Path, contents: FileContents, model_hint: str) -> None:
    """Write a direction file; `Direction.save` documents the formats.

    Raises:
        UsageError: the suffix is not one of `FORMATS`.
    """
    suffix = path.suffix.removeprefix(".")
    if suffix == "safetensors":
        write_bytes(path, to_safetensors(contents))
    elif suffix == "pt":
        _write_pt(path, contents)
    elif suffix == "gguf":
        with writing(path):
            _write_gguf(path, contents, model_hint)
    else:
        raise UsageError(f"{path}: directions are written as .{', .'.join(FORMATS)}; choose one of these suffixes")


def to_safetensors(contents: FileContents) -> bytes:
    """The bytes of a safetensors file: `directions` and, where known, `ambient_norm`, both float32, and metadata."""
    return safetensors.numpy.save(_arrays(contents), _header(contents))


# ------------------------------------------------------------------------------------------------ writers


def _arrays(contents: FileContents) -> dict[str, NDArray[np.float32]]:
    arrays = {"directions": np.ascontiguousarray(contents.vectors)}
    if contents.ambient_norm is not None:
        arrays["ambient_norm"] = contents.ambient_norm.astype(np.float32)
    return arrays


def _header(contents: FileContents) -> dict[str, str]:
    return contents.metadata.header(np.linalg.norm(contents.vectors.astype(np.float64), axis=1).tolist())


def _write_pt(path: Path, contents: FileContents) -> None:
    import torch  # noqa: PLC0415 (only for this format)

    layer = {} if contents.metadata.layer is None else {"layer": contents.metadata.layer}
    # Copies: torch warns of arrays that it could write to and must not.
    tensors = {name: torch.from_numpy(array.copy()) for name, array in _arrays(contents).items()}
    # In memory, since torch names the records inside the archive after a path.
    archive = io.BytesIO()
    torch.save({**tensors, **layer, "metadata": _header(contents)}, archive)
    write_bytes(path, archive.getvalue())


def _write_gguf(path: Path, contents: FileContents, model_hint: str) -> None:
    from gguf import GGUFWriter  # noqa: PLC0415 (only for this format)

    first, *others = contents.vectors
    writer = GGUFWriter(path, _ARCHITECTURE)
    writer.add_string(f"{_ARCHITECTURE}.model_hint", model_hint)
    writer.add_uint32(f"{_ARCHITECTURE}.layer_count", len(others))
    for name, text in _header(contents).items():
        writer.add_string(f"capvec.{name}", text)
    writer.add_array(_FIRST, first.tolist())
    if contents.ambient_norm is not None:
        writer.add_array(_AMBIENT, contents.ambient_norm.tolist())
    for layer, vector in enumerate(others, start=1):
        writer.add_tensor(f"direction.{layer}", np.ascontiguousarray(vector))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


# ------------------------------------------------------------------------------------------------ readers


def _read_pt(path: Path) -> _Raw:
    import torch  # noqa: PLC0415 (only for this format)

    def plain(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            value = value.detach().to_dense()
            return (value.float() if value.is_floating_point() else value).numpy()
        if isinstance(value, Mapping):
            return {key: plain(item) for key, item in value.items()}
        return [plain(item) for item in value] if isinstance(value, list | tuple) else value

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about a pickle protocol that torch.save does not write
            content = plain(torch.load(path, map_location="cpu", weights_only=True))
    except _NO_PT_FILE as error:
        if found := _GLOBAL.search(str(error)):
            raise UsageError(
                f"refused, because reading it would run code: it asks for {found[1]}, and a .pt file is read with "
                "weights_only=True, which allows tensors and plain values only; save tensors, as "
                "torch.save({'directions': tensor}, path)"
            ) from error
        # torch's own message is left out: it advises to read the file without this protection.
        raise UsageError(
            "not a .pt file of plain tensors, as torch.save({'directions': tensor}, path) writes it: "
            f"{_first_impression(path)}"
        ) from error
    return _Raw(content, _header_of(content))


def _read_safetensors(path: Path) -> _Raw:
    data = path.read_bytes()
    try:
        entries = safetensors.deserialize(data)  # type: ignore[no-untyped-call]
    except safetensors.SafetensorError as error:
        raise UsageError(f"not a safetensors file: {_first_impression(path)}") from error
    arrays = {name: _array(name, entry) for name, entry in entries}
    length = int.from_bytes(data[:8], "little")
    stored: Mapping[str, str] = json.loads(data[8 : 8 + length]).get("__metadata__") or {}
    return _Raw(arrays, {**_header_of(arrays), **stored})


def _array(name: str, entry: Mapping[str, Any]) -> NDArray[Any]:
    kind = entry["dtype"]
    if kind not in _SAFETENSORS_TYPES and name != "layer":
        raise UsageError(f"tensor {name!r} holds {kind}; expected floating point: {', '.join(_SAFETENSORS_TYPES)}")
    values = np.frombuffer(entry["data"], _SAFETENSORS_TYPES.get(kind, f"<i{len(entry['data'])}"))
    if kind == "BF16":  # the upper half of a float32
        values = (values.astype("<u4") << 16).view("<f4")
    return values.reshape(entry["shape"])


def _read_gguf(path: Path) -> _Raw:
    from gguf import GGUFReader, dequantize  # noqa: PLC0415 (only for this format)

    try:
        reader = GGUFReader(path)
        architecture = reader.fields["general.architecture"].contents()
        if architecture != _ARCHITECTURE:
            raise UsageError(f"a GGUF of architecture {architecture!r}; expected {_ARCHITECTURE!r}, and not a model")
        fields = {name: field.contents() for name, field in reader.fields.items()}
        # Copies, since the reader maps the file into memory.
        arrays = {tensor.name: dequantize(tensor.data, tensor.tensor_type).copy() for tensor in reader.tensors}
    except (ValueError, IndexError, KeyError, NotImplementedError) as error:
        raise UsageError(f"not a GGUF file of floating-point vectors: {_first_impression(path)}") from error
    places = {"direction.0": _FIRST, "ambient_norm": _AMBIENT}
    arrays |= {name: np.array(fields[key], np.float32) for name, key in places.items() if key in fields}
    header = {name.removeprefix("capvec."): value for name, value in fields.items() if isinstance(value, str)}
    return _Raw(arrays, header)


_READERS: Mapping[str, Callable[[Path], _Raw]] = {
    "pt": _read_pt,
    "safetensors": _read_safetensors,
    "gguf": _read_gguf,
}


def _header_of(content: Any) -> dict[str, str]:
    """The texts under `metadata`, else those beside the vectors, and `layer`, a number of any kind."""
    if not isinstance(content, Mapping):
        return {}
    metadata = content.get("metadata")
    beside = {name: content[name] for name in Metadata.__dataclass_fields__ if name in content}
    texts = beside | (dict(metadata) if isinstance(metadata, Mapping) else {})
    header = {str(name): value for name, value in texts.items() if isinstance(value, str)}
    layer = beside.get("layer")
    if isinstance(layer, np.ndarray) and layer.size == 1:
        layer = layer.item()
    return header | ({"layer": str(layer)} if layer is not None else {})


def _first_impression(path: Path) -> str:
    """What the first bytes of an unreadable file look like, so that the user recognises the file."""
    with path.open("rb") as file:
        start = file.read(40)
    if not start:
        return "it is empty"
    for magic, kind in ((b"GGUF", "a GGUF file"), (b"PK", "a zip archive, as torch.save writes it")):
        if start.startswith(magic):
            return f"it begins like {kind}, and is damaged or holds something else"
    if start[8:9] == b"{":
        return "it begins like a safetensors file, and is damaged or holds something else"
    text = start.decode("utf-8", errors="ignore")
    if text.replace("\n", " ").replace("\t", " ").replace("\r", " ").isprintable():
        return f"it is text that begins {text!r}"
    return f"it begins with the bytes {start[:8].hex(' ')}"


# ------------------------------------------------------------------------------------------------ shapes


def _checked(raw: _Raw, n_layers: int | None, d_model: int | None) -> FileContents:
    metadata = Metadata.from_header(raw.header)
    layer = metadata.layer
    if layer is not None and layer >= (n_layers or _DEEPEST):
        known = f"the model has {n_layers}, 0 to {n_layers - 1}" if n_layers else f"expected less than {_DEEPEST}"
        raise UsageError(f"the direction's file names layer {layer}; {known}")
    vectors = _stack(_find(raw.values), layer, n_layers, d_model)
    if not np.isfinite(vectors).all():
        raise UsageError("the direction holds values that are not finite numbers")
    if not vectors.any():
        raise UsageError("the direction is zero in every layer, so it would steer nothing")
    ambient = raw.values.get("ambient_norm") if isinstance(raw.values, Mapping) else None
    if not isinstance(ambient, np.ndarray) or ambient.shape != (len(vectors),):
        ambient = None
    return FileContents(vectors, None if ambient is None else ambient.astype(np.float64), metadata)


def _find(content: Any) -> Any:
    """The part of a file that holds the vectors."""
    if isinstance(content, Mapping):
        named = next((content[name] for name in _NAMES if name in content), None)
        if named is not None:
            return named
        arrays = [value for value in content.values() if isinstance(value, np.ndarray)]
        if len(arrays) == 1 and arrays[0].ndim == 2:
            return arrays[0]
    return content


def _stack(content: Any, layer: int | None, n_layers: int | None, d_model: int | None) -> NDArray[np.float32]:
    """The vectors as `[n_layers, d_model]`; a size that is None is taken from the file."""
    expected = "expected [n_layers, d_model]"
    if n_layers is not None and d_model is not None:
        expected = f"expected [{n_layers}, {d_model}], the model's layers and width"
    if isinstance(content, np.ndarray):
        shape = content.shape
        fits = len(shape) == 2 and shape[0] == (n_layers or shape[0]) and shape[1] == (d_model or shape[1])
        alone = content.ndim in {1, 2} and content.size == shape[-1] == (d_model or shape[-1])
        if fits and not (alone and layer is not None and n_layers is None):
            return _float(content)
        if not alone:
            hint = ""
            if n_layers is not None and shape == (n_layers + 1, d_model):
                hint = "; if row 0 is the embedding, as in Hugging Face's hidden_states, leave it out"
            raise UsageError(f"the direction has shape {list(shape)}; {expected}{hint}")
        if layer is None:
            raise UsageError(
                f"the direction has shape {list(shape)} and names no layer; {expected}, or the layer beside it, as "
                "torch.save({'dir': vector, 'layer': 22}, path)"
            )
        content = {layer: content}
    by_layer = _by_layer(content)
    depth = n_layers or min(max(by_layer, default=0) + 1, _DEEPEST)
    width = d_model or next((vector.size for vector in by_layer.values() if isinstance(vector, np.ndarray)), 0)
    vectors = np.zeros((depth, width), np.float32)
    for number, vector in by_layer.items():
        if not 0 <= number < depth:
            raise UsageError(f"the direction has a vector for layer {number}; {expected}, so layers 0 to {depth - 1}")
        if not isinstance(vector, np.ndarray) or vector.size != width:
            shape = list(vector.shape) if isinstance(vector, np.ndarray) else type(vector).__name__
            raise UsageError(f"the direction's vector for layer {number} has shape {shape}; {expected}")
        vectors[number] = _float(vector).reshape(width)
    return vectors


def _float(array: NDArray[Any]) -> NDArray[np.float32]:
    if array.dtype.kind != "f":
        raise UsageError(f"the direction holds {array.dtype}; expected floating point")
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused as such
        return array.astype(np.float32)


def _by_layer(content: Any) -> dict[int, Any]:
    if isinstance(content, list | tuple):
        return dict(enumerate(content))
    if isinstance(content, Mapping):
        layers: dict[int, Any] = {}
        for key, vector in content.items():
            if match := _LAYER_KEY.fullmatch(str(key)):
                if int(match[1]) in layers:
                    raise UsageError(f"the direction has two vectors for layer {match[1]}, one under the key {key!r}")
                layers[int(match[1])] = vector
        if layers:
            return layers
    keys = f" with keys {list(content)[:8]}" if isinstance(content, Mapping) else ""
    raise UsageError(
        f"the direction file holds {type(content).__name__}{keys}; expected one tensor [n_layers, d_model], "
        "or one vector for each layer under keys that end in the layer's number"
    )
