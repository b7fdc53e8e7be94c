"""Traces on disk: read from capvec's own files and from others', and written as ATIF.

`read.py` finds the documents; `atif.py` and `chats.py` make a trace of one; `fields.py` is the table of names,
`counts.py` counts the replies that did not parse, where it can; `harbor.py` knows what lies beside a trajectory.
"""

from __future__ import annotations

from capvec.traces.read import check_traces, read_traces
from capvec.traces.write import write_trajectory

__all__ = ["check_traces", "read_traces", "write_trajectory"]
