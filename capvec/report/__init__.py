"""What a person reads: the table in the terminal, `RESULTS.md`, `report.html`, and the files beside them."""

from capvec.report.files import write_reports
from capvec.report.terminal import closing_lines, sweep_lines

__all__ = ["closing_lines", "sweep_lines", "write_reports"]
