"""Turns a rollout of NeMo-Gym, or a stored exchange with OpenAI's Responses API, into a trace.

A rollout has the request under `responses_create_params`, what the model and its tools said under `response`, and the
`reward` beside them. A stored exchange has `input` and `output` side by side.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from capvec.errors import UsageError
from capvec.records import Trace
from capvec.traces.conversation import acceptable
from capvec.traces.counts import by_protocol
from capvec.traces.document import Document, NotATrace, first_name
from capvec.traces.fields import UNKNOWN, look_up
from capvec.traces.format import Format
from capvec.traces.messages import looks_like_messages, read_messages


def _looks_like(value: Any, _named: Mapping[str, str]) -> bool:
    if not isinstance(value, dict):
        return False
    given, output = value.get("input"), value.get("output")
    talk = [*(given if isinstance(given, list) else []), *(output if isinstance(output, list) else [])]
    exchanged = isinstance(given, str | list) and bool(output) and looks_like_messages(talk)
    return exchanged or isinstance(value.get("responses_create_params"), dict)


def _read(document: Document, named: Mapping[str, str]) -> Iterator[Trace]:
    root = document.value
    stored = "responses_create_params" not in root
    request = root if stored else root["responses_create_params"]
    response = root if stored else document.optional(root.get("response"), "response", dict) or {}
    output = document.optional(response.get("output"), "response.output", list)
    if output is None:
        raise NotATrace("a request without a response")
    _check_whole(document, request, response)
    asked = read_messages(document, _asked(document, request), "responses_create_params.input")
    said = read_messages(document, _whole(document, output), "response.output")
    counts = by_protocol(None, [])
    key, reward = look_up(root, "reward", named)
    yield Trace(
        id=first_name([look_up(root, "id", named)[1]], document.name.removeprefix(f"{document.path.parent}/")),
        task=_task(root, named),
        model=first_name([look_up(response, "model", named)[1], look_up(root, "model", named)[1]], UNKNOWN),
        messages=acceptable([*asked, *said]),
        reward=document.reward(reward, key),
        steps=sum(message["role"] == "assistant" for message in said),
        parse_fail=counts.parse_fail,
        no_cmd=counts.no_cmd,
        uncounted=counts.why,
    )


def _asked(document: Document, request: Mapping[str, Any]) -> list[Any]:
    """The request's instructions, which may be text or items, and its input, which may be text of the user."""
    system = request.get("instructions")
    if not isinstance(system, list):
        text = document.optional(system, "instructions", str)
        system = [{"role": "system", "content": text}] if text else []
    given = request.get("input") or []
    asked = [{"role": "user", "content": given}] if isinstance(given, str) else document.typed(given, "input", list)
    return [*system, *asked]


def _check_whole(document: Document, *exchange: Mapping[str, Any]) -> None:
    """Check that nothing of the conversation is what OpenAI keeps."""
    for key in ("previous_response_id", "conversation"):
        if any(part.get(key) for part in exchange):
            raise UsageError(
                f"{document.name}: `{key}` says that the input continues messages that are stored elsewhere, so the "
                f"file has only a part of the conversation; expected all of it in `input`, and no `{key}`"
            )
    if isinstance(exchange[0].get("prompt"), dict) and not exchange[0].get("instructions"):
        raise UsageError(
            f"{document.name}: `prompt` names a template that is stored elsewhere, so the file lacks its text; "
            f"expected the text in `instructions`"
        )


def _whole(document: Document, output: list[Any]) -> list[Any]:
    """The items of a response. Some environments give a list for each step, which repeats the steps before it."""
    if not any(isinstance(item, list) for item in output):
        return output
    steps = [document.typed(step, "response.output[]", list) for step in output]
    if any(after[: len(before)] != before for before, after in pairwise(steps)):
        raise UsageError(
            f"{document.name}: `response.output` has steps that do not repeat the steps before them; expected one list "
            f"of items, or steps of one growing conversation"
        )
    return steps[-1]


def _task(root: Mapping[str, Any], named: Mapping[str, str]) -> str:
    index = root.get("_ng_task_index")
    request = root.get("responses_create_params")
    beside = (root.get("verifier_metadata"), request.get("metadata") if isinstance(request, dict) else None)
    names = [look_up(source, "task", named)[1] for source in (root, *beside) if isinstance(source, dict)]
    return first_name([*names, None if index is None else f"task {index}"], UNKNOWN)


FORMAT = Format("NeMo-Gym", _looks_like, _read)
