"""What was found in a direction file, whatever its format: values, checked to be a direction that can steer."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from capvec.directions.metadata import Metadata
from capvec.errors import UsageError
from capvec.reading import MIB, shown, size

LAYER_KEYS = "22, layer_22, layers.22, block_22, blocks.22, direction.22, h.22 or L22"
"""The keys that name a layer, by example; letters, dots and underscores may stand before the word."""
LEAST_NORM, LARGEST_NORM = 2.0**-63, 2.0**64
"""Between them float32 holds the square of a norm as a normal number."""
_PATTERNS = (
    r"([0-9]+)",
    r"(?:[a-z_.]*[_.])?(?:layers?|blocks?|directions?)[_.]?([0-9]+)",
    r"(?:[a-z_.]*\.)?h\.([0-9]+)",
    r"l_?([0-9]+)",
)
_LAYER_KEY = re.compile("|".join(_PATTERNS), re.IGNORECASE)
"""`-1`, `1.5`, names with two numbers, and names such as `happy_v2` do not match."""
_NAMES = ("directions", "direction", "vectors", "dir", "v")
_DEEPEST = 1000
"""Most layers of a direction whose model is not known: a stray key must not allocate all memory."""
_ROOM = 64 * MIB
"""Bytes that the vectors of any file may take."""


class NoVector(NamedTuple):
    """A tensor that cannot steer."""

    what: str
    """Such as `a sparse tensor`."""


class Raw(NamedTuple):
    """A file's content before its shape is checked."""

    values: Any
    """An array, or arrays in a list or under names; a `NoVector` in the place of a tensor that cannot steer."""
    header: Mapping[str, str]
    size: int
    """Bytes of the file."""


class Checked(NamedTuple):
    """The content of a file that can steer."""

    vectors: NDArray[np.float32]
    ambient_norm: NDArray[np.float64] | None
    metadata: Metadata


class _Row(NamedTuple):
    """One layer's vector in a file."""

    label: str
    """Where it is, for messages."""
    value: Any


def check(raw: Raw, n_layers: int | None, d_model: int | None) -> Checked:
    """The direction in a file.

    Args:
        raw: what the file holds.
        n_layers: decoder blocks of the model; None takes the number from the file.
        d_model: width of its residual stream; None takes it from the file.

    Raises:
        UsageError: the values do not fit the model, or cannot steer; the message names the key.
    """
    metadata = Metadata.from_header(raw.header)
    layer = metadata.layer
    if layer is not None and layer >= (n_layers or _DEEPEST):
        known = f"the model has {n_layers}, 0 to {n_layers - 1}" if n_layers else f"expected less than {_DEEPEST}"
        raise UsageError(f"the direction's file names layer {layer}; {known}")
    rows, width = _rows(raw.values, layer, n_layers, d_model)
    depth = n_layers or max(rows, default=0) + 1
    if 4 * depth * width > max(_ROOM, 4 * raw.size):
        raise UsageError(
            f"{depth} layers of {width} values take {size(4 * depth * width)}, and the file has {size(raw.size)}; "
            "expected the vectors of one model"
        )
    vectors = np.zeros((depth, width), np.float32)
    for number, row in rows.items():
        vectors[number] = _steering(row)
    if not vectors.any():
        raise UsageError("the direction is zero in every layer, so it would steer nothing")
    ambient = raw.values.get("ambient_norm") if isinstance(raw.values, Mapping) else None
    if not isinstance(ambient, np.ndarray) or ambient.shape != (len(vectors),):
        ambient = None
    return Checked(vectors, None if ambient is None else ambient.astype(np.float64), metadata)


# ------------------------------------------------------------------------------------------------ values


def unsteerable(norm: float) -> str | None:
    """Why a vector of this norm cannot steer, as what follows its name in a sentence; None if it can."""
    if not np.isfinite(norm):
        return "holds values that are not finite numbers"
    if norm == 0:
        return "is zero"
    if not LEAST_NORM < norm < LARGEST_NORM:
        bounds = f"from {LEAST_NORM:.1g} to {LARGEST_NORM:.1g}"
        return f"has a norm of {norm:.3g}, and float32 holds the squares of norms {bounds} (scale it)"
    return None


def _steering(row: _Row) -> NDArray[np.float32]:
    """The vector of a row as float32; its norm is that in the file's own type, which may hold less or more."""
    if isinstance(row.value, NoVector):
        raise UsageError(f"{row.label} is {row.value.what}; expected a dense tensor of floating point")
    if row.value.dtype.kind != "f":
        raise UsageError(f"{row.label} holds {row.value.dtype}; expected floating point")
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused as such
        vector = row.value.reshape(-1).astype(np.float32)
        norm = float(np.linalg.norm(row.value.astype(np.float64))) if np.isfinite(vector).all() else np.inf
    why = unsteerable(norm) if norm else None  # a layer that the direction leaves alone
    if why is not None:
        raise UsageError(f"{row.label} {why}; expected a vector that can steer")
    return np.asarray(vector)


# ------------------------------------------------------------------------------------------------ shapes


def _find(content: Any, layer: int | None) -> tuple[str, Any]:
    """The part of a file that holds the vectors, and its key; an empty key is the whole file."""
    if isinstance(content, Mapping):
        named = next((name for name in _NAMES if name in content), None)
        if named is not None:
            return named, content[named]
        arrays = {key: one for key, one in content.items() if isinstance(one, np.ndarray) and key != "layer"}
        if len(arrays) == 1:
            ((key, array),) = arrays.items()
            if array.ndim == 2 or (layer is not None and _layer_of(key) is None):
                return str(key), array
    return "", content


def _rows(content: Any, layer: int | None, n_layers: int | None, d_model: int | None) -> tuple[dict[int, _Row], int]:
    """The vectors by layer, each of the width that is returned beside them."""
    expected = "expected [n_layers, d_model]"
    if n_layers is not None and d_model is not None:
        expected = f"expected [{n_layers}, {d_model}], the model's layers and width"
    key, found = _find(content, layer)
    if isinstance(found, NoVector):
        raise UsageError(f"{_label(key)} is {found.what}; expected a dense tensor of floating point")
    if isinstance(found, np.ndarray):
        by_layer = _rows_of(_label(key), found, layer, n_layers, d_model, expected)
    else:
        by_layer = _by_layer(found)
    width = d_model or next((row.value.size for row in by_layer.values() if isinstance(row.value, np.ndarray)), 0)
    for number, row in by_layer.items():
        if not 0 <= number < (n_layers or max(_DEEPEST, len(by_layer))):
            last = (n_layers or _DEEPEST) - 1
            raise UsageError(f"the direction has a vector for layer {number}; {expected}, so layers 0 to {last}")
        if not isinstance(row.value, np.ndarray | NoVector):
            raise UsageError(f"{row.label} is of type {type(row.value).__name__}; {expected}")
        if isinstance(row.value, np.ndarray) and row.value.size != width:
            raise UsageError(f"{row.label}, of layer {number}, has shape {list(row.value.shape)}; {expected}")
    return by_layer, width


def _rows_of(
    label: str, array: NDArray[Any], layer: int | None, n_layers: int | None, d_model: int | None, expected: str
) -> dict[int, _Row]:
    """The rows of one array: a vector for each layer, or one for the layer that the file names."""
    shape = array.shape
    fits = len(shape) == 2 and shape[0] == (n_layers or shape[0]) and shape[1] == (d_model or shape[1])
    alone = array.ndim in {1, 2} and array.size == shape[-1] == (d_model or shape[-1])
    if fits and not (alone and layer is not None and n_layers is None):
        return {number: _Row(f"{label}, row {number},", row) for number, row in enumerate(array)}
    if not alone:
        hint = ""
        if n_layers is not None and shape == (n_layers + 1, d_model):
            hint = "; if row 0 is the embedding, as in Hugging Face's hidden_states, leave it out"
        raise UsageError(f"{label} has shape {list(shape)}; {expected}{hint}")
    if layer is None:
        raise UsageError(
            f"{label} has shape {list(shape)} and names no layer; {expected}, or the layer beside it, as "
            "torch.save({'dir': vector, 'layer': 22}, path)"
        )
    return {layer: _Row(label, array)}


def _by_layer(content: Any) -> dict[int, _Row]:
    if isinstance(content, list | tuple):
        return {number: _Row(f"entry {number} of the list", value) for number, value in enumerate(content)}
    if isinstance(content, Mapping) and (layers := dict(_layers(content))):
        return layers
    keys = f" with the keys {_listed(list(content))}" if isinstance(content, Mapping) else ""
    raise UsageError(
        f"the direction file holds a value of type {type(content).__name__}{keys}; expected one tensor "
        f"[n_layers, d_model], or one vector for each layer under keys that name it: {LAYER_KEYS}"
    )


def _layers(content: Mapping[Any, Any]) -> Iterator[tuple[int, _Row]]:
    seen = set()
    for key, value in content.items():
        if (number := _layer_of(key)) is not None:
            if number in seen:
                raise UsageError(f"the direction has two vectors for layer {number}, one under the key {key!r}")
            seen.add(number)
            yield number, _Row(_label(key), value)


def _layer_of(key: Any) -> int | None:
    match = _LAYER_KEY.fullmatch(str(key))
    digits = next((digits for digits in match.groups() if digits), "") if match else ""
    return int(digits) if 0 < len(digits) <= 18 else None


def _label(key: Any) -> str:
    return f"key {shown(str(key))!r}" if key != "" else "the tensor"


def _listed(keys: list[Any], most: int = 8) -> str:
    texts = [shown(str(key))[:60] for key in keys[:most]]
    return f"{texts}{' and others' if len(keys) > most else ''}"
