"""A direction: one vector for each layer, with its natural length."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from capvec.directions.files import FORMATS, FileContents, read_file, to_safetensors, write_file
from capvec.directions.found import unsteerable
from capvec.directions.metadata import Metadata
from capvec.errors import UsageError
from capvec.reading import shown
from capvec.records import AlphaUnit
from capvec.steering import direction_hash

_LARGEST_VALUES = {"float16": 65504.0}
"""Dtype of a residual → its largest value, where that is below float32's."""


@dataclass(frozen=True, eq=False)
class Direction:
    """A steering direction: one vector v_L for each decoder block, with its natural length.

    Row L is added to the output of decoder block L, counted from 0. For the mean difference, ‖v_L‖ is the gap between
    the class means, so that α = 1 moves the mean of the negatives onto the mean of the positives.

    Raises:
        UsageError: `vectors` or `ambient_norm` has another shape or holds values that are not finite, or float32 does
            not hold the square of a norm as a normal number.
    """

    vectors: NDArray[np.float32]
    """float32 `[n_layers, d_model]`; the direction keeps a read-only copy."""
    ambient_norm: NDArray[np.float64] | None = None
    """Mean ‖h_L‖ over the traces of the contrast, float64 `[n_layers]`; None if it is not known."""
    metadata: Metadata = field(default_factory=Metadata)
    """Where the direction comes from."""

    def __post_init__(self) -> None:
        vectors = np.array(self.vectors, dtype=np.float32)
        if vectors.ndim != 2 or 0 in vectors.shape:
            raise UsageError(f"a direction of shape {list(vectors.shape)}; expected [n_layers, d_model]")
        if not np.isfinite(vectors).all():
            raise UsageError("a direction holds values that are not finite numbers")
        for layer, norm in enumerate(np.linalg.norm(vectors.astype(np.float64), axis=1)):
            if norm and (why := unsteerable(norm)) is not None:
                raise UsageError(f"a direction that, at layer {layer}, {why}")
        vectors.setflags(write=False)
        object.__setattr__(self, "vectors", vectors)
        if self.ambient_norm is not None:
            ambient = np.array(self.ambient_norm, dtype=np.float64)
            if ambient.shape != (len(vectors),):
                raise UsageError(f"ambient norms of shape {list(ambient.shape)}; expected [{len(vectors)}]")
            if not (np.isfinite(ambient) & (ambient >= 0)).all():
                raise UsageError("a direction's ambient norms hold values that are not finite lengths of at least 0")
            ambient.setflags(write=False)
            object.__setattr__(self, "ambient_norm", ambient)

    @cached_property
    def hash(self) -> str:
        """Content hash, 16 hex digits; engines and run folders name the direction by it."""
        return direction_hash(self.vectors)

    @cached_property
    def trimmed_hash(self) -> str:
        """The hash without the layers after the last vector, whose number a file of single layers does not tell."""
        steering = np.flatnonzero(self.norms)
        return direction_hash(self.vectors[: steering[-1] + 1 if len(steering) else None])

    @cached_property
    def norms(self) -> NDArray[np.float64]:
        """‖v_L‖ of every layer, float64 `[n_layers]`."""
        return np.asarray(np.linalg.norm(self.vectors.astype(np.float64), axis=1))

    @property
    def n_layers(self) -> int:
        return int(self.vectors.shape[0])

    @property
    def d_model(self) -> int:
        return int(self.vectors.shape[1])

    @property
    def layer(self) -> int | None:
        """The layer to steer: the one in the metadata, or the only one whose vector is not zero; else None."""
        if self.metadata.layer is not None:
            return self.metadata.layer
        steering = np.flatnonzero(self.norms)
        return int(steering[0]) if len(steering) == 1 else None

    def unit(self, layer: int) -> NDArray[np.float64]:
        """d_L = v_L / ‖v_L‖, float64 `[d_model]`.

        Raises:
            UsageError: v_L is zero, or there is no such layer.
        """
        return np.asarray(self.vectors[layer].astype(np.float64) / self._length(layer))

    def stored_alpha(self, alpha: float, unit: AlphaUnit, layer: int) -> float:
        """Convert α to the unit `stored`, a multiple of v_L.

        Args:
            alpha: in `unit`.
            unit: `stored`; `norm`, the length of α·d_L; or `ambient`, that length over the ambient norm.
            layer: L.

        Raises:
            UsageError: v_L is zero, there is no such layer, or `unit` is `ambient` and the ambient norm is not known.
        """
        length = self._length(layer)
        if unit == "stored":
            return alpha
        if unit == "norm":
            return alpha / length
        if self.ambient_norm is None:
            raise UsageError(
                "--alpha-unit ambient needs ambient norms, which the direction's file does not hold; use stored or norm"
            )
        return float(alpha * self.ambient_norm[layer] / length)

    def check_strength(self, stored: float, layer: int, dtype: str) -> None:
        """Check that the model's dtype holds what a steer adds.

        Args:
            stored: α in the unit `stored`.
            layer: L.
            dtype: of the residual, as `float16`.

        Raises:
            UsageError: α·v_L has values beyond it.
        """
        largest = abs(stored) * float(np.abs(self.vectors[layer]).max())
        most = _LARGEST_VALUES.get(dtype, float(np.finfo(np.float32).max))
        if not largest <= most:
            raise UsageError(
                f"--alpha: at layer {layer}, α times the direction has values up to {largest:.3g}, and {dtype} holds "
                f"none beyond {most:.3g}; choose a smaller alpha"
            )

    def dose(self, stored: float, layer: int) -> float | None:
        """|α|·‖v_L‖ / ambient norm, for α in stored units; None if the ambient norm is not known or 0."""
        if self.ambient_norm is None or self.ambient_norm[layer] == 0:
            return None
        return float(abs(stored) * self.norms[layer] / self.ambient_norm[layer])

    @classmethod
    def read(cls, path: str | os.PathLike[str], n_layers: int | None = None, d_model: int | None = None) -> Self:
        """Read a direction file: PyTorch `.pt`, `.safetensors`, or a control vector in `.gguf`.

        A `.pt` file is read with `weights_only=True`, so that reading runs no code. The file may hold

        * one tensor `[n_layers, d_model]`, alone or under a name such as `directions` or `dir`;
        * one tensor `[d_model]` for each of some layers, in a list or under keys that name the layer: `22`, `layer_22`,
          `layers.22`, `block_22`, `blocks.22`, `direction.22`, `h.22`, `L22`, with letters, dots and underscores before
          the word; `happy_v2` names none;
        * one tensor `[d_model]` beside the `layer` that it is for.

        Layers that the file leaves out are zero. Values in float16, bfloat16, float32 and float64 become float32;
        ambient norms and metadata are read where the file has them. A file has at most 1 GiB. Reading takes less than
        10 times its size in memory, or 128 MiB.

        Args:
            path: the file; its suffix names the format.
            n_layers: decoder blocks of the model to steer. None takes the number from the file; a file of single layers
                then ends at the last layer that it names.
            d_model: width of the model's residual stream; None takes it from the file.

        Raises:
            UsageError: the file is missing, unreadable or of another format, could only be read by running code, does
                not fit the model, or holds a direction that cannot steer: one that is not finite, zero everywhere, too
                short or too long for float32, sparse, quantized, complex, of whole numbers, or without values.
        """
        contents = read_file(Path(path), n_layers, d_model)
        try:
            return cls(*contents)
        except UsageError as error:
            raise UsageError(f"{shown(path)}: {error}") from error

    def save(self, path: str | os.PathLike[str], *, model_hint: str = "unknown") -> None:
        """Write a direction file, in the format that the suffix of its name stands for.

        Every format keeps the vectors, the ambient norms in float32, and the metadata, so that `read` gives back an
        equal direction. A `.pt` file is a dictionary of tensors that loads with `weights_only=True`; a `.gguf` file is
        a control vector for llama.cpp and repeng, which have no vector for layer 0 (only `read` finds it).

        Args:
            path: ends in `.pt`, `.safetensors` or `.gguf`.
            model_hint: the model's type, such as `llama`; only GGUF has a place for it.

        Raises:
            UsageError: another suffix.
        """
        write_file(Path(path), self._contents, model_hint)

    def to_bytes(self) -> bytes:
        """The bytes of the safetensors file, as an engine takes them."""
        return to_safetensors(self._contents)

    @property
    def _contents(self) -> FileContents:
        return FileContents(self.vectors, self.ambient_norm, self.metadata)

    def _length(self, layer: int) -> float:
        if not 0 <= layer < self.n_layers:
            raise UsageError(f"--layer {layer}: the direction has {self.n_layers} layers, 0 to {self.n_layers - 1}")
        length = float(self.norms[layer])
        if (why := unsteerable(length)) is not None:
            raise UsageError(
                f"--layer {layer}: the direction {why} there, so it would steer nothing; choose another layer"
            )
        return length


def named_direction(
    option: str, path: str | os.PathLike[str], n_layers: int | None = None, d_model: int | None = None
) -> Direction:
    """`Direction.read` for the file that a command-line option names, such as `--direction`; errors begin with it."""
    try:
        return Direction.read(path, n_layers, d_model)
    except UsageError as error:
        raise UsageError(f"{option} {error}") from error


def save_all(direction: Direction, folder: Path, *, model_hint: str = "unknown") -> None:
    """Write `dir.pt`, `dir.safetensors` and `dir.gguf` into an existing folder, as `Direction.save` does."""
    for suffix in FORMATS:
        direction.save(folder / f"dir.{suffix}", model_hint=model_hint)


def random_control(direction: Direction, seed: int) -> Direction:
    """Isotropic random vectors that have, in every layer, the length of the given direction's vector."""
    noise = np.random.default_rng(seed).standard_normal(direction.vectors.shape)
    noise *= (direction.norms / np.linalg.norm(noise, axis=1))[:, None]
    return Direction(noise.astype(np.float32), direction.ambient_norm)


def orthogonal_controls(direction: Direction, count: int, seed: int) -> tuple[Direction, ...]:
    """Random directions that are orthogonal to the given one in every layer and as long.

    They are also orthogonal to each other, in batches of d_model − 1: there are no more such directions. Gaussian
    vectors are made orthonormal by QR after the direction itself, which makes them uniform on its orthogonal complement
    (Stewart 1980, SIAM J. Numer. Anal. 17:403). Signs are drawn, because those of a QR depend on its implementation.

    Raises:
        UsageError: the width is 1, where no vector is orthogonal to the direction.
    """
    batch = direction.d_model - 1
    if batch == 0:
        raise UsageError("--controls orthogonal: at width 1 nothing is orthogonal to a direction")
    rng = np.random.default_rng([seed, 1])  # another stream than the random controls of the same seed
    controls: list[Direction] = []
    while len(controls) < count:
        size = min(batch, count - len(controls))
        vectors = np.stack([_orthogonal(vector, size, rng) for vector in direction.vectors.astype(np.float64)], axis=1)
        controls += [Direction(one.astype(np.float32), direction.ambient_norm) for one in vectors]
    return tuple(controls)


def _orthogonal(vector: NDArray[np.float64], count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Random vectors orthogonal to `vector` and to each other, with its length, `[count, d_model]`."""
    noise = rng.standard_normal((len(vector), count))
    basis, _ = np.linalg.qr(np.column_stack([vector, noise]))
    signs = rng.choice((-1.0, 1.0), size=count)
    return np.asarray((basis[:, 1:] * signs).T * np.linalg.norm(vector))
