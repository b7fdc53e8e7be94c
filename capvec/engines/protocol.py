"""The protocol between engines and clients: OpenAI's chat completions, and what capvec adds. Imports no torch.

* `POST /v1/chat/completions` and `POST /v1/completions`: OpenAI's fields, as `chat_requests` lists them; `thinking`,
  `on`, `off` (if absent) or `default`, for a chat template with such a switch; and `steering`, a list of `Steer`s.
  A message may have `reasoning_content`, the thought before its `content`, and so may the message of the choice. The
  choice has `thought_tags`, the model's `ThoughtTags`, where the content holds one; `steering_receipts`, one `Receipt`
  for each steer in the same order; `steering_isolation`, an `IsolationCheck`, in unsteered replies too; and
  `steering_of_cached`, the steers under which reused prompt tokens were computed. A chat's `continuation`, a text, is
  fed in place of a drawn reply, under the same steers; its `logprobs` are what it is asked for.
* `POST /v1/directions`: the bytes of a safetensors file with the tensor `directions`, floating point
  `[n_layers, d_model]`; answers a `DirectionInfo`. Steers name the direction by its hash.
* `POST /v1/configs`: `{"configs": [Config, …]}`, once; the directions of their steers are held. From then on
  `GET /v1/models` lists their names. A request whose `model` is one of them is steered as that config says, and is
  answered only where its receipts hold. A request with neither `model` nor `steering`, be it empty, is refused then.
* `POST /tokenize`, `POST /detokenize` and `GET /tokenizer_info`, as vLLM has them (`capvec.engines.tokenizing`).
* `POST /v1/capture`: `{"conversations": [[message, …], …], "pooling": …, "names": [text, …]}`; answers the fields of
  `Captured` as safetensors. `pooling` is one of `capvec.pooling.POOLINGS`, `last` if absent; `names`
  is optional and names the conversations in errors. `capvec.engines.prepared.prepare` defines the poolings.
* `GET /health`: an `EngineInfo` record; without a token, `{"status": "ok"}`.
* `GET /v1/state`: an `EngineState` record. An engine may do without; then a stalled one is not noticed, and all
  directions are sent again after an outage.

Every refusal is JSON, `{"error": {"message": …, "type": …, "code": …}}`: 400 for what makes no sense, 401, 404, 405,
408 for a request that does not arrive whole, 413 for one that is too large, and 503 with `Retry-After` from a busy
engine, which `capvec.engines.client` heeds. An object with the same key twice is refused, and so are NaN and Infinity.
`capvec.engines.serving` and `capvec.engines.connections` do this for any engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from capvec.records import Thinking
from capvec.serial import Record
from capvec.steering import BlockLayout

TOKEN_VARIABLE = "CAPVEC_ENGINE_TOKEN"
"""The environment variable that carries the bearer token, so that it shows in no process list."""

LOOPBACK = "127.0.0.1"
"""Where engines listen unless they are told otherwise."""

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


_SYSTEM = {
    "refused": "refuses a system prompt",
    "dropped": "drops the system prompt",
    "dropped-after-reply": "drops the system prompt of a conversation that ends in a reply, as captures do",
}


@dataclass(frozen=True)
class ChatTemplateInfo(Record):
    """What the model's chat template was found to do, by rendering small conversations when the model was loaded."""

    system: Literal["own", "refused", "dropped", "dropped-after-reply"] = "own"
    """What it does with a system message; the last value is of a conversation that ends in a reply. Where it has no
    place for the system text, that begins the first user message."""
    generation_prompt: Literal["own", "derived", "always"] = "own"
    """`derived`: it has none, and the text with which it begins the assistant's messages is used. `always`: it writes
    one after a reply too, where it is cut off."""
    alternates: bool = False
    """Whether it refuses two user messages in a row."""
    user_first: bool = False
    """Whether it refuses a conversation that the assistant begins."""
    blank: str = ""
    """What is sent for an empty message, where it refuses one."""
    switch: str = ""
    """The variable that switches thinking; empty if there is none."""
    thinks: bool = False
    """Whether the model thinks before it answers where the switch is not used, as far as the template tells."""
    repeats_thoughts: bool = False
    """Whether it gives the thoughts of earlier replies back to the model."""
    unknown_thoughts: bool = False
    """Whether it switches thinking and shows no tags around a thought, so that a thought could not be told from an
    answer."""
    drops: tuple[str, ...] = ()
    """Texts that it drops from what a user or the system says, since it takes them for orders of its own."""
    rewritten: tuple[str, ...] = ()
    """Words of a sample that the tokenizer changes; all of ASCII stays as it is."""
    unmarked: str = ""
    """Why the assistant's tokens cannot be told from the others; empty if they can."""

    def adaptations(self) -> tuple[str, ...]:
        """What is done because of the template; a sentence each."""
        said = []
        if self.system != "own":
            said.append(f"The model's chat template {_SYSTEM[self.system]}: it begins the first user message.")
        if self.generation_prompt == "derived":
            said.append(
                "The model's chat template has no generation prompt: the beginning of its assistant messages is used."
            )
        if self.generation_prompt == "always":
            said.append(
                "The model's chat template always ends in a generation prompt: it is cut off where a reply is the end."
            )
        if self.drops:
            texts = ", ".join(map(repr, self.drops))
            said.append(f"The model's chat template takes {texts} in messages for orders: the model does not see them.")
        if self.rewritten:
            words = " ".join(self.rewritten)
            said.append(f"The model's tokenizer has other characters in the place of some, such as those of {words}.")
        if self.blank:
            said.append(f"The model's chat template refuses empty messages: {self.blank!r} stands for an empty reply.")
        return tuple(said)

    def in_words(self, thinking: Thinking | None) -> tuple[str, ...]:
        """What is done because of the template, and how the model thinks; one sentence or two each.

        Args:
            thinking: of the run; None where the template has no switch.
        """
        thinks = (self._thinking_in_words(thinking),) if self.switch or self.thinks else ()
        return (*self.adaptations(), *thinks)

    def _thinking_in_words(self, thinking: Thinking | None) -> str:
        default = "the chat template's default"
        if thinking == "off" or (thinking == "default" and not self.thinks):
            return f"Thinking is off ({self.switch if thinking == 'off' else default})."
        how = self.switch if thinking == "on" else default
        back = "gives thoughts back to the model" if self.repeats_thoughts else "does not give them back to the model"
        return f"Thinking is on ({how}). Thoughts are in the trajectories and are no commands; the template {back}."


Weights = tuple[str, str | None, str]
"""Name, revision and dtype of a model."""


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
    template: ChatTemplateInfo = ChatTemplateInfo()
    context_limit: str = ""
    """Why the context is shorter than the config's or than asked for, in one sentence; empty if it is not."""
    backend: str = "transformers"
    """What computes: `transformers`, or `vllm` and its version."""
    backend_args: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the backend that the user gave (`--engine-arg`)."""

    def in_words(self, thinking: Thinking | None) -> tuple[str, ...]:
        """What a user should know of the model when a run starts; the argument is that of the template's method."""
        limit = (self.context_limit,) if self.context_limit else ()
        return (*limit, *self.template.in_words(thinking))

    @property
    def weights(self) -> Weights:
        """What must not change while a run lasts."""
        return self.model, self.revision, self.dtype

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


@dataclass(frozen=True)
class EngineState(Record):
    """What an engine holds and does at one moment."""

    directions: tuple[str, ...]
    """Hashes of those that it holds."""
    requests: int
    """Chats and captures that were begun and not answered."""
    steps: int
    """Steps of the batch so far. Where they stand still and there are requests, the engine is stalled."""


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
