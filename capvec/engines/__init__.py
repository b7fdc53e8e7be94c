"""Engines: processes that hold a model, steer it, capture its residuals and serve it over HTTP.

`protocol` defines the messages, `client` sends requests, and `process` starts an engine. Each engine has a folder:
`transformers` serves any causal or image-text model of Hugging Face's transformers. No client imports from an engine's
folder, and `capvec.receipts`, which checks every reply, imports no engine.

To add an engine, such as `capvec/engines/vllm/`, write

* `__main__.py`, a program that `process.start_engine` can start: it takes `--model`, `--label`, `--context-length`,
  `--defaults` and `--port`, reads its token from `CAPVEC_ENGINE_TOKEN`, prints one line of JSON (`{"url": …}`, or
  `{"error": …}` where the model cannot be loaded), listens on loopback, and ends when its standard input does;
* the endpoints that `protocol` lists; `requests` checks their bodies and makes their error responses;
* hooks that steer each row of a batch separately and measure what arrived, as `capvec.steering.Receipt` and
  `IsolationCheck` define it. `transformers.hooks` needs only PyTorch modules, so an engine whose decoder blocks are
  such modules can use it.

Then write a test class that inherits from `tests/support/engine_conformance.EngineConformance`. Its fixture starts the
engine on a small model, as in `tests/integration/test_engine_server.py`. An engine that passes can serve every study.
A running server needs no folder: `--base-url` takes any that implements the protocol.
"""
