"""Checks of the bodies of chats and of completions, for every engine.

What changes what is drawn is honoured, or refused by its name; what does not, such as `user`, is ignored. A field that
is null counts as absent.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast, get_args

from capvec.engines.chat_messages import ChatMessage, chat_messages
from capvec.engines.checks import RequestError, encodable, given, invalid, json_object, number, shown, whole
from capvec.engines.generation import MOST_ALPHA, REPETITION_PENALTIES, TEMPERATURES, Shaping
from capvec.engines.tools import Tools
from capvec.errors import UsageError
from capvec.records import Thinking
from capvec.steering import Steer

_IGNORED = (
    "metadata prediction prompt_cache_key prompt_cache_retention safety_identifier service_tier store user".split()
)
"""Fields that do not change what is drawn."""
_COMMON = (
    "frequency_penalty logit_bias logprobs max_tokens min_p model n presence_penalty repetition_penalty seed steering "
    "stop stream stream_options structured_outputs temperature top_k top_p".split()
)
_OF_CHATS = (
    "chat_template_kwargs continuation max_completion_tokens messages modalities parallel_tool_calls response_format "
    "thinking tool_choice tools top_logprobs".split()
)
_CHAT = frozenset((*_COMMON, *_IGNORED, *_OF_CHATS))
_TEXT = frozenset((*_COMMON, *_IGNORED, "best_of", "echo", "prompt", "suffix"))
MAX_STOPS, MAX_STEERS = 64, 1024
"""Most entries of `stop` and of `steering`: each step looks for every one of them."""
MAX_CHOICES, MAX_LOGPROBS, MAX_BIASES, MAX_GRAMMAR = 128, 20, 1024, 8192


@dataclass(frozen=True)
class Wanted:
    """What chats and completions have in common."""

    model: str | None
    """The name of a published config; None from a client that gives the steers itself."""
    max_tokens: int | None
    """None for as many as the context has room for."""
    seed: int | None
    """None for one that the engine draws."""
    temperature: float
    stop: tuple[str, ...]
    steers: tuple[Steer, ...]
    own: bool
    """Whether the client gives the steers itself, be it none: `steering` is there."""
    shaping: Shaping
    n: int
    """Replies to each prompt."""
    logprobs: int | None
    """How many likely tokens are told for each token; None for no probabilities at all."""
    stream: bool
    usage: bool
    """Whether a stream ends with the usage."""
    grammar: str
    """A regular expression that the reply must match; empty where it may be any."""


@dataclass(frozen=True)
class ChatRequest(Wanted):
    """A body of `POST /v1/chat/completions`."""

    messages: tuple[ChatMessage, ...]
    thinking: Thinking | None
    variables: Mapping[str, bool]
    """Of the chat template, as vLLM's clients switch thinking (`chat_template_kwargs`)."""
    tools: Tools
    continuation: str
    """A reply whose log-probabilities are asked for; empty where one is drawn."""


@dataclass(frozen=True)
class TextRequest(Wanted):
    """A body of `POST /v1/completions`."""

    prompts: tuple[str | tuple[int, ...], ...]
    """Each a text, or its tokens."""
    echo: bool
    """Whether an answer begins with its prompt, whose tokens have log-probabilities too where these are asked for."""


def parse_chat(raw: bytes, n_layers: int) -> ChatRequest:
    """Check the body of a chat completion for a model of `n_layers`.

    Raises:
        RequestError: not JSON, an unknown field, or a value of the wrong type or range.
    """
    body = json_object(raw, _CHAT)
    _only(body, "response_format", {"type": "text"})
    _only(body, "modalities", ["text"])
    wanted = given(body, "max_completion_tokens", body.get("max_tokens"))
    most = _most_logprobs(body, "top_logprobs", given(body, "top_logprobs", 0))
    told = _flag(body, "logprobs")
    if most and not told:
        raise invalid("top_logprobs: it needs logprobs to be true")
    return ChatRequest(
        **_common(body, n_layers, wanted),
        logprobs=most if told else None,
        messages=chat_messages(body.get("messages")),
        thinking=_thinking(body.get("thinking")),
        variables=_variables(body),
        tools=_tools(body),
        continuation=_continuation(body),
    )


def parse_text(raw: bytes, n_layers: int) -> TextRequest:
    """Check the body of a completion for a model of `n_layers`.

    Raises:
        RequestError: not JSON, an unknown field, or a value of the wrong type or range.
    """
    body = json_object(raw, _TEXT)
    echo = _flag(body, "echo")
    _only(body, "suffix", "")
    common = _common(body, n_layers, given(body, "max_tokens", 16), least=0 if echo else 1)
    _only(body, "best_of", common["n"])
    told = body.get("logprobs")
    if echo and common["stream"] and told is not None:
        raise RequestError("echo: with logprobs the answer comes whole; leave stream out", "unsupported_value")
    return TextRequest(
        **common,
        echo=echo,
        logprobs=None if told is None else _most_logprobs(body, "logprobs", told),
        prompts=_prompts(body.get("prompt")),
    )


def _common(body: Mapping[str, Any], n_layers: int, max_tokens: Any, least: int = 1) -> dict[str, Any]:
    model, steers = body.get("model"), _steers(given(body, "steering", []), n_layers)
    if model is not None and not isinstance(model, str):
        raise invalid(f"model: {shown(model)}; expected the name of a model")
    if model is not None and steers:
        raise invalid(f"model and steering: {shown(model)} names steers, and others are given; give one of the two")
    options = given(body, "stream_options", {})
    if not isinstance(options, dict):
        raise invalid(f"stream_options: {shown(options)}; expected an object")
    n = whole(given(body, "n", 1), "n", least=1)
    if n > MAX_CHOICES:
        raise invalid(f"n: {n}; expected at most {MAX_CHOICES}")
    return {
        "model": model,
        "max_tokens": None if max_tokens is None else whole(max_tokens, "max_tokens", least),
        "seed": None if body.get("seed") is None else whole(body["seed"], "seed"),
        "temperature": _temperature(given(body, "temperature", 1.0)),
        "stop": _stop(given(body, "stop", [])),
        "steers": steers,
        "own": body.get("steering") is not None,
        "shaping": _shaping(body),
        "n": n,
        "stream": _flag(body, "stream"),
        "usage": _flag(options, "include_usage"),
        "grammar": _grammar(given(body, "structured_outputs", {})),
    }


def _temperature(raw: Any) -> float:
    least, most = TEMPERATURES
    value = number(raw, "temperature")
    if value != 0 and not least <= value <= most:
        raise invalid(f"temperature: {shown(raw)}; expected 0, or a number from {least:g} to {most:g}")
    return value


def _grammar(raw: Any) -> str:
    regex = raw.get("regex", "") if isinstance(raw, dict) and set(raw) <= {"regex"} else None
    if not isinstance(regex, str) or len(regex) > MAX_GRAMMAR:
        raise invalid(
            f"structured_outputs: {shown(raw)}; expected an object with regex alone, a regular expression of at most "
            f"{MAX_GRAMMAR} characters"
        )
    return encodable(regex, "structured_outputs")


def _shaping(body: Mapping[str, Any]) -> Shaping:
    plain = Shaping()

    def bounded(name: str, least: float, most: float) -> float:
        return number(given(body, name, getattr(plain, name)), name, least, most)

    raw = given(body, "top_p", plain.top_p)
    if not 0 < (top_p := number(raw, "top_p")) <= 1:
        raise invalid(f"top_p: {shown(raw)}; expected a number above 0, at most 1")
    top_k = whole(given(body, "top_k", 0), "top_k", least=-1)
    return Shaping(
        top_p=top_p,
        top_k=min(max(top_k, 0), 2**31 - 1),
        min_p=bounded("min_p", 0, 1),
        presence_penalty=bounded("presence_penalty", -2, 2),
        frequency_penalty=bounded("frequency_penalty", -2, 2),
        repetition_penalty=bounded("repetition_penalty", *REPETITION_PENALTIES),
        logit_bias=_biases(given(body, "logit_bias", {})),
    )


def _tools(body: Mapping[str, Any]) -> Tools:
    listed = given(body, "tools", [])
    if not isinstance(listed, list) or not all(map(_is_tool, listed)):
        raise invalid(f"tools: {shown(listed)}; expected a list of functions, each with a name")
    encodable(json.dumps(listed, ensure_ascii=False), "tools")
    if any(tool["function"].get("strict") not in (None, False) for tool in listed):
        raise RequestError(
            "tools: strict: replies are not constrained to the parameters of a function; leave strict out, or false "
            "(with Inspect: -M strict_tools=false)",
            "unsupported_value",
        )
    names, choice = [tool["function"]["name"] for tool in listed], given(body, "tool_choice", "auto")
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise invalid(f"tools: {shown(twice[0])} is there twice; expected each name once")
    if isinstance(choice, dict):
        function = choice.get("function")
        chosen = function.get("name") if isinstance(function, dict) else None
        if chosen not in names:
            raise invalid(f"tool_choice: {shown(choice)}; expected a function of tools: {shown(names)}")
        return Tools(tuple(listed), "required", str(chosen), parallel=False)
    if choice not in ("none", "auto", "required") or (choice == "required" and not names):
        raise invalid(f"tool_choice: {shown(choice)}; expected none, auto, required or a function of tools")
    parallel = body.get("parallel_tool_calls") is None or _flag(body, "parallel_tool_calls")
    return Tools(tuple(listed) if choice != "none" else (), choice, parallel=parallel)


def _is_tool(raw: Any) -> bool:
    function = raw.get("function") if isinstance(raw, dict) and raw.get("type") == "function" else None
    return isinstance(function, dict) and isinstance(function.get("name"), str) and bool(function["name"])


def _biases(raw: Any) -> dict[int, float]:
    if not isinstance(raw, dict) or len(raw) > MAX_BIASES or not all(key.isascii() and key.isdigit() for key in raw):
        raise invalid(f"logit_bias: {shown(raw)}; expected at most {MAX_BIASES} tokens, each with a number")
    biases = {int(key[:12]): number(value, "logit_bias") for key, value in raw.items()}
    if any(abs(value) > 100 for value in biases.values()):
        raise invalid(f"logit_bias: {shown(raw)}; expected numbers from -100 to 100")
    return biases


def _continuation(body: Mapping[str, Any]) -> str:
    raw = given(body, "continuation", "")
    if not isinstance(raw, str) or ("continuation" in body and not raw):
        raise invalid(f"continuation: {shown(raw)}; expected a text that is not empty")
    if raw and not body.get("logprobs"):
        raise invalid("continuation: its log-probabilities are its answer; expected logprobs to be true")
    drawing = ("max_completion_tokens", "max_tokens", "n", "stop", "stream", "structured_outputs", "tools")
    if raw and (beside := [name for name in drawing if name in body]):
        raise invalid(f"continuation: nothing is drawn; leave out {', '.join(beside)}")
    return encodable(raw, "continuation")


def _most_logprobs(body: Mapping[str, Any], name: str, value: Any) -> int:
    most = whole(value, name, least=0)
    if most > MAX_LOGPROBS:
        raise invalid(f"{name}: {shown(body[name])}; expected at most {MAX_LOGPROBS}")
    return most


def _only(body: Mapping[str, Any], name: str, value: Any) -> None:
    """Refuse a field with another value than the one that changes nothing."""
    if body.get(name) is not None and body[name] != value:
        raise RequestError(f"{name}: {shown(body[name])} is not supported; expected {value!r}", "unsupported_value")


def _flag(body: Mapping[str, Any], name: str) -> bool:
    value = given(body, name, False)
    if not isinstance(value, bool):
        raise invalid(f"{name}: {shown(value)}; expected true or false")
    return value


def _prompts(raw: Any) -> tuple[str | tuple[int, ...], ...]:
    listed = raw if isinstance(raw, list) and raw and not _is_tokens(raw) else [raw]
    if len(listed) > MAX_CHOICES or not all(isinstance(one, str) or _is_tokens(one) for one in listed):
        raise invalid(
            f"prompt: {shown(raw)}; expected a text or a list of tokens, or a list of at most {MAX_CHOICES} of them"
        )
    return tuple(encodable(one, "prompt") if isinstance(one, str) else tuple(one) for one in listed)


def _is_tokens(raw: Any) -> bool:
    return isinstance(raw, list) and bool(raw) and all(type(one) is int and one >= 0 for one in raw)


def _thinking(raw: Any) -> Thinking | None:
    if raw is not None and raw not in get_args(Thinking):
        raise invalid(f"thinking: {shown(raw)}; expected one of {', '.join(get_args(Thinking))}")
    return cast("Thinking | None", raw)


def _variables(body: Mapping[str, Any]) -> dict[str, bool]:
    raw = given(body, "chat_template_kwargs", {})
    known = {name: value for name, value in raw.items() if value is not None} if isinstance(raw, dict) else None
    if known is None or not all(isinstance(value, bool) for value in known.values()):
        raise invalid(f"chat_template_kwargs: {shown(raw)}; expected an object of switches, each true or false")
    if known and body.get("thinking") is not None:
        raise invalid("thinking and chat_template_kwargs: both switch thinking; give one of the two")
    return known


def _stop(raw: Any) -> tuple[str, ...]:
    stops = [raw] if isinstance(raw, str) else raw
    if (
        not isinstance(stops, list)
        or len(stops) > MAX_STOPS
        or not all(isinstance(text, str) and text for text in stops)
    ):
        raise invalid(f"stop: {shown(raw)}; expected a text or a list of at most {MAX_STOPS} texts, none empty")
    return tuple(encodable(text, "stop") for text in stops)


def _steers(raw: Any, n_layers: int) -> tuple[Steer, ...]:
    if not isinstance(raw, list) or len(raw) > MAX_STEERS or not all(isinstance(steer, dict) for steer in raw):
        raise invalid(f"steering: expected a list of at most {MAX_STEERS} steers")
    try:
        steers = tuple(Steer.from_json(steer) for steer in raw)
    except UsageError as error:
        raise invalid(f"steering: {str(error)[:400]}") from error
    for steer in steers:
        number(steer.alpha, "steering: alpha", -MOST_ALPHA, MOST_ALPHA)
        if not 0 <= steer.layer < n_layers:
            raise invalid(f"steering: layer {steer.layer}; the model has layers 0 to {n_layers - 1}")
    return steers
