"""Runs that a folder holds twice: copies of one file count once, since the tests take every trace for a run of its own.

The folder of a merged run, for one, holds copies of the trajectories of the runs beside it.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path

from capvec.reading import read_bytes
from capvec.records import Trace
from capvec.traces.document import Archive, Document
from capvec.traces.files import LARGEST_FILE


class Copies:
    """Knows the runs that have been read."""

    def __init__(self) -> None:
        self._first: dict[tuple[object, ...], Path] = {}
        self._read: Counter[tuple[object, ...]] = Counter()

    def has(self, trace: Trace, document: Document) -> bool:
        """Whether another file has this run, with the same content and reward; it is noted if not.

        Lines of one file may well be alike: whoever wrote them counted them.

        Args:
            trace: the next one of `document`.
            document: that it was read from. Its whole content is compared: times and session ids tell two runs of one
                task apart that went the same way.
        """
        content = (_digest(document), trace.task, trace.reward)
        self._read[document.path, content] += 1
        first = self._first.setdefault((content, self._read[document.path, content]), document.path)
        return first != document.path


def _digest(document: Document) -> bytes:
    if isinstance(document.value, Archive):
        return hashlib.sha256(read_bytes(document.path, LARGEST_FILE)).digest()
    return hashlib.sha256(json.dumps(document.value, sort_keys=True).encode()).digest()
