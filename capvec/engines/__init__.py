"""Engines: processes that hold a model, steer it, capture its residuals and serve it over HTTP.

`protocol` defines the messages, `client` sends requests, `selection` chooses an engine and `process` starts it. Each
engine has a folder: `transformers` serves any causal or image-text model of Hugging Face's transformers, and is the
reference; `vllm` serves many rows at once on GPUs. No client imports from an engine's folder, and `capvec.receipts`,
which checks every reply, imports no engine.

To add an engine, write

* `__main__.py`, a program that `process.start_engine` can start; `startup` has what it needs;
* a subclass of `endpoints.Endpoints`, which answers all that `protocol` lists;
* hooks that steer each row of a batch separately and measure what arrived, as `capvec.steering.Receipt` and
  `IsolationCheck` define it. `transformers.hooks` needs only PyTorch modules, so an engine whose decoder blocks are
  such modules can use it.

Then write a test class in `tests/integration/test_engine_conformance.py` that inherits from
`tests/support/engine_conformance.EngineConformance`. An engine that passes can serve every study.
A running server needs no folder: `--base-url` takes any that implements the protocol.
"""
