"""Reading what a GPU has measured while it computes the next step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Reading:
    """On a GPU, a stream of its own for reading.

    Steps are queued on the device ahead of time. Copies on the same stream would wait for all that is queued.
    """

    def __init__(self, device: torch.device) -> None:
        on_gpu = device.type == "cuda"
        self._stream = torch.cuda.Stream(device, priority=-1) if on_gpu else None  # type: ignore[no-untyped-call]
        self._before = torch.cuda.Event() if on_gpu else None  # type: ignore[no-untyped-call]

    def mark(self) -> None:
        """Note that all that is queued now belongs to steps before the next one."""
        if self._before is not None:
            self._before.record()

    @contextmanager
    def of(self, *, under_way: bool) -> Iterator[None]:
        """In its context, work for the device waits for the steps before the last mark, and for the one after it if
        that is `under_way`.
        """
        if self._stream is None or self._before is None:
            yield
            return
        if under_way:
            self._stream.wait_stream(torch.cuda.current_stream())
        else:
            self._stream.wait_event(self._before)
        with torch.cuda.stream(self._stream):
            yield
