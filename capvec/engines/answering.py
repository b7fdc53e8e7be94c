"""One request of a client: its replies are generated, checked, recorded and put into the form of its endpoint."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from secrets import randbits
from time import time
from typing import Any, Protocol, TypeVar
from uuid import uuid4

from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from capvec.engines.answers import Form, Spoken, proof_of, usage_of
from capvec.engines.chat_requests import MAX_CHOICES, ChatRequest, Wanted
from capvec.engines.chat_template import ChatTemplate
from capvec.engines.checks import RequestError
from capvec.engines.generation import Drawn, ReplyRequest
from capvec.engines.growing_text import GrowingText
from capvec.engines.prompts import Prompt
from capvec.engines.protocol import EngineInfo
from capvec.engines.published import Answered, Published
from capvec.engines.requests import error_response
from capvec.engines.serving import END, EventStream, JsonResponse
from capvec.engines.streams import Speaker, marks_of, streams_words
from capvec.engines.tools import MARKS, calls_of, may_be_bare
from capvec.receipts import check_finite
from capvec.records import Reply
from capvec.thoughts import Said

T = TypeVar("T")
Arrivals = asyncio.Queue[tuple[int, Drawn | Reply | Exception]]
"""What comes of the choices by their places."""


class Replying(Protocol):
    """The part of an engine that answers need."""

    info: EngineInfo
    template: ChatTemplate
    published: Published

    def counted(self) -> AbstractContextManager[None]:
        """Count a request while it waits for the model."""
        ...

    def request(self, asked: Wanted, prompt: Prompt, seed: int) -> ReplyRequest:
        """A reply to a prompt; raises `RequestError` where it does not fit."""
        ...

    async def generate(self, http: HttpRequest, request: ReplyRequest) -> Reply:
        """The reply."""
        ...


class Reader(Protocol):
    """How the texts of one endpoint are read."""

    def whole(self, text: str) -> Spoken:
        """What a reply says."""
        ...

    def speaker(self, growing: GrowingText) -> Speaker:
        """A choice of a stream."""
        ...


class ChatReader:
    """Replies to a chat: thought, words and calls."""

    def __init__(self, template: ChatTemplate, asked: ChatRequest, prompt: Prompt) -> None:
        self._template, self._asked, self._prompt = template, asked, prompt

    def whole(self, text: str) -> Spoken:
        said = self._said(text)
        words, calls = calls_of(said.answer, self._asked.tools)
        return Spoken(words, said.thought, calls)

    def speaker(self, growing: GrowingText) -> Speaker:
        marks = marks_of(self._template, self._asked.stop) + (MARKS if self._asked.tools else ())
        return Speaker(growing, lambda text: self._said(cut(text, self._asked.stop)), marks, self._certain)

    def _said(self, text: str) -> Said:
        begun = self._prompt.begun
        end = self._prompt.tokens if not begun else ()  # a call has begun, and no thought is open
        return self._template.split(begun + text, end)

    def _certain(self, said: Said) -> str:
        """What precedes anything that may be a call; nothing of a beginning that is white space alone."""
        if not streams_words(self._template) or self._prompt.begun or not said.answer.strip():
            return ""
        if self._asked.tools and may_be_bare(said.answer):
            return ""
        return cut(said.answer, MARKS) if self._asked.tools else said.answer


class TextReader:
    """Replies to a text: more of it."""

    def __init__(self, stop: Sequence[str]) -> None:
        self._stop = tuple(stop)

    def whole(self, text: str) -> Spoken:
        return Spoken(text)

    def speaker(self, growing: GrowingText) -> Speaker:
        return Speaker(growing, lambda text: Said("", cut(text, self._stop)), self._stop, lambda said: said.answer)


@dataclass(frozen=True)
class Choice:
    """One reply of an answer."""

    index: int
    request: ReplyRequest
    first: bool
    """Whether it is the first to its prompt."""
    echoed: str | None = None
    """As in its prompt."""


class Answering:
    """One request, and how it is answered."""

    def __init__(self, engine: Replying, http: HttpRequest, asked: Wanted, form: Form, reader: Reader) -> None:
        self._engine, self._http, self._asked, self._form, self._reader = engine, http, asked, form, reader
        self._id, self._created = f"{form.prefix}-{uuid4().hex}", int(time())
        self._seed = randbits(31) if asked.seed is None else asked.seed

    async def answer(self, prompts: Sequence[Prompt]) -> Response:
        """The answer, or the stream of its pieces.

        Raises:
            RequestError: there are too many choices, or a prompt does not fit.
            SteeringFault: the receipts of a reply do not hold.
            ClientDisconnect: the client left.
        """
        choices = self._choices(prompts)
        if self._asked.stream:
            return EventStream(self._events(choices))
        with self._engine.counted():
            found = await together([self._reply(choice) for choice in choices])
        parts = [self._part(choice, reply, drawn) for choice, (reply, drawn) in zip(choices, found, strict=True)]
        replies = [reply for reply, _ in found]
        return JsonResponse(self._about(self._form.whole) | {"choices": parts, "usage": self._usage(choices, replies)})

    def _choices(self, prompts: Sequence[Prompt]) -> list[Choice]:
        if len(prompts) * self._asked.n > MAX_CHOICES:
            raise RequestError(
                f"n: {self._asked.n} replies to {len(prompts)} prompts; expected at most {MAX_CHOICES} replies in all",
                "invalid_value",
            )
        asked, seeds = self._asked, [nth_seed(self._seed, turn) for turn in range(self._asked.n)]
        pairs = [(prompt, self._engine.request(asked, prompt, seed)) for prompt in prompts for seed in seeds]
        return [
            Choice(index, request, index % asked.n == 0, prompt.echoed) for index, (prompt, request) in enumerate(pairs)
        ]

    async def _reply(self, choice: Choice) -> tuple[Reply, list[Drawn]]:
        """A reply, with its tokens where their probabilities are asked for."""
        drawn: list[Drawn] = []
        listener = drawn.append if self._asked.logprobs is not None else None
        return await self._engine.generate(self._http, replace(choice.request, listener=listener)), drawn

    # ------------------------------------------------------------------------------------------------ whole

    def _part(self, choice: Choice, reply: Reply, drawn: Sequence[Drawn]) -> dict[str, Any]:
        spoken = self._checked(choice, reply, drawn)
        tags = self._engine.template.tags if self._engine.template.tags.open in spoken.text else None
        return self._form.choice(choice.index, spoken, _finish(reply, spoken), tags) | proof_of(reply)

    def _checked(self, choice: Choice, reply: Reply, drawn: Sequence[Drawn]) -> Spoken:
        """What a reply says, which was steered as its model's name says."""
        check_finite(reply.receipts, reply.isolation)
        if self._asked.model is not None:
            answered = Answered(self._id, choice.index, self._created, choice.request.seed)
            self._engine.published.check(self._asked.model, reply, answered)
        spoken, told = self._reader.whole(reply.text), len(choice.request.tokens) * choice.request.echo
        within = (*drawn[:told], *self._within(drawn[told:], reply.text))
        return replace(spoken, text=(choice.echoed or "") + spoken.text, drawn=within, unsaid=self._unsaid(choice))

    def _unsaid(self, choice: Choice) -> int:
        """Characters of an echoed prompt's tokens that are not in its text, such as a token that begins every text."""
        if choice.echoed is None:
            return 0
        return len(self._engine.template.decode(choice.request.tokens)) - len(choice.echoed)

    def _within(self, drawn: Sequence[Drawn], text: str) -> Sequence[Drawn]:
        """The tokens of a reply without those behind a stop string."""
        if not self._asked.stop:
            return drawn
        tokens, decode = [one.token for one in drawn], self._engine.template.decode
        count = len(tokens)
        while count and len(decode(tokens[: count - 1])) >= len(text):
            count -= 1
        return drawn[:count]

    def _about(self, kind: str) -> dict[str, Any]:
        model = self._asked.model or self._engine.info.model
        return {"id": self._id, "object": kind, "created": self._created, "model": model}

    def _usage(self, choices: Sequence[Choice], replies: Sequence[Reply]) -> dict[str, Any]:
        return usage_of(replies, [reply for choice, reply in zip(choices, replies, strict=True) if choice.first])

    # ------------------------------------------------------------------------------------------------ in pieces

    async def _events(self, choices: Sequence[Choice]) -> AsyncGenerator[dict[str, Any] | str, None]:
        """The events of a stream. A receipt is known at the end: where it does not hold, an error is the last event."""
        queue: Arrivals = asyncio.Queue()
        work = asyncio.ensure_future(self._generate(choices, queue))
        speakers = [self._reader.speaker(GrowingText(self._engine.template)) for _ in choices]
        replies: dict[int, Reply] = {}
        drawn: list[list[Drawn]] = [[] for _ in choices]
        keep = self._asked.logprobs is not None
        try:
            with self._engine.counted():
                for speaker, choice in zip(speakers, choices, strict=True):
                    if choice.echoed:
                        yield self._piece(speaker, choice, Spoken(choice.echoed), None)
                while len(replies) < len(choices):
                    for place, tokens, reply in await arrived(queue):
                        drawn[place] += tokens if keep else ()
                        speaker, choice = speakers[place], choices[place]
                        if piece := speaker.take(tokens, keep=keep):
                            yield self._piece(speaker, choice, piece, None)
                        if reply is not None:
                            replies[place] = reply
                            yield self._last(speaker, choice, reply, drawn[place])
            if self._asked.usage:
                usage = self._usage(choices, [replies[place] for place in range(len(choices))])
                yield self._about(self._form.piece) | {"choices": [], "usage": usage}
            yield END
        except ClientDisconnect:
            return
        except Exception as error:  # the status is sent already
            yield error_response(error)[0]
        finally:
            work.cancel()

    async def _generate(self, choices: Sequence[Choice], queue: Arrivals) -> None:
        """Put every token and every reply into the queue, or what ended them."""
        loop = asyncio.get_running_loop()

        async def one(place: int, choice: Choice) -> None:
            def listener(drawn: Drawn) -> None:
                loop.call_soon_threadsafe(queue.put_nowait, (place, drawn))

            reply = await self._engine.generate(self._http, replace(choice.request, listener=listener))
            loop.call_soon(queue.put_nowait, (place, reply))  # behind its tokens

        try:
            await together([one(place, choice) for place, choice in enumerate(choices)])
        except Exception as error:  # for the reader of the queue
            queue.put_nowait((0, error))

    def _last(self, speaker: Speaker, choice: Choice, reply: Reply, drawn: Sequence[Drawn]) -> dict[str, Any]:
        """The last piece of a choice, which proves its steers. What is echoed was the first."""
        spoken = self._checked(replace(choice, echoed=None), reply, drawn)
        piece = self._piece(speaker, choice, speaker.finish(spoken), _finish(reply, spoken))
        piece["choices"][0] |= proof_of(reply)
        return piece

    def _piece(self, speaker: Speaker, choice: Choice, spoken: Spoken, finish: str | None) -> dict[str, Any]:
        delta = self._form.delta(choice.index, spoken, finish, first=not speaker.begun)
        speaker.begun = True
        usage = {"usage": None} if self._asked.usage else {}
        return self._about(self._form.piece) | {"choices": [delta]} | usage


async def arrived(queue: Arrivals) -> list[tuple[int, list[Drawn], Reply | None]]:
    """What has come of each choice since the last call: tokens, and the whole reply at their end.

    Raises:
        Exception: what ended them.
    """
    tokens: dict[int, list[Drawn]] = {}
    ended: dict[int, Reply] = {}
    place, came = await queue.get()
    while True:
        if isinstance(came, Exception):
            raise came
        tokens.setdefault(place, [])
        if isinstance(came, Reply):
            ended[place] = came
        else:
            tokens[place].append(came)
        if queue.empty():
            return [(place, listed, ended.get(place)) for place, listed in tokens.items()]
        place, came = queue.get_nowait()


async def together(works: Sequence[Awaitable[T]]) -> list[T]:
    """The results of all; where one fails, the others are given up."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()


def nth_seed(seed: int, turn: int) -> int:
    """The seed of a reply among several to one prompt; the first has the request's own."""
    if turn == 0:
        return seed
    return int.from_bytes(hashlib.sha256(f"{seed}/{turn}".encode()).digest()[:4], "big") >> 1


def cut(text: str, marks: Sequence[str]) -> str:
    """A text up to the first of the marks in it."""
    return text[: min((at for mark in marks if (at := text.find(mark)) >= 0), default=len(text))]


def _finish(reply: Reply, spoken: Spoken) -> str:
    return "tool_calls" if spoken.calls and reply.finish_reason == "stop" else reply.finish_reason
