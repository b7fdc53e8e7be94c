"""Control vectors in GGUF: a reader that allocates nothing for what a header merely claims, and the library's writer.

The library's own reader takes a Python object for each element of an array, and as many as the header says.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from capvec.directions.found import NoVector
from capvec.errors import UsageError
from capvec.reading import shown

ARCHITECTURE = "controlvector"
_SCALARS = {0: "u1", 1: "i1", 2: "u2", 3: "i2", 4: "u4", 5: "i4", 6: "f4", 7: "u1", 10: "u8", 11: "i8", 12: "f8"}
"""GGUF's types of one number, as NumPy names them."""
_STRING, _ARRAY = 8, 9
_TENSORS = {0: "f4", 1: "f2", 28: "f8", 30: "u2"}
_BF16 = 30
_MOST = 100_000
"""Keys, tensors, and texts of one list."""


class Contents(NamedTuple):
    """What a control vector holds."""

    fields: Mapping[str, Any]
    """Numbers, texts and arrays of numbers by key; a list of texts is left out."""
    tensors: Mapping[str, NDArray[Any] | NoVector]


def parse(data: bytes) -> Contents:
    """The content of a GGUF file of version 2 or 3, in either byte order.

    Raises:
        UsageError: it is that of a model, or its tensors overlap.
        ValueError: it is no GGUF file, or is cut off.
    """
    cursor = _Cursor(data)
    if cursor.take(4) != b"GGUF":
        raise ValueError("no magic")
    if int.from_bytes(data[4:8], "little") > 0xFFFF:
        cursor.order = ">"
    if (version := cursor.number("u4")) not in (2, 3):
        raise ValueError(f"version {version}")
    n_tensors, n_fields = cursor.count(24), cursor.count(12)
    fields: dict[str, Any] = {}
    for _ in range(n_fields):
        key = cursor.text()
        fields[key] = cursor.value(cursor.number("u4"))
        if key == "general.architecture" and fields[key] != ARCHITECTURE:
            raise UsageError(
                f"a GGUF of architecture {shown(str(fields[key]))[:60]!r}; expected {ARCHITECTURE!r}, and not a model"
            )
    if "general.architecture" not in fields:
        raise ValueError("no architecture")
    return Contents(fields, dict(_tensors(cursor, n_tensors, fields.get("general.alignment", 32))))


def _tensors(cursor: _Cursor, count: int, alignment: Any) -> Iterator[tuple[str, NDArray[Any] | NoVector]]:
    infos = [_info(cursor) for _ in range(count)]
    if not isinstance(alignment, int) or alignment <= 0:
        raise ValueError("no alignment")
    start = -(-cursor.at // alignment) * alignment
    _check_places(infos)
    for name, shape, kind, offset in infos:
        if kind not in _TENSORS:
            yield name, NoVector(f"a quantized tensor or one of whole numbers (type {kind} of GGML)")
            continue
        cursor.at = start + offset
        array = cursor.array(_TENSORS[kind], math.prod(shape))
        if kind == _BF16:  # the upper half of a float32
            array = (array.astype("<u4") << 16).view("<f4")
        yield name, array.reshape(shape)


def _check_places(infos: Sequence[tuple[str, list[int], int, int]]) -> None:
    """Refuse tensors that share bytes, which would take many times the file in memory.

    Raises:
        UsageError: two of them do.
    """
    places = sorted(
        (offset, offset + math.prod(shape) * np.dtype(_TENSORS[kind]).itemsize, name)
        for name, shape, kind, offset in infos
        if kind in _TENSORS and 0 not in shape
    )
    for (_, end, name), (start, _, other) in pairwise(places):
        if start < end:
            raise UsageError(f"its tensors {name[:60]!r} and {other[:60]!r} share bytes; expected each to have its own")


def _info(cursor: _Cursor) -> tuple[str, list[int], int, int]:
    name, rank = cursor.text(), cursor.number("u4")
    if rank > 4:
        raise ValueError(f"a tensor of rank {rank}")
    shape = [cursor.number("u8") for _ in range(rank)][::-1]
    return name, shape, cursor.number("u4"), cursor.number("u8")


class _Cursor:
    """A place in the bytes of a file. Nothing is taken beyond their end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0
        self.order = "<"

    def take(self, length: int) -> bytes:
        self._check(length)
        self.at += length
        return self._data[self.at - length : self.at]

    def number(self, kind: str) -> int:
        return int(self.array(kind, 1)[0])

    def array(self, kind: str, count: int) -> NDArray[Any]:
        dtype = np.dtype(self.order + kind)
        self._check(count * dtype.itemsize)
        found = np.frombuffer(self._data, dtype, count, self.at) if count else np.zeros(0, dtype)
        self.at += count * dtype.itemsize
        return found

    def count(self, least: int) -> int:
        """How many things follow, each of which has at least so many bytes."""
        found = self.number("u8")
        self._check(found * least)
        if found > _MOST:
            raise ValueError(f"{found} of one thing")
        return found

    def text(self) -> str:
        return self.take(self.number("u8")).decode("utf-8")

    def value(self, kind: int) -> Any:
        """A number, a text, or an array of numbers; None for a list of texts."""
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            inner = self.number("u4")
            if inner == _STRING:
                for _ in range(self.count(8)):
                    self.take(self.number("u8"))
                return None
            return self.array(_scalar(inner), self.number("u8"))
        return self.array(_scalar(kind), 1)[0].item()

    def _check(self, length: int) -> None:
        if self.at + length > len(self._data):
            raise ValueError("cut off")


def _scalar(kind: int) -> str:
    if kind not in _SCALARS:
        raise ValueError(f"a value of type {kind}")
    return _SCALARS[kind]


def write(path: Path, texts: Mapping[str, str], arrays: Mapping[str, Sequence[float]], vectors: NDArray[Any]) -> None:
    """Write a control vector.

    Args:
        path: the file.
        texts: keys with text.
        arrays: keys with lists of numbers.
        vectors: those of layers 1 on, `[n_layers − 1, d_model]`.
    """
    from gguf import GGUFWriter  # noqa: PLC0415 (only for this format)

    writer = GGUFWriter(path, ARCHITECTURE)
    writer.add_uint32(f"{ARCHITECTURE}.layer_count", len(vectors))
    for name, text in texts.items():
        writer.add_string(name, text)
    for name, numbers in arrays.items():
        writer.add_array(name, numbers)
    for layer, vector in enumerate(vectors, start=1):
        writer.add_tensor(f"direction.{layer}", np.ascontiguousarray(vector))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
