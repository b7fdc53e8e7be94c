"""Results that other harnesses wrote: what they say of each trial, whichever tool they are from.

`read_source` reads a file or a folder into a `Source`; `capvec.results.judge_sources` makes a verdict of several.
"""

from capvec.harnesses.read import read_source
from capvec.harnesses.source import Reading, Source, Trial, check_sources
from capvec.harnesses.table import COLUMNS, parse_columns, source_of_frame

__all__ = [
    "COLUMNS",
    "Reading",
    "Source",
    "Trial",
    "check_sources",
    "parse_columns",
    "read_source",
    "source_of_frame",
]
