"""Captured residuals of traces: the user's cache of them, and the files that `capvec capture` writes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from capvec.engines.protocol import EngineInfo
from capvec.errors import StorageFault, UsageError
from capvec.parsing import parse_json
from capvec.reading import check_regular
from capvec.records import Message, Trace
from capvec.storage import make_folder, write_bytes

_CACHE_VERSION = 3
"""Increased when a conversation is captured differently; 3 introduced batches and poolings."""
_LARGEST = 1 << 42
"""Bytes of the largest file of activations: 4 TiB, which is mapped and not read whole."""
_FORMAT = "capvec-activations-v1"
_ARRAYS = ("residuals", "tokens", "truncated_tokens", "truncated_assistant")


@dataclass(frozen=True, eq=False)
class Activations:
    """Residuals of traces."""

    residuals: NDArray[np.float32]
    """float32 `[n, n_layers, d_model]`."""
    pooling: str
    """The token that they were taken at, or the tokens that they are averaged over: one of `POOLINGS`."""
    tokens: tuple[int, ...]
    """Length of each rendered trace in tokens, before truncation."""
    truncated_tokens: tuple[int, ...]
    """Tokens cut from the left of each trace to fit the model's context."""
    truncated_assistant: tuple[int, ...] = ()
    """How many of these are the assistant's; all 0 for a pooling that does not use the assistant's tokens."""

    def __post_init__(self) -> None:
        if not self.truncated_assistant:
            object.__setattr__(self, "truncated_assistant", (0,) * len(self.tokens))

    def rows(self, indices: Sequence[int]) -> Self:
        """Select traces by their index."""
        return type(self)(
            self.residuals[list(indices)],
            self.pooling,
            tuple(self.tokens[index] for index in indices),
            tuple(self.truncated_tokens[index] for index in indices),
            tuple(self.truncated_assistant[index] for index in indices),
        )

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """The arrays of a safetensors file; the pooling belongs in its metadata."""
        counts = (np.array(getattr(self, name), dtype=np.int64) for name in _ARRAYS[1:])
        return {"residuals": np.ascontiguousarray(self.residuals), **dict(zip(_ARRAYS[1:], counts, strict=True))}

    @classmethod
    def of_arrays(cls, arrays: dict[str, NDArray[np.generic]], pooling: str) -> Self:
        """Read what `arrays` returned.

        Raises:
            KeyError: an array is missing.
            ValueError: the arrays have different numbers of traces.
        """
        residuals = np.asarray(arrays["residuals"], dtype=np.float32)
        counts = [tuple(int(count) for count in arrays[name]) for name in _ARRAYS[1:]]
        if residuals.ndim != 3 or any(len(count) != len(residuals) for count in counts):
            raise ValueError(f"residuals of shape {list(residuals.shape)} with counts of {[len(c) for c in counts]}")
        return cls(residuals, pooling, *counts)


def cut_in_words(names: Sequence[str], activations: Activations, most: int = 5) -> list[str]:
    """Describe what was cut from traces that are longer than the model's context.

    Args:
        names: of the traces, in the order of `activations`.
        activations: has the counts.
        most: number of traces to name, those that lost most first.

    Returns:
        Lines of text; none if nothing was cut.
    """
    lost = [index for index, count in enumerate(activations.truncated_tokens) if count]
    if not lost:
        return []
    total = sum(activations.truncated_tokens)
    spoken = sum(activations.truncated_assistant)
    of_assistant = f"; {spoken} of them are the assistant's, and the pooling leaves them out" if spoken else ""
    lines = [
        f"{len(lost)} of {len(names)} traces are longer than the model's context: {total} tokens were cut from their "
        f"start{of_assistant}."
    ]
    lost.sort(key=lambda index: -activations.truncated_tokens[index])
    for index in lost[:most]:
        mine = activations.truncated_assistant[index]
        lines.append(
            f"{names[index]} lost {activations.truncated_tokens[index]} of {activations.tokens[index]} tokens"
            + (f" ({mine} of the assistant's)" if mine else "")
        )
    if (more := len(lost) - most) > 0:
        lines.append(f"and {more} more")
    return lines


# ------------------------------------------------------------------------------------------------ the cache


def cached_activations(
    conversations: Sequence[Sequence[Message]], identity: str, capture: Callable[[], Activations], cache: Path | None
) -> Activations:
    """Read residuals from the cache, or capture and cache them.

    Args:
        conversations: to capture, in order; with `identity`, the key of the cache.
        identity: everything about the engine that changes residuals, and the pooling.
        capture: captures the conversations.
        cache: folder of captured residuals, created when needed; None keeps none.
    """
    if cache is None:
        return capture()
    messages = [[dict(message) for message in conversation] for conversation in conversations]
    key = hashlib.sha256(json.dumps([_CACHE_VERSION, identity, messages]).encode()).hexdigest()[:32]
    path = cache / f"{key}.safetensors"
    if (kept := _cached(path)) is not None:
        return kept
    activations = capture()
    with suppress(StorageFault):  # without a cache they are captured again
        make_folder(cache)
        write_bytes(path, safetensors.numpy.save(activations.arrays(), {"pooling": activations.pooling}))
    return activations


def _cached(path: Path) -> Activations | None:
    """The cached residuals; None if there is no file, or if it is damaged."""
    try:
        arrays, about = _read(path)
        return Activations.of_arrays(arrays, about["pooling"])
    except (FileNotFoundError, safetensors.SafetensorError, KeyError, TypeError, ValueError):
        return None


# ------------------------------------------------------------------------------------------------ files


@dataclass(frozen=True, eq=False)
class ActivationFile:
    """The file that `capvec capture` writes: traces, their residuals, and the engine that captured them.

    A safetensors file with `residuals` float32 `[n, n_layers, d_model]` (layer L is the output of decoder block L,
    counted from 0), `tokens`, `truncated_tokens` and `truncated_assistant` int64 `[n]`, and `traces`, uint8: one trace
    on each line, as JSON, in the same order. Its metadata hold `format`, `pooling`, and `engine`, an `EngineInfo` as
    JSON.
    """

    traces: tuple[Trace, ...]
    activations: Activations
    engine: EngineInfo

    def save(self, path: Path) -> None:
        """Write the file; if writing fails, no partial file is left."""
        lines = "\n".join(json.dumps(trace.to_json()) for trace in self.traces).encode()
        arrays = {**self.activations.arrays(), "traces": np.frombuffer(lines, dtype=np.uint8)}
        about = {
            "format": _FORMAT,
            "pooling": self.activations.pooling,
            "engine": json.dumps(self.engine.to_json()),
        }
        make_folder(path.parent)
        write_bytes(path, safetensors.numpy.save(arrays, about))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            UsageError: the file is missing or does not hold activations.
        """
        check_regular(path, _LARGEST)
        try:
            arrays, about = _read(path)
            if about.get("format") != _FORMAT:
                raise ValueError(f"its format is {about.get('format')!r}")
            lines = arrays["traces"].tobytes().decode().splitlines()
            traces = tuple(Trace.from_json(parse_json(line)) for line in lines)
            activations = Activations.of_arrays(arrays, about["pooling"])
            engine = EngineInfo.from_json(parse_json(about["engine"]))
        except (OSError, safetensors.SafetensorError, KeyError, TypeError, ValueError, UsageError) as error:
            raise UsageError(f"{path}: {error}; expected a file of activations that `capvec capture` wrote") from error
        if len(traces) != len(activations.tokens):
            raise UsageError(f"{path}: {len(traces)} traces and {len(activations.tokens)} residuals; capture again")
        return cls(traces, activations, engine)

    def of(self, traces: Sequence[Trace]) -> Activations:
        """Select the residuals of some of the file's traces, in the order given."""
        where = {trace.id: index for index, trace in enumerate(self.traces)}
        return self.activations.rows([where[trace.id] for trace in traces])


def _read(path: Path) -> tuple[dict[str, NDArray[np.generic]], dict[str, str]]:
    """The arrays and the metadata of a safetensors file."""
    with safetensors.safe_open(path, framework="numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
