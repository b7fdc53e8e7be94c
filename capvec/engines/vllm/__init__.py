"""vLLM as an engine: every row steered differently, CUDA graphs and prefix caching on, and the same receipts.

`plugin` runs inside vLLM's worker processes, steers there and measures; `ranks` puts together what all of them
measured, and `measured` turns it into receipts.
"""
