"""What a person reads: the table in the terminal, `RESULTS.md`, `report.html`, and the files beside them."""

from capvec.report.files import summary_of, write_reports
from capvec.report.table import closing_lines

__all__ = ["closing_lines", "summary_of", "write_reports"]
