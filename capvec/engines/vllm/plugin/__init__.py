"""Capvec's plugin for vLLM: in the worker processes, it steers each request differently and measures what arrived.

vLLM finds `worker.register` through the entry point group `vllm.general_plugins` and calls it in every process. An
engine is steered only if its configuration asks for it:

    --additional-config '{"capvec": {"layers": [8, 13]}}'

with `layers` a list of decoder blocks, or `"all"`; `max_steers`, the most steers of a request at one layer (4); and
`directions`, how many the worker holds. `runner` installs the hooks, `slots` keeps the requests' tables, `ops` steers
and measures inside the graph, `stages` hands on what the next stage of a pipeline measures against, and `worker`
answers what the server asks by `collective_rpc`.
"""
