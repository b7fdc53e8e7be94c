"""Direction files: PyTorch `.pt`, safetensors, and control vectors in GGUF.

Only this module is used by others to read or write them. torch is imported for `.pt` alone, and gguf to write `.gguf`.

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

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from capvec.directions import gguf_file, pt_file
from capvec.directions.found import NoVector, Raw, check
from capvec.directions.metadata import Metadata
from capvec.errors import UsageError
from capvec.parsing import parse_json
from capvec.reading import GIB, MIB, open_regular, shown, size
from capvec.storage import write_bytes, writing

FORMATS = ("pt", "safetensors", "gguf")
"""Direction file formats, named by their suffix."""
LARGEST_FILE = GIB
"""Bytes of the largest direction file."""

_LARGEST_HEADER = 4 * MIB
_FIRST = "capvec.direction_0"
_AMBIENT = "capvec.ambient_norm"
_SAFETENSORS_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
_WHOLE_TYPES = {"I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "<i1", "U8": "<u1"}


class FileContents(NamedTuple):
    """What a direction file holds."""

    vectors: NDArray[np.float32]
    """float32 `[n_layers, d_model]`; finite, and not zero everywhere when it was read."""
    ambient_norm: NDArray[np.float64] | None
    """`[n_layers]`; None where the file does not hold it."""
    metadata: Metadata


# ------------------------------------------------------------------------------------------------ public functions


def read_file(path: Path, n_layers: int | None, d_model: int | None) -> FileContents:
    """Read a direction file; `Direction.read` documents what is accepted.

    Raises:
        UsageError: as `Direction.read`.
    """
    *others, last = (f".{name}" for name in FORMATS)
    expected = f"expected a {', '.join(others)} or {last} file"
    suffix = path.suffix.removeprefix(".")
    if not path.exists():
        raise UsageError(f"{shown(path)}: no such file; {expected}")
    if suffix not in FORMATS:
        raise UsageError(f"{shown(path)}: not a direction's file by its name; {expected}")
    with open_regular(path, LARGEST_FILE) as file:
        try:
            return FileContents(*check(_READERS[suffix](file), n_layers, d_model))
        except UsageError as error:
            raise UsageError(shown(f"{path}: {error}")) from error  # a message may quote the file
        except OSError as error:
            raise UsageError(f"{shown(path)}: cannot be read ({error.strerror})") from error


def write_file(path: Path, contents: FileContents, model_hint: str) -> None:
    """Write a direction file; `Direction.save` documents the formats.

    Raises:
        UsageError: the suffix is not one of `FORMATS`.
    """
    suffix = path.suffix.removeprefix(".")
    if suffix == "safetensors":
        write_bytes(path, to_safetensors(contents))
    elif suffix == "pt":
        layer = {} if contents.metadata.layer is None else {"layer": contents.metadata.layer}
        with writing(path):
            pt_file.save(path, {**_arrays(contents), **layer, "metadata": _header(contents)})
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


def _write_gguf(path: Path, contents: FileContents, model_hint: str) -> None:
    texts = {f"capvec.{name}": text for name, text in _header(contents).items()}
    arrays = {_FIRST: contents.vectors[0].tolist()}
    if contents.ambient_norm is not None:
        arrays[_AMBIENT] = contents.ambient_norm.tolist()
    texts = {f"{gguf_file.ARCHITECTURE}.model_hint": model_hint, **texts}
    gguf_file.write(path, texts, arrays, contents.vectors[1:])


# ------------------------------------------------------------------------------------------------ readers


def _read_pt(file: BinaryIO) -> Raw:
    length = _length(file)
    try:
        content = pt_file.load(file, length)
    except ValueError as error:
        raise UsageError(
            "not a .pt file of plain tensors, as torch.save({'directions': tensor}, path) writes it: "
            f"{_first_impression(file)}"
        ) from error
    return Raw(content, _header_of(content), length)


def _read_safetensors(file: BinaryIO) -> Raw:
    data = file.read()
    length = int.from_bytes(data[:8], "little")
    if _LARGEST_HEADER < length <= len(data):
        raise UsageError(f"its header has {size(length)}; expected at most {size(_LARGEST_HEADER)}: save fewer tensors")
    try:
        entries = safetensors.deserialize(data)  # type: ignore[no-untyped-call]
        stored = parse_json(data[8 : 8 + length]).get("__metadata__") or {}
    except (safetensors.SafetensorError, ValueError) as error:
        raise UsageError(f"not a safetensors file: {_first_impression(file)}") from error
    arrays = {name: _array(entry) for name, entry in entries}
    return Raw(arrays, {**_header_of(arrays), **stored}, len(data))


def _array(entry: Mapping[str, Any]) -> NDArray[Any] | NoVector:
    kind = entry["dtype"]
    dtype = _SAFETENSORS_TYPES.get(kind) or _WHOLE_TYPES.get(kind)
    if dtype is None:
        return NoVector(f"a tensor of {kind}")
    values = np.frombuffer(entry["data"], dtype)
    if kind == "BF16":  # the upper half of a float32
        values = (values.astype("<u4") << 16).view("<f4")
    return values.reshape(entry["shape"])


def _read_gguf(file: BinaryIO) -> Raw:
    data = file.read()
    try:
        fields, tensors = gguf_file.parse(data)
    except ValueError as error:
        raise UsageError(f"not a GGUF file of floating-point vectors: {_first_impression(file)}") from error
    places = {"direction.0": _FIRST, "ambient_norm": _AMBIENT}
    kept = {name: fields[key] for name, key in places.items() if isinstance(fields.get(key), np.ndarray)}
    header = {name.removeprefix("capvec."): value for name, value in fields.items() if isinstance(value, str)}
    return Raw({**tensors, **kept}, header, len(data))


_READERS: Mapping[str, Callable[[BinaryIO], Raw]] = {
    "pt": _read_pt,
    "safetensors": _read_safetensors,
    "gguf": _read_gguf,
}


def _length(file: BinaryIO) -> int:
    length = file.seek(0, 2)
    file.seek(0)
    return length


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


def _first_impression(file: BinaryIO) -> str:
    """What the first bytes of an unreadable file look like, so that the user recognises the file."""
    file.seek(0)
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
