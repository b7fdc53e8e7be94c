"""Engines: processes that hold a model, steer it, capture its residuals and answer over HTTP.

`protocol` holds what engine and client send each other, `client` asks an engine, and `process` starts one. A folder
holds each engine: `transformers` serves any causal or image-text model of Hugging Face's transformers. Nothing outside
an engine's folder imports from it to talk to the engine or to check it: `capvec.receipts` judges every reply.

To add an engine, such as `capvec/engines/vllm/`, write

* `__main__.py`, a program that `process.start_engine` can start: it takes `--model`, `--label`, `--context-length`,
  `--defaults` and `--port`, reads its token from `CAPVEC_ENGINE_TOKEN`, prints one line of JSON (`{"url": …}`, or
  `{"error": …}` where the model cannot be loaded), listens on loopback, and ends when its standard input does;
* the endpoints that `protocol` lists; `requests` checks their bodies and words their errors;
* hooks that steer each row of a batch by itself and measure what arrived, as `capvec.steering.Receipt` and
  `IsolationCheck` define it. `transformers.hooks` needs only PyTorch modules, so an engine whose decoder blocks are
  such modules can use it.

Then let a test class inherit from `tests/support/engine_conformance.EngineConformance`, with a fixture that starts the
engine on a small model, as `tests/integration/test_engine_server.py` does. An engine that passes can serve every study.
A server that is running already needs no folder: `--base-url` takes any that speaks the protocol.
"""
