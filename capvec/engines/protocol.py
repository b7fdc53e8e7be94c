"""The protocol between engines and clients: OpenAI's chat completions, and what capvec adds. Imports no torch.

* `POST /v1/chat/completions`: OpenAI's fields, and `steering`, a list of `Steer` records. The choice has
  `steering_receipts`, one `Receipt` for each steer in the same order; `steering_isolation`, an `IsolationCheck`, in
  unsteered replies too; and `steering_of_cached`, the steers under which reused prompt tokens were computed.
* `POST /v1/directions`: the bytes of a safetensors file with the tensor `directions`, floating point
  `[n_layers, d_model]`; answers a `DirectionInfo`. Steers name the direction by its hash.
* `POST /v1/capture`: `{"conversations": [[message, …], …], "pooling": …, "names": [text, …]}`; answers the fields of
  `Captured` as safetensors. `pooling` is one of `capvec.pooling.POOLINGS`, `last` if absent; `names`
  is optional and names the conversations in errors. `capvec.engines.transformers.capture.prepare` defines the
  poolings.
* `GET /health`: an `EngineInfo` record.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from capvec.serial import Record
from capvec.steering import BlockLayout

TOKEN_VARIABLE = "CAPVEC_ENGINE_TOKEN"
"""The environment variable that carries the bearer token, so that it shows in no process list."""

SERVER_IDLE_S, CLIENT_IDLE_S = 120.0, 2.0
"""Seconds after which each end closes an idle connection. The client's are fewer than any usual server's, so that no
request is sent into a connection that the server is just closing."""


@dataclass(frozen=True)
class GenerationDefaults(Record):
    """How clients use a model unless the user chooses otherwise: in the way that it was trained."""

    prompt_style: str = "zero-shot"
    """`zero-shot`; `few-shot` for a model too small to follow instructions; `brief` for one trained as an agent."""
    max_steps: int = 30
    """Replies per trial."""
    max_tokens: int = 512
    """Tokens per reply."""


@dataclass(frozen=True)
class ModelSource(Record):
    """A model to serve."""

    path_or_id: str
    """A folder or a Hugging Face id."""
    name: str
    """Its name in reports and traces."""
    context_length: int | None = None
    """Overrides the model's config."""
    defaults: GenerationDefaults = GenerationDefaults()
    """Passed by the engine to all clients, those that did not start it included."""


@dataclass(frozen=True)
class EngineInfo(Record):
    """The engine and its model."""

    model: str
    revision: str | None
    """The hub's commit, where the model came from the hub; a digest of a folder's files."""
    architecture: str
    n_layers: int
    d_model: int
    context_length: int
    """Most tokens of prompt and reply together."""
    dtype: str
    device: str
    engine: str
    """Its version of capvec."""
    blocks: str = ""
    """Dotted path of the decoder blocks in a model of that architecture, such as `model.layers`."""
    defaults: GenerationDefaults = GenerationDefaults()
    model_type: str = ""
    """The architecture's name in Hugging Face's configs, such as `llama`; empty if unknown."""

    @property
    def layout(self) -> BlockLayout:
        """The decoder blocks, as receipts name them."""
        return BlockLayout(self.blocks, self.n_layers)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """As for every record; also reads `defaults` under its earlier name, `habits`."""
        return super().from_json({{"habits": "defaults"}.get(key, key): value for key, value in data.items()})


@dataclass(frozen=True)
class DirectionInfo(Record):
    """A direction that the engine holds."""

    hash: str
    n_layers: int
    d_model: int
    norms: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Captured:
    """Residuals of conversations, in the order they were sent."""

    residuals: NDArray[np.float32]
    """float32 `[n, n_layers, d_model]`."""
    tokens: NDArray[np.int64]
    """Tokens of each rendered conversation before truncation, int64 `[n]`."""
    truncated: NDArray[np.int64]
    """Tokens cut from its left to fit the model's context, int64 `[n]`."""
    truncated_assistant: NDArray[np.int64]
    """How many of these are the assistant's, int64 `[n]`; 0 for a pooling that does not use the assistant's tokens."""
