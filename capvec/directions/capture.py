"""Capturing the residuals of conversations through an engine, with lines of progress."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from capvec.directions.activations import Activations, cut_in_words
from capvec.engines.client import EngineClient
from capvec.engines.protocol import Captured, ChatTemplateInfo, EngineInfo
from capvec.records import Message, Trace

REQUEST_CHARACTERS = 100_000
"""Most characters of one request: a few of the engine's batches, and one line of progress."""


def capture_traces(
    traces: Sequence[Trace], client: EngineClient, say: Callable[[str], None], pooling: str
) -> Activations:
    """Capture the residuals of traces; print the progress and, at the end, what was cut from long traces.

    Raises:
        UsageError: a trace has no token to pool; the message names the trace.
    """
    names = [f"trace {trace.id}" for trace in traces]
    activations = capture_all([trace.messages for trace in traces], client, say, pooling, names=names)
    for line in cut_in_words(names, activations):
        say(line)
    return activations


def capture_all(
    conversations: Sequence[Sequence[Message]],
    client: EngineClient,
    say: Callable[[str], None],
    pooling: str,
    *,
    names: Sequence[str] = (),
) -> Activations:
    """Capture the residuals of conversations, and print the progress.

    Conversations are sent in order of length, longest first, so that the engine's batches hold little padding.

    Args:
        conversations: each not empty.
        client: of the engine.
        say: prints one line of progress.
        pooling: one of `POOLINGS`.
        names: of the conversations, for error messages.

    Returns:
        The residuals in the order of `conversations`.

    Raises:
        UsageError: a conversation has no token to pool.
    """
    done = 0
    answers: list[Captured] = []
    order: list[int] = []
    for request in _requests(conversations):
        last = done + len(request)
        say(f"capturing the residuals of conversations {done + 1} to {last} of {len(conversations)}, longest first")
        asked = [conversations[index] for index in request]
        answers.append(client.capture(asked, pooling, names=[names[index] for index in request] if names else ()))
        order += request
        done = last
    back = np.argsort(order)

    def counts(field: str) -> tuple[int, ...]:
        return tuple(int(count) for count in np.concatenate([getattr(answer, field) for answer in answers])[back])

    return Activations(
        np.concatenate([answer.residuals for answer in answers])[back],
        pooling,
        tokens=counts("tokens"),
        truncated_tokens=counts("truncated"),
        truncated_assistant=counts("truncated_assistant"),
    )


def engine_identity(health: EngineInfo) -> str:
    """Everything about an engine that changes residuals, as a key for the cache."""
    usual, found = ChatTemplateInfo(), health.template
    rendered = "" if (found.system, found.switch) == (usual.system, usual.switch) else f" {found.system} {found.switch}"
    return f"{health.model} {health.revision} {health.dtype} {health.context_length}{rendered}"


def _requests(conversations: Sequence[Sequence[Message]]) -> Iterator[list[int]]:
    """Indices of the conversations of each request, longest first.

    A request has at most `REQUEST_CHARACTERS`, or one conversation.
    """
    sizes = [sum(len(message["content"]) for message in conversation) for conversation in conversations]
    request: list[int] = []
    total = 0
    for index in sorted(range(len(sizes)), key=lambda index: -sizes[index]):
        if request and total + sizes[index] > REQUEST_CHARACTERS:
            yield request
            request, total = [], 0
        request.append(index)
        total += sizes[index]
    if request:
        yield request
