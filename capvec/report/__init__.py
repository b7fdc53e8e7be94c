"""From a run's `Results` to what a person reads: `RESULTS.md`, `report.html`, the terminal, and the files beside them.

Builders such as `robustness` make `Section` values, `document` puts them in order, and `markdown`, `html` and
`terminal` draw them.
"""

from capvec.report.files import write_reports
from capvec.report.terminal import closing_lines, judged_lines, sweep_lines

__all__ = ["closing_lines", "judged_lines", "sweep_lines", "write_reports"]
