"""Traces on disk: those of capvec and of other agents are read, and capvec's are written as ATIF.

`files.py` finds the documents and `read.py` their formats. A module for each format turns a document into traces; it
has a `Format`, which `read.py` lists. `messages.py` reads messages of the common APIs, `fields.py` lists the
names of fields, `counts.py` counts replies that did not parse, and `harbor.py` knows the files beside a trajectory.
"""

from __future__ import annotations

from capvec.traces.read import check_traces, read_traces
from capvec.traces.write import write_trajectory

__all__ = ["check_traces", "read_traces", "write_trajectory"]
