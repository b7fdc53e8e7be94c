"""vLLM as an engine: every row steered differently, CUDA graphs and prefix caching on, and the same receipts.

`plugin` runs inside vLLM's worker processes, steers there and measures; `measured` turns what all ranks measured into
receipts.
"""
