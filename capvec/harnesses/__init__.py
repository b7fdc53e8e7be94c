"""Results that other harnesses wrote: what they say of each trial, whichever tool they are from.

`read_source` reads a file or a folder into a `Source`; `capvec.results.judge` makes a verdict of several.
"""

from capvec.harnesses.read import read_source
from capvec.harnesses.served import Served, read_served
from capvec.harnesses.source import Reading, Source, Trial
from capvec.harnesses.table import COLUMNS, parse_columns, source_of_frame

__all__ = [
    "COLUMNS",
    "Reading",
    "Served",
    "Source",
    "Trial",
    "parse_columns",
    "read_served",
    "read_source",
    "source_of_frame",
]
