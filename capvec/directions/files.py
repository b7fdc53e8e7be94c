"""Direction files: PyTorch `.pt`, safetensors, and control vectors in GGUF.

Row L of a direction is what is added to the output of decoder block L, counted from 0, and so is `direction.L` of a
control vector, in both of the programs that read them:

* llama.cpp: `common_control_vector_load_one` (common/common.cpp) puts `direction.N` at offset (N − 1)·n_embd, and
  `llama_adapter_cvec::apply` (src/llama-adapter.cpp) fills layer il from offset (il − 1)·n_embd, so that N is il; the
  graphs add it by `build_cvec(cur, il)` to what they then call `l_out-il`, the block's output. A tensor
  `direction.0` makes it refuse the whole file, as does a tensor of another name, another type than F32, or another
  rank than 1. It reads no metadata.
* repeng: `ControlVector.import_gguf` (repeng/extract.py) wants the key `controlvector.model_hint` and takes N for the
  key of `directions`; `ControlModel` (repeng/control.py) adds `directions[N]` to the output of block N, and wants one
  for every layer that it wraps. Its own vectors cover 1 to n_layers − 1.

A direction of ours may have a v_0. In GGUF it is kept under the key `capvec.direction_0`, beside
`capvec.ambient_norm`, where both programs overlook it and `read_vectors` finds it.
"""

from __future__ import annotations

import io
import pickle
import re
import struct
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from capvec.directions.metadata import Metadata, safetensors_header
from capvec.engines.protocol import FORMATS
from capvec.errors import UsageError

_LAYER_KEY = re.compile(r"(?:[A-Za-z_.]*[A-Za-z_.])?(\d+)")
"""A layer's number, after letters, dots and underscores only: neither -1, 1.5 nor a name with two numbers is taken."""
_NAMES = ("directions", "direction", "vectors", "dir", "v")
_UNREADABLE = (
    *(pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError, AttributeError, TypeError),
    struct.error,
)
"""What torch raises on bytes that are no .pt file."""
_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")
_ARCHITECTURE = "controlvector"
_FIRST = "capvec.direction_0"
_AMBIENT = "capvec.ambient_norm"


@dataclass(frozen=True)
class _Content:
    """What a file holds, before it is known to fit a model."""

    values: Any
    """A tensor, or tensors in a list or under names."""
    header: Mapping[str, str]


def read_vectors(data: bytes, suffix: str, *, n_layers: int, d_model: int) -> dict[str, Tensor]:
    """Read a direction for a model of `n_layers` layers of width `d_model`.

    Accepted are one tensor `[n_layers, d_model]`, alone or under a name such as `directions` or `dir`; one `[d_model]`
    tensor for each of some layers (a list, or keys that end in the layer's number: `22`, `layer_22`, `direction.22`);
    and one `[d_model]` tensor beside the `layer` that it is for. Layers that the file leaves out are zero. Any
    floating-point type is read as float32.

    Returns:
        `directions`, float32 `[n_layers, d_model]`, and `ambient_norm`, float32 `[n_layers]`, where the file has it.

    Raises:
        UsageError: not a file of that format, one that could only be read by running code, or not the model's shape.
    """
    content = _open(data, suffix)
    layer = Metadata.from_header(content.header).layer
    if layer is not None and layer >= n_layers:
        raise UsageError(f"the direction's file names layer {layer}; the model has {n_layers}, 0 to {n_layers - 1}")
    vectors = _stack(_find(content.values), layer, n_layers, d_model)
    if not torch.isfinite(vectors).all():
        raise UsageError("the direction holds values that are not finite numbers")
    if not vectors.any():
        raise UsageError("the direction is zero in every layer, so it would steer nothing")
    ambient = content.values.get("ambient_norm") if isinstance(content.values, Mapping) else None
    extra = {"ambient_norm": ambient.float()} if isinstance(ambient, Tensor) and ambient.shape == (n_layers,) else {}
    return {"directions": vectors, **extra}


def read_metadata(data: bytes, suffix: str) -> Metadata:
    """What the file says about the direction.

    Raises:
        UsageError: as `read_vectors`.
    """
    return Metadata.from_header(_open(data, suffix).header)


def write_vectors(
    tensors: Mapping[str, Tensor], suffix: str, metadata: Metadata | None = None, *, model_hint: str = "unknown"
) -> bytes:
    """The file of a direction.

    Args:
        tensors: as `read_vectors` returns them.
        suffix: `pt` (a dictionary of tensors, loads with `weights_only=True`), `safetensors` or `gguf`.
        metadata: what is known about the direction.
        model_hint: the model's type, such as `llama`; only GGUF has a place for it.

    Raises:
        UsageError: another format.
    """
    content = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    norms = torch.linalg.vector_norm(content["directions"].double(), dim=1).tolist()
    header = (metadata or Metadata()).header(norms)
    if suffix == "safetensors":
        return safetensors.torch.save(content, header)
    if suffix == "pt":
        layer = {"layer": int(header["layer"])} if "layer" in header else {}
        buffer = io.BytesIO()
        torch.save({**content, **layer, "metadata": header}, buffer)
        return buffer.getvalue()
    if suffix == "gguf":
        return _write_gguf(content, header, model_hint)
    raise UsageError(f"format {suffix!r}: directions are written as .{', .'.join(FORMATS)}")


# ------------------------------------------------------------------------------------------------ formats


def _open(data: bytes, suffix: str) -> _Content:
    if suffix not in FORMATS:
        raise UsageError(f"a direction file of format {suffix!r}: expected one of .{', .'.join(FORMATS)}")
    return {"pt": _read_pt, "safetensors": _read_safetensors, "gguf": _read_gguf}[suffix](data)


def _read_pt(data: bytes) -> _Content:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of a pickle protocol that torch.save does not write
            content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        if found := _GLOBAL.search(str(error)):
            raise UsageError(
                f"refused, because reading it would run code: it asks for {found[1]}, and a .pt is read with "
                "weights_only=True, which gives it tensors and plain values alone; save tensors, as "
                "torch.save({'directions': tensor}, path)"
            ) from error
        # Not torch's own words: they advise to read the file without this protection.
        raise UsageError(
            "not a .pt file of plain tensors, as torch.save({'directions': tensor}, path) writes it: "
            f"{_what_it_is(data)}"
        ) from error
    return _Content(content, _header_of(content))


def _header_of(content: Any) -> dict[str, str]:
    """The texts under `metadata`, else those beside the vectors, and `layer`, a number of any kind."""
    if not isinstance(content, Mapping):
        return {}
    metadata = content.get("metadata")
    beside = {name: content[name] for name in Metadata.__dataclass_fields__ if name in content}
    texts = beside | (dict(metadata) if isinstance(metadata, Mapping) else {})
    header = {str(name): value for name, value in texts.items() if isinstance(value, str)}
    layer = beside.get("layer")
    if isinstance(layer, Tensor) and layer.numel() == 1:
        layer = layer.item()
    return header | ({"layer": str(layer)} if layer is not None else {})


def _read_safetensors(data: bytes) -> _Content:
    try:
        tensors = safetensors.torch.load(data)
    except (SafetensorError, KeyError) as error:  # KeyError: of a type that torch does not have
        raise UsageError(f"not a safetensors file: {_what_it_is(data)}") from error
    return _Content(tensors, _header_of(tensors) | safetensors_header(data))


def _read_gguf(data: bytes) -> _Content:
    from gguf import GGUFReader, dequantize  # noqa: PLC0415 (only for this format)

    with tempfile.NamedTemporaryFile(suffix=".gguf") as file:
        Path(file.name).write_bytes(data)
        try:
            reader = GGUFReader(file.name)
            architecture = reader.fields["general.architecture"].contents()
            if architecture != _ARCHITECTURE:
                raise UsageError(
                    f"a GGUF of architecture {architecture!r}; expected {_ARCHITECTURE!r}, and not a model"
                )
            fields = {name: field.contents() for name, field in reader.fields.items()}
            # A copy even of float32, since the file that backs it is about to go.
            tensors = {
                tensor.name: torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy())
                for tensor in reader.tensors
            }
        except (ValueError, IndexError, KeyError, NotImplementedError) as error:
            raise UsageError(f"not a GGUF file of floating-point vectors: {_what_it_is(data)}") from error
    places = {"direction.0": _FIRST, "ambient_norm": _AMBIENT}
    kept = {name: torch.tensor(fields[key]) for name, key in places.items() if key in fields}
    header = {name.removeprefix("capvec."): value for name, value in fields.items() if isinstance(value, str)}
    return _Content(tensors | kept, header)


def _what_it_is(data: bytes) -> str:
    """What the content of a file that cannot be read looks like, for a person to see what they named."""
    if not data:
        return "it is empty"
    for start, kind in ((b"GGUF", "a GGUF file"), (b"PK", "a zip archive, as torch.save writes it")):
        if data.startswith(start):
            return f"it begins like {kind}, and is damaged or holds something else"
    if data[8:9] == b"{":
        return "it begins like a safetensors file, and is damaged or holds something else"
    start_of_text = data[:40].decode("utf-8", errors="ignore")
    if start_of_text.replace("\n", " ").replace("\t", " ").replace("\r", " ").isprintable():
        return f"it is text that begins {start_of_text!r}"
    return f"it begins with the bytes {data[:8].hex(' ')}"


def _write_gguf(content: Mapping[str, Tensor], header: Mapping[str, str], model_hint: str) -> bytes:
    from gguf import GGUFWriter  # noqa: PLC0415 (only for this format)

    first, *others = content["directions"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "dir.gguf"
        writer = GGUFWriter(path, _ARCHITECTURE)
        writer.add_string(f"{_ARCHITECTURE}.model_hint", model_hint)
        writer.add_uint32(f"{_ARCHITECTURE}.layer_count", len(others))
        for name, text in header.items():
            writer.add_string(f"capvec.{name}", text)
        writer.add_array(_FIRST, first.tolist())
        if "ambient_norm" in content:
            writer.add_array(_AMBIENT, content["ambient_norm"].tolist())
        for layer, vector in enumerate(others, start=1):
            writer.add_tensor(f"direction.{layer}", vector.numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path.read_bytes()


# ------------------------------------------------------------------------------------------------ shapes


def _find(content: Any) -> Any:
    """The part of a file that holds the vectors."""
    if isinstance(content, Mapping):
        named = next((content[name] for name in _NAMES if name in content), None)
        if named is not None:
            return named
        tensors = [value for value in content.values() if isinstance(value, Tensor)]
        if len(tensors) == 1 and tensors[0].ndim == 2:
            return tensors[0]
    return content


def _stack(content: Any, layer: int | None, n_layers: int, d_model: int) -> Tensor:
    expected = f"expected [{n_layers}, {d_model}], the model's layers and width"
    if isinstance(content, Tensor):
        if tuple(content.shape) == (n_layers, d_model):
            return _float(content)
        if content.shape not in {(d_model,), (1, d_model)}:
            hint = ""
            if tuple(content.shape) == (n_layers + 1, d_model):
                hint = "; if row 0 is the embedding, as in Hugging Face's hidden_states, leave it out"
            raise UsageError(f"the direction has shape {list(content.shape)}; {expected}{hint}")
        if layer is None:
            raise UsageError(
                f"the direction has shape {list(content.shape)} and names no layer; {expected}, or the layer beside "
                "it, as torch.save({'dir': vector, 'layer': 22}, path)"
            )
        content = {layer: content}
    vectors = torch.zeros(n_layers, d_model)
    for number, vector in _by_layer(content).items():
        if not 0 <= number < n_layers:
            raise UsageError(
                f"the direction has a vector for layer {number}; {expected}, so layers 0 to {n_layers - 1}"
            )
        if not isinstance(vector, Tensor) or vector.numel() != d_model:
            shape = list(vector.shape) if isinstance(vector, Tensor) else type(vector).__name__
            raise UsageError(f"the direction's vector for layer {number} has shape {shape}; {expected}")
        vectors[number] = _float(vector).reshape(d_model)
    return vectors


def _float(tensor: Tensor) -> Tensor:
    if not tensor.is_floating_point():
        raise UsageError(f"the direction holds {str(tensor.dtype).removeprefix('torch.')}; expected floating point")
    return tensor.float()


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
