"""Direction files of PyTorch. They are read with `weights_only=True`, after a look at what the file would make of it.

The look bounds what torch allocates: members of the archive are stored uncompressed and no larger together than the
file, the pickle is small, and asks for tensors and plain values alone.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
import struct
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from capvec.directions.found import NoVector
from capvec.errors import UsageError
from capvec.reading import MIB, open_zip, size

_NO_PT_FILE = (
    *(pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError, AttributeError, TypeError),
    *(struct.error, ArithmeticError, AssertionError, MemoryError, zipfile.BadZipFile),
)
"""What torch raises on bytes that are no .pt file."""
_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")
_LARGEST_PICKLE = MIB
_MOST_VALUES, _DEEPEST = 100_000, 16
_OF_TENSORS = re.compile(
    r"collections OrderedDict|torch\._utils _rebuild_\w+|torch\._tensor _rebuild_from_type_v2"
    r"|torch\.serialization _get_layout|torch\.nn\.parameter Parameter|torch\.storage \w*Storage"
    r"|torch (?:\w+Storage|Size|device|q\w+|per_\w+|(?:bfloat|float|complex|u?int)[0-9]\w*|bool)"
)
"""What a pickle of tensors asks for, as module and name."""
_OLD_PARTS = 5
"""Pickles at the start of a file that a torch before 1.6 wrote."""


def load(file: BinaryIO, length: int) -> Any:
    """The values of a file: NumPy arrays, or a `NoVector`, in the place of tensors.

    Args:
        file: open at its start.
        length: its size in bytes.

    Raises:
        UsageError: reading it would run code, or take far more memory than the file has.
        ValueError: it is no .pt file.
    """
    import torch  # noqa: PLC0415 (only for this format)

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # about escape sequences of a damaged pickle
            warnings.simplefilter("ignore", UserWarning)  # about a pickle protocol that torch.save does not write
            _look(file, length)
            file.seek(0)
            content = torch.load(file, map_location="cpu", weights_only=True)
        return _Plain(max(64 * MIB, 4 * length)).value(content)
    except _NO_PT_FILE as error:
        if found := _GLOBAL.search(str(error)):
            raise _runs_code(found[1]) from error
        # torch's own message is left out: it advises to read the file without this protection.
        raise ValueError from error


def save(path: Path, content: Mapping[str, Any]) -> None:
    """Write arrays, numbers and texts under names."""
    import numpy as np  # noqa: PLC0415
    import torch  # noqa: PLC0415 (only for this format)

    # Copies: torch warns of arrays that it could write to and must not.
    values = {
        name: torch.from_numpy(value.copy()) if isinstance(value, np.ndarray) else value
        for name, value in content.items()
    }
    # An open file, since torch names the records inside the archive after a path.
    with path.open("wb") as file:
        torch.save(values, file)


def _runs_code(name: str) -> UsageError:
    return UsageError(
        f"refused, because reading it would run code: it asks for {name[:100]}, and a .pt file is read with "
        "weights_only=True, which allows tensors and plain values only; save tensors, as "
        "torch.save({'directions': tensor}, path)"
    )


# ------------------------------------------------------------------------------------------------ the look


def _look(file: BinaryIO, length: int) -> None:
    if file.read(4) != b"PK\x03\x04":
        file.seek(0)
        _look_at_old(io.BytesIO(file.read(_LARGEST_PICKLE)), length)
        return
    with open_zip(file, length) as archive:
        members = archive.infolist()
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise UsageError("a compressed archive; expected one as torch.save writes it, uncompressed")
        for member in members:
            if member.filename.lower().endswith("data.pkl"):  # torch takes any case for the same
                if member.file_size > _LARGEST_PICKLE:
                    raise UsageError(
                        f"its data.pkl has {size(member.file_size)}; expected at most {size(_LARGEST_PICKLE)}: save "
                        "the vectors alone"
                    )
                for _ in _operations(io.BytesIO(archive.read(member))):
                    pass


def _look_at_old(pickles: io.BytesIO, length: int) -> None:
    """A file of torch before 1.6: the sizes of its storages stand in the fourth of its pickles."""
    for part in range(_OLD_PARTS):
        for argument in _operations(pickles):
            if part == _OLD_PARTS - 2 and isinstance(argument, int) and argument > 8 * length:
                raise UsageError(
                    f"it names {argument}, as a size, and has {size(length)}; save it anew with torch.save"
                )


def _operations(stream: io.BytesIO) -> Iterator[Any]:
    """The arguments of a pickle's operations; refuses names that have no place in tensors."""
    for operation, argument, _ in pickletools.genops(stream):
        if operation.name in {"GLOBAL", "INST"} and not _OF_TENSORS.fullmatch(str(argument)):
            raise _runs_code(str(argument).replace(" ", "."))
        yield argument


# ------------------------------------------------------------------------------------------------ values


class _Plain:
    """Turns tensors into NumPy arrays, within a number of bytes."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._values = 0

    def value(self, value: Any, depth: int = 0) -> Any:
        import torch  # noqa: PLC0415

        self._values += 1
        if depth > _DEEPEST or self._values > _MOST_VALUES:
            raise UsageError(
                f"it holds more than {_MOST_VALUES:,} values, or lists within lists; save the vectors alone"
            )
        if isinstance(value, torch.Tensor):
            return self._array(value)
        if isinstance(value, Mapping):
            return {key: self.value(item, depth + 1) for key, item in value.items()}
        return [self.value(item, depth + 1) for item in value] if isinstance(value, list | tuple) else value

    def _array(self, tensor: Any) -> Any:
        if (what := _odd(tensor)) is not None:
            return NoVector(what)
        self._room -= 4 * tensor.numel()
        if self._room < 0:
            raise UsageError(
                f"a tensor of shape {list(tensor.shape)} takes far more memory than the file has; save a contiguous one"
            )
        tensor = tensor.detach()
        if tensor.is_floating_point() and tensor.element_size() <= 4:
            tensor = tensor.float()
        return tensor.numpy()


def _odd(tensor: Any) -> str | None:
    """What a tensor is that has no floating-point values in memory, or None; whole numbers may be a layer's."""
    import torch  # noqa: PLC0415

    if tensor.is_quantized:
        return "a quantized tensor (save tensor.dequantize())"
    if tensor.is_meta:
        return "a meta tensor, which has no values"
    if tensor.layout is not torch.strided or tensor.is_nested:
        return "a sparse or nested tensor (save tensor.to_dense())"
    return f"a tensor of {tensor.dtype}" if tensor.is_complex() else None
