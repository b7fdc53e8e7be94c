"""Direction files whose headers claim far more than the files hold, by format."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np

N, D = 3, 4


def text(value):
    return struct.pack("<Q", len(value)) + value


def gguf(fields=b"", n_fields=0, tensors=b"", n_tensors=0, data=b""):
    """A control vector whose header says what a test likes."""
    opening = text(b"general.architecture") + struct.pack("<I", 8) + text(b"controlvector")
    return b"GGUF" + struct.pack("<IQQ", 3, n_tensors, n_fields + 1) + opening + fields + tensors + data


def gguf_array(count, inner=0, key=b"x"):
    return text(key) + struct.pack("<IIQ", 9, inner, count)


def gguf_tensor(shape, kind=0, offset=0, name=b"direction.1"):
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


HUGE = 2**62
GGUFS = {
    "fields": lambda: b"GGUF" + struct.pack("<IQQ", 3, 0, HUGE) + text(b"a") + b"\0" * 16,
    "tensors": lambda: b"GGUF" + struct.pack("<IQQ", 3, HUGE, 0) + b"\0" * 25,
    "key": lambda: b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, HUGE) + b"\0" * 17,
    "numbers": lambda: gguf(gguf_array(HUGE), 1),
    "numbers that wrap": lambda: gguf(gguf_array(2**61, 10), 1, data=b"\0" * 64),
    "texts": lambda: gguf(gguf_array(HUGE, 8), 1),
    "empty texts": lambda: gguf(gguf_array(2**20, 8) + b"\0" * (8 << 20), 1),
    "arrays": lambda: gguf(gguf_array(HUGE, 9), 1),
    "nested arrays": lambda: gguf(gguf_array(1, 9) + struct.pack("<IQ", 9, 1) * 100_000, 1),
    "shape": lambda: gguf(tensors=gguf_tensor([HUGE]), n_tensors=1, data=b"\0" * 64),
    "shape that wraps": lambda: gguf(tensors=gguf_tensor([2**32, 2**32, 2**32]), n_tensors=1, data=b"\0" * 64),
    "offset": lambda: gguf(tensors=gguf_tensor([4], offset=HUGE), n_tensors=1, data=b"\0" * 64),
    "rank": lambda: gguf(tensors=text(b"direction.1") + struct.pack("<I", 2**31), n_tensors=1, data=b"\0" * 64),
    "alignment": lambda: gguf(
        text(b"general.alignment") + struct.pack("<II", 4, 0), 1, gguf_tensor([4]), 1, np.ones(64, "<f4").tobytes()
    ),
    "type": lambda: gguf(tensors=gguf_tensor([4], kind=2), n_tensors=1, data=b"\0" * 64),
    "tensors in one place": lambda: gguf(
        tensors=b"".join(gguf_tensor([1 << 20], 30, 0, b"direction.%d" % layer) for layer in range(1, 301)),
        n_tensors=300,
        data=bytes(1 << 21) + bytes(32),
    ),
    "tensors that overlap by one number": lambda: gguf(
        tensors=gguf_tensor([8], 0, 0, b"direction.1") + gguf_tensor([8], 0, 28, b"direction.2"),
        n_tensors=2,
        data=np.ones(32, "<f4").tobytes(),
    ),
    "version": lambda: b"GGUF" + struct.pack("<IQQ", 99, 0, 0),
    "stray layer": lambda: gguf(tensors=gguf_tensor([D], name=b"direction.4000000000"), n_tensors=1, data=b"\1" * 64),
}
"""Name → makes the bytes of a GGUF file that claims more than it holds."""


def archive(torch, **changes):
    """A .pt file with members changed: name → bytes, or a function of its bytes."""
    buffer, out = io.BytesIO(), io.BytesIO()
    torch.save({"directions": torch.ones(N, D)}, buffer)
    with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            change = changes.get(Path(name).name.replace(".", "_"))
            new.writestr(name, change(data) if change else data)
    return out.getvalue()


def stored(data, how=zipfile.ZIP_DEFLATED, offset=0):
    """A .pt file with this pickle; with an offset, as the part of a file from there on."""
    out = io.BytesIO(bytes(offset))
    out.seek(offset)
    with zipfile.ZipFile(out, "w", how) as new:
        new.writestr("archive/data.pkl", data)
        new.writestr("archive/data/0", bytes(1 << 28) if how else b"")
        new.writestr("archive/version", b"3\n")
    return out.getvalue()[offset:]


def laughs(levels):
    value = [1.0]
    for _ in range(levels):
        value = [value] * 10
    return pickle.dumps({"dir": value}, protocol=2)


def old(torch):
    """As a torch before 1.6 wrote it."""
    out = io.BytesIO()
    torch.save({"dir": torch.ones(N, D)}, out, _use_new_zipfile_serialization=False)
    return out.getvalue()


def of(torch, content):
    out = io.BytesIO()
    torch.save(content, out)
    return out.getvalue()


def pickled(data):
    """A .pt file with this pickle."""
    return lambda torch: archive(torch, data_pkl=lambda _: data)


def two_directories(data):
    """A .pt file whose end says where a directory begins that has this pickle, and follows one that has a small one.

    Some readers go where the end says, and others take the directory before it and add the difference to its offsets.
    """
    large, small = stored(data, zipfile.ZIP_STORED), stored(b"\x80\x02}.", zipfile.ZIP_STORED)
    with zipfile.ZipFile(io.BytesIO(large)) as one, zipfile.ZipFile(io.BytesIO(small)) as other:
        start, before, members = one.start_dir, other.start_dir, len(one.namelist())
    moved = stored(b"\x80\x02}.", zipfile.ZIP_STORED, start - before)[:-22]
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, members, members, len(small) - 22 - before, start, 0)
    return large[:-22] + moved + end


def renamed(data):
    """A .pt file whose large pickle is called as torch finds it, and as others do not."""
    return stored(data, zipfile.ZIP_STORED).replace(b"data.pkl", b"Data.PKL")


FOUR = b"J\x00\x00\x00\x40"
"""2³⁰ in a pickle, in the place of 12."""
PTS = {
    "a compressed archive": lambda _: stored(b"\x80\x02}."),
    "an expanded tensor": lambda torch: of(torch, {"directions": torch.ones(1).expand(10**12)}),
    "many views of one storage": lambda torch: of(
        torch, dict.fromkeys((f"layer_{number}" for number in range(500)), torch.ones(1 << 20, dtype=torch.float16))
    ),
    "a storage longer than its record": lambda torch: archive(
        torch, data_pkl=lambda data: data.replace(b"K\x0c", FOUR)
    ),
    "an old storage longer than the file": lambda torch: old(torch).replace(b"K\x0c", FOUR),
    "a large pickle": lambda _: stored(b"\x80\x02]" + b"]a" * 2_000_000 + b".", zipfile.ZIP_STORED),
    "a large pickle by another name": lambda _: renamed(b"\x80\x02]" + b"]a" * 2_000_000 + b"."),
    "two directories": lambda _: two_directories(b"\x80\x02]" + b"]a" * 2_000_000 + b"."),
    "lists of lists of lists": pickled(laughs(9)),
    "deep lists": pickled(b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b"."),
    "a list in itself": pickled(b"\x80\x02]q\x00h\x00a."),
    "an array of bytes by its length": pickled(b"\x80\x02cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R."),
    "a memo of 2**32": pickled(b"\x80\x02]r\xff\xff\xff\xff."),
    "a number by its length": pickled(b"\x80\x02\x8b\xff\xff\xff\x7f" + b"\xff" * 1000),
}
"""Name → makes the bytes of a .pt file that asks for far more than it holds."""


def header(*entries, data=b""):
    """A safetensors file of tensors, each as (name, dtype, shape, first byte, last byte)."""
    described = {
        name: {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
        for name, dtype, shape, start, end in entries
    }
    written = json.dumps(described).encode()
    return struct.pack("<Q", len(written)) + written + data


SAFETENSORS = {
    "header": lambda: struct.pack("<Q", HUGE) + b"{}",
    "header of the file's size": lambda: struct.pack("<Q", 1 << 25) + b" " * (1 << 25),
    "shape": lambda: header(("a", "F32", [HUGE], 0, 16), data=bytes(16)),
    "shape that wraps": lambda: header(("a", "F32", [2**32, 2**32], 0, 16), data=bytes(16)),
    "offsets": lambda: header(("a", "F32", [4], 0, HUGE), data=bytes(16)),
    "brackets": lambda: struct.pack("<Q", 100_000) + b"[" * 100_000,
    "stray layer": lambda: header(("layer_999", "F16", [8 << 20], 0, 16 << 20), data=b"\x3c" * (16 << 20)),
    "odd layer": lambda: header(("layer", "I16", [3], 0, 6), ("dir", "F32", [4], 6, 22), data=b"\1" * 22),
    "many tensors": lambda: header(*((f"t{number}", "F32", [0], 0, 0) for number in range(70_000))),
}
"""Name → makes the bytes of a safetensors file that claims more than it holds, or makes no sense."""
