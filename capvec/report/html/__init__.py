"""`report.html`: the write-up as one file with charts and trajectories, and the charts as SVG files beside it."""

from capvec.report.html.page import write_html

__all__ = ["write_html"]
