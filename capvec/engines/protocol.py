"""What the engine and its clients say to each other, beside OpenAI's chat completions. Imports no torch.

* `POST /v1/chat/completions`: OpenAI's fields, and `steering`, a list of `Steer` records. The choice comes with
  `steering_receipts`, one `Receipt` for each steer, in the order asked, and, steered or not, `steering_isolation`, an
  `IsolationCheck`.
* `POST /v1/directions`: the bytes of a safetensors file with the tensor `directions`, floating point
  `[n_layers, d_model]`; answers a `DirectionInfo`. Steers name the direction by its hash.
* `POST /v1/capture`: `{"conversations": [[message, …], …], "pooling": …, "names": [text, …]}`; answers the fields of
  `Captured` as safetensors. `pooling` is one of `capvec.pooling.POOLINGS`, `last` if absent; `names`
  is optional and says what errors call the conversations. How each pooling is meant:
  `capvec.engines.transformers.capture.prepare`.
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


@dataclass(frozen=True)
class GenerationDefaults(Record):
    """How a model is used where the user does not say: it acts worse if it is asked otherwise than it was trained."""

    prompt_style: str = "zero-shot"
    """`few-shot` for a model too small to follow instructions alone, `brief` for one that was trained to act."""
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
    """What reports and traces call it."""
    context_length: int | None = None
    """Where the model's config is not to be believed."""
    defaults: GenerationDefaults = GenerationDefaults()
    """What its engine tells clients, those that did not start it among them."""


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
    """Tokens that prompt and reply may have together."""
    dtype: str
    device: str
    engine: str
    """Version of capvec that serves."""
    blocks: str = ""
    """Dotted path of the decoder blocks in a model of that architecture, such as `model.layers`."""
    defaults: GenerationDefaults = GenerationDefaults()
    model_type: str = ""
    """The architecture's name in Hugging Face's configs, such as `llama`; empty where the engine does not say."""

    @property
    def layout(self) -> BlockLayout:
        """The decoder blocks, as receipts name them."""
        return BlockLayout(self.blocks, self.n_layers)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """As for every record; also reads the key `habits`, which `defaults` was called before."""
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
    """int64 `[n]`: tokens of each rendered conversation, before anything was cut."""
    truncated: NDArray[np.int64]
    """int64 `[n]`: how many were cut from its left to fit the model's context."""
    truncated_assistant: NDArray[np.int64]
    """int64 `[n]`: how many of those the assistant said; 0 for a pooling that does not ask."""
