"""`report.html` and the charts as SVG, through templates that escape every value."""
