"""Counts of solved trials and of all, as they are typed: `baseline=2/6 steered=2/6,1/6`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from capvec.errors import UsageError

_COUNTS = re.compile(r"[^=]+=(\d+/\d+(?:,\d+/\d+)*)")
_MEANT = re.compile(r"[^=]+=([-+.]*\d[-+.\d]*/[-+.\d,/ ]*)")
"""Counts that may be badly written, or a path of digits."""
_PAIR = re.compile(r"(\d{1,4000})/(\d{1,4000})", re.ASCII)
MOST = 10_000_000
"""Trials of a config. Beyond, the probabilities of tables are not computed to the digits that Fisher's test needs."""


def is_counts(text: str) -> bool:
    """Whether a text is meant as the counts of a config, be they well written or not."""
    meant = _MEANT.fullmatch(text)
    return _COUNTS.fullmatch(text) is not None or (meant is not None and not Path(meant[1]).exists())


def parse_counts(texts: Sequence[str]) -> Mapping[str, tuple[int, int]]:
    """`["baseline=2/6", "steered=2/6,1/6"]` → each config's solved trials and all; several of one name are numbered.

    Raises:
        UsageError: one is no counts, a name is there twice, more trials are solved than there are, or there is none.
    """
    if other := [text for text in texts if not is_counts(text)]:
        raise UsageError(
            f"{other[0]}: given together with counts; expected counts alone, as in baseline=2/6 steered=1/6, or only "
            "files with a row for each trial"
        )
    counts: dict[str, tuple[int, int]] = {}
    for text in texts:
        name, _, written = text.partition("=")
        pairs = written.split(",")
        for number, pair in enumerate(pairs, 1):
            config = name if len(pairs) == 1 else f"{name}{number}"
            if config in counts:
                raise UsageError(f"{text}: {config} is there twice; expected each config once")
            counts[config] = _pair(text, pair)
    if len(counts) < 2:
        raise UsageError(f"{texts[0]}: one config; expected the baseline's counts and those of at least one other")
    return counts


def _pair(text: str, written: str) -> tuple[int, int]:
    match = _PAIR.fullmatch(written.strip())
    if match is None:
        raise UsageError(f"{text}: {written.strip()!r} is no count; expected SOLVED/TRIALS in whole numbers, as in 2/6")
    solved, n = map(int, match.groups())
    if solved > n or n == 0:
        raise UsageError(f"{text}: {solved} of {n} trials; expected SOLVED/TRIALS, as in 2/6")
    if n > MOST:
        raise UsageError(f"{text}: more than {MOST:,} trials; expected counts of so many at most")
    return solved, n
