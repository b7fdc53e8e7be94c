"""Traces on disk: those of capvec and of other agents are read, and capvec's are written as ATIF.

`found.py` collects what a folder holds, and `read.py` turns it into traces. A module for each format reads its
documents; `formats.py` lists them. `messages.py` reads messages of the common APIs, `fields.py` lists the names of
fields, `counts.py` counts replies that did not parse, and `harbor.py` and `swe_bench.py` know the files beside a run.
"""

from __future__ import annotations

from capvec.traces.read import check_traces, read_traces
from capvec.traces.write import write_trajectory

__all__ = ["check_traces", "read_traces", "write_trajectory"]
